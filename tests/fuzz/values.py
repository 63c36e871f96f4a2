"""Odd values for JSON fields and keywords, and small changes anywhere in a JSON tree."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

INTEGERS = (0, 1, -1, 2, 3, 5, 7, 8, 12, 64, 1000, 10**4, 10**7, 10**12, 2**31, 2**63, 2**64, 10**30, -(10**9))
FLOATS = (0.0, -0.0, 0.5, 1.0, 1.5, -1.0, 1e-30, 1e-300, 1e30, 1e300, math.nan, math.inf, -math.inf, 0.1)
TEXTS = (
    "",
    " ",
    "a" * 100_000,
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\u202egpj.exe",
    "a\x00b",
    "two\nlines",
    "\ud800",
    "\u2028",
    "üñï🦙",
    "../../outside",
    "/dev/zero",
    "%s%n{0}{x}",
    "null",
    "NaN",
    "8",
    "gelu",
    "relu",
    "silu",
    "gelu_new",
    "tanh",
    "llama3",
    "yarn",
    "linear",
    "dynamic",
    "longrope",
    "default",
    "full_attention",
    "sliding_attention",
    "float16",
    "int8",
    "single_label_classification",
    "absolute",
    "relative_key",
)
REAL_FIELDS: Mapping[str, Sequence[Any]] = {
    **{"rope_scaling": [None, {"type": "linear", "factor": 2.0}, {"rope_type": "yarn", "factor": 4.0}, {"factor": 2}]},
    "rope_parameters": [None, {"rope_type": "default", "rope_theta": 500.0}, {"full_attention": {"rope_theta": 9.0}}],
    **{"rope_theta": [500.0, 0, "10000", -1.0], "partial_rotary_factor": [0.5, 1.0, 0, 2.0], "rotary_pct": [0.5, 1.0]},
    **{"head_dim": [4, 5, 8, None, 0], "sliding_window": [None, 3, 0, -1], "use_sliding_window": [True]},
    "layer_types": [["full_attention"] * 2, ["sliding_attention", "full_attention"], ["other"] * 2, []],
    **{"auto_map": [{"AutoModel": "code.Model"}, {}], "quantization_config": [{"quant_method": "gptq"}, {}, None, 4]},
    **{"torch_dtype": ["float16", "bfloat16", "int8", None, "x"], "dtype": ["float32", "float8_e4m3fn", 3]},
    **{"attn_implementation": ["flash_attention_2"], "_attn_implementation": ["sdpa"], "use_flash_attn": [True]},
    **{"tie_word_embeddings": [True, False, None], "tie_encoder_decoder": [True], "is_decoder": [True]},
    **{"pruned_heads": [{"0": [1]}, {}], "add_cross_attention": [True], "is_encoder_decoder": [True, False]},
    **{"return_dict": [False], "use_return_dict": [False], "output_hidden_states": [True], "torchscript": [True]},
    **{"id2label": [{"0": "a"}, [], {"x": 1}], "num_labels": [1, 3, 0], "problem_type": ["regression", "nonsense"]},
    **{"text_config": [{}, None, {"hidden_size": 8}, 3], "vision_config": [{}, {"model_type": "llama"}]},
    **{"_name_or_path": ["org/model", "\x1b[31mred", "/home/someone/model"], "transformers_version": ["4.1", "9", 3]},
    **{
        "hidden_dropout": [0.5],
        "initializer_range": [9.0, "x"],
        "layer_norm_eps": [1e-5, 0, -1.0, {"__float__": "Infinity"}],
    },
    **{
        "num_experts_per_tok": [1, 0, 99],
        "num_attention_heads": [1, 0, 5],
        "architectures": [[], None, "x", [3], ["A"] * 9],
    },
}
"""Fields that real tools write, with values that mean something."""


def junk(rng: Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = rng.choice("iiifffttttbnldk") if depth < 3 else rng.choice("ift")
    if kind == "i":
        return rng.choice(INTEGERS)
    if kind == "f":
        return rng.choice(FLOATS)
    if kind == "t":
        return rng.choice(TEXTS)
    if kind == "b":
        return rng.random() < 0.5
    if kind == "l":
        return [junk(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 2, 3, 50)))]
    if kind == "d":
        return {rng.choice(TEXTS): junk(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 3)))}
    if kind == "k":
        return {"__float__": rng.choice(("Infinity", "-Infinity", "NaN", "x", 3))}
    return None


def near(rng: Random, value: Any) -> Any:
    """A value of the same kind, or of a neighbouring one."""
    if isinstance(value, bool):
        return rng.choice((not value, int(value), None, str(value)))
    if isinstance(value, int):
        return rng.choice(
            (value + 1, value - 1, 2 * value, 3 * value, -value, float(value), value + 0.5, str(value), [value])
        )
    if isinstance(value, float):
        return rng.choice(
            (2 * value, value / 3, -value, int(value) if math.isfinite(value) else 0, str(value), [value])
        )
    if isinstance(value, str):
        return rng.choice((value.upper(), value[:-1], value + "x", value + "\x1b[31m", [value], value[::-1]))
    if isinstance(value, list):
        longer = [*value, *value, junk(rng)]
        return rng.choice((value[:-1], longer, value[::-1], [value], [], [junk(rng) for _ in value]))
    if isinstance(value, dict):
        return rng.choice(({}, {**value, rng.choice(TEXTS): junk(rng)}, [value], {key: junk(rng) for key in value}))
    return junk(rng)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value in a JSON tree."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(entries):
        yield tree, key
        yield from places(value)


def change(rng: Random, tree: dict[str, Any], pool: Sequence[tuple[str, Any]] = ()) -> str:
    """Change one thing in a tree, in place; what was done, in words.

    Args:
        pool: fields of other trees that may be added.
    """
    found = list(places(tree))
    what = rng.choice(("near", "near", "near", "junk", "junk", "gone", "extra", "pool", "real", "real", "swap"))
    if what in ("near", "junk", "gone", "swap") and not found:
        return "nothing"
    if what in ("extra", "pool", "real"):
        if what == "real" or not pool:
            name = rng.choice(list(REAL_FIELDS))
            value = copy.deepcopy(rng.choice(REAL_FIELDS[name]))
        elif what == "pool":
            name, value = rng.choice(pool)
            value = copy.deepcopy(value)
        else:
            name, value = rng.choice(TEXTS), junk(rng)
        tree[name] = value
        return f"{name[:60]!r} := {str(value)[:60]!r}"
    holder, key = rng.choice(found)
    if what == "gone":
        del holder[key]
    elif what == "swap":
        other, place = rng.choice(found)
        holder[key] = copy.deepcopy(other[place])
    else:
        holder[key] = near(rng, holder[key]) if what == "near" else junk(rng)
    return f"{what} at {str(key)[:60]!r}"


def damaged_text(rng: Random, tree: Any) -> bytes:
    """A JSON file whose text is at fault rather than its values."""
    text = json.dumps(tree)
    return rng.choice(
        (
            lambda: text[: rng.randrange(len(text))].encode(),
            lambda: b"\xef\xbb\xbf" + text.encode(),
            lambda: text.encode("utf-16"),
            lambda: text.encode() + rng.choice((b"\x00", b"\xff", b"}", b"\n\n", b" x")),
            lambda: b"[" * 100_000,
            lambda: b'{"a":' * 100_000,
            lambda: b'{"model_type": ' + b"9" * 5000 + b"}",
            lambda: b"",
            lambda: (text[:-1] + ", " + text[1:]).encode(),
            lambda: json.dumps([tree]).encode(),
            lambda: json.dumps(junk(rng)).encode(),
            lambda: bytes(rng.randrange(256) for _ in range(200)),
        )
    )()


@dataclass
class Foreign:
    """A value of a class that nobody expects."""

    name: str = "\x1b[31m"


def argument(rng: Random) -> Any:
    """Any Python value that a caller could pass."""
    return rng.choice(
        (
            lambda: junk(rng),
            lambda: Fraction(rng.choice((3, 5, 1)), rng.choice((2, 3))),
            lambda: rng.choice((b"x", {1, 2}, range(3), object, Foreign(), Path("x"), complex(1, 2), ..., print)),
            lambda: rng.choice(
                ("2", "1.5", "3/2", "1/0", "keep", "KEEP", "noise:1", "split:1/2", "split:1/8:varied", "noise:nan")
            ),
        )
    )()
