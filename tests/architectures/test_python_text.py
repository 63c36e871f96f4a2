"""A declaration printed as Python makes an equal one when it is run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from torch import nn

from growth import architectures
from growth.architectures import (
    ALIBI_HEADS,
    FFN,
    FIXED_EPSILON,
    NORMED,
    QUERY,
    RESIDUAL,
    Alibi,
    Architecture,
    Axis,
    Copied,
    Fixed,
    Gain,
    InSection,
    Interleaved,
    Keeps,
    LayerNorm,
    Linear,
    Minus,
    Over,
    Picks,
    Plus,
    Power,
    Product,
    Reads,
    Refusal,
    RMSNorm,
    Scale,
    Scores,
    Size,
    Space,
    Times,
    TwinFields,
    Variant,
    Writes,
    as_python,
    attention_scale,
    convolution,
    linear,
    norm,
    standard_sizes,
    tower_constant,
)
from growth.architectures.code_layout import WIDTH
from growth.architectures.python_text import LEFT_OUT, UNPRINTED
from growth.errors import UnsupportedModelError

HEADS, STATE, WIDE = Space("heads", "num_heads"), Space("state", "state_size"), Space("ffn", "moe_size")

BY_HEAD = Interleaved((Product(HEADS, QUERY), Product(HEADS, STATE)))


class Net:
    """Stands for a module that cannot be imported from where the text is run."""


def declared(**changes: Any) -> Architecture:
    """A declaration of data alone, with every kind of axis, role and rule."""
    everything: dict[str, Any] = {
        "model_type": "every-thing 2",
        "modules": {
            "": {"scale": (), "start": (Writes(RESIDUAL),)},
            "blocks.*": {"decay": (Writes(HEADS),)},
            "blocks.*.in_proj": {"weight": (Writes(HEADS * (STATE + QUERY) + FFN), Reads(NORMED))},
            "blocks.*.norm": norm(RESIDUAL, NORMED, epsilon=1e-6, offset=1.0),
            "blocks.*.plain": {"weight": (Gain(RESIDUAL, NORMED),)},
            "blocks.*.conv": convolution(None, FFN),
            "blocks.*.image": convolution(FFN, FFN, kernel=2),
            "blocks.*.out": linear(HEADS * STATE * Fixed(2) + HEADS * (STATE * QUERY), RESIDUAL),
            "blocks.*.mixed": {"weight": (Picks(WIDE), Scale(RESIDUAL, NORMED)), "bias": (Keeps(),)},
            "blocks.*.fused": {
                "weight": (Reads(Interleaved((Product(HEADS, QUERY), Product(HEADS, STATE)))), Keeps())
            },
            'odd "name"': {"weight": (Keeps(), Writes(WIDE))},
        },
        "laws": {
            RESIDUAL: LayerNorm(elementwise=True),
            NORMED: RMSNorm(shares_epsilon_with=RESIDUAL),
            FFN: Copied(),
            WIDE: Copied("a gate"),
            HEADS: Linear(),
            QUERY: Scores("query", "interleaved", scale="inner.scale"),
            STATE: Linear(layout=HEADS * QUERY),
        },
        "sizes": {
            "hidden_size": Size("dim", small=18),
            "intermediate_size": Size(follows=Times(3, "hidden_size")),
            "moe_size": Size("moe", "never", follows=Times("moe.expand", "hidden_size", "num_heads")),
            "num_heads": Size("heads", "heads", small=3, old_names=("n_head",)),
            "head_dim": Size(follows=Over("hidden_size", "num_heads", ("features", "heads"))),
            "state_size": Size(follows=Plus("head_dim", Times(2, "num_heads"), Minus("hidden_size", "head_dim"))),
            "text.size": Size("text.size", follows=InSection("text", Times(1, "hidden_size"))),
        },
        "constants": {
            "inner.scale": Power({"head_dim": -0.5, "hidden_size": Fraction(1, 3)}, 2.0),
            "other": tower_constant("decoder.", attention_scale),
        },
        "outputs": {"hidden_states": RESIDUAL},
        "epsilon": float("inf"),
        "prefixes": ("model",),
        "vouched": {"any": None, "some": (1.5, True, "x", None), "set": frozenset({3, 1}), "few": range(4), "no": ()},
        "variants": {"B": Variant(modules={"head": linear(RESIDUAL)}, outputs={"logits": FFN}), "C": Variant()},
        "twin": TwinFields({"n_layer": 2, "kinds": ["a", "b"]}),
        "refuses": (FIXED_EPSILON,),
        "arithmetic": {},
    }
    return Architecture(**{**everything, **changes})


def run(text: str, **names: Any) -> Architecture:
    found: dict[str, Any] = dict(names)
    exec(compile(text, "printed", "exec"), found)
    (made,) = [value for value in found.values() if isinstance(value, Architecture)]
    return made


def differing(one: Architecture, other: Architecture) -> set[str]:
    names = {field.name for field in dataclasses.fields(one)} - {*UNPRINTED}
    return {name for name in names if getattr(one, name) != getattr(other, name)}


def test_a_declaration_of_data_is_the_same_again() -> None:
    text = as_python(declared())
    assert LEFT_OUT not in text and max(map(len, text.splitlines())) <= WIDTH
    made = run(text)
    assert differing(made, declared()) == set()
    assert list(made.laws) == list(declared().laws)  # a law looks at those before it
    assert as_python(made) == text
    for said in (
        'HEADS_NUM_HEADS = Space("heads", "num_heads")',  # HEADS is another axis of the vocabulary
        'FFN_MOE_SIZE = Space("ffn", "moe_size")',
        '"norm": norm(RESIDUAL, NORMED, epsilon=1e-06, offset=1.0)',
        '"plain": {"weight": (Gain(RESIDUAL, NORMED),)}',
        "Reads(NORMED)",
        'Times(3, "hidden_size")',
        "Fraction(1, 3)",
        "EVERY_THING_2 = Architecture(",
    ):
        assert said in text, said


def test_the_check_sees_another_declaration() -> None:
    text = as_python(declared())
    for old, new, where in (
        ("norm(RESIDUAL, NORMED, epsilon=1e-06", "norm(RESIDUAL, NORMED, epsilon=1e-05", "modules"),
        ("Times(3, ", "Times(4, ", "sizes"),
        ("-0.5", "0.5", "constants"),
        ("elementwise=True", "elementwise=False", "laws"),
        ('"n_layer": 2', '"n_layer": 3', "twin"),
    ):
        assert text.count(old) == 1 and differing(run(text.replace(old, new)), declared()) == {where}


def test_spaces_of_alibi_are_used_where_that_law_is() -> None:
    modules, sizes = {"q": linear(RESIDUAL, ALIBI_HEADS)}, {name: Size(name) for name in ("hidden_size", "n")}
    sizes["num_attention_heads"] = Size("n_head")
    plain = declared(modules=modules, laws={RESIDUAL: Linear(), ALIBI_HEADS: Linear()}, sizes=sizes, variants={})
    plain = dataclasses.replace(plain, outputs={})
    assert "ALIBI" not in as_python(plain) and differing(run(as_python(plain)), plain) == set()
    alibi = dataclasses.replace(plain, laws={RESIDUAL: Linear(), ALIBI_HEADS: Alibi("scores")})
    assert "linear(RESIDUAL, ALIBI_HEADS)" in as_python(alibi) and differing(run(as_python(alibi)), alibi) == set()


def test_what_cannot_be_printed_is_left_out_and_said() -> None:
    refusal = Refusal("orthogonal", "why not", lambda asked: True)
    sizes = {**declared().sizes, "more": Size(follows=lambda config, sizes: 1)}
    changes = {"refuses": (FIXED_EPSILON, refusal), "sizes": sizes, "twin": lambda config, layers: {}}
    text = as_python(declared(**changes))
    assert re.findall(rf"# {LEFT_OUT}: (\S+)", text) == ['"more",', "twin,", "orthogonal"]
    assert "Refusal" not in text  # is not imported either
    assert differing(run(text), declared()) == {"twin"}


def test_classes_that_cannot_be_imported_are_named() -> None:
    class Local(nn.Module):
        pass

    text = as_python(declared(module_class=Local, config_class=Net))
    assert "# Local is yours: import it" in text and f"from {__name__} import Net" not in text.split("import Net")[0]
    assert run(text.replace(f"from {__name__} import Net\n", ""), Local=Local, Net=Net).module_class is Local


def test_standard_sizes_are_called_that() -> None:
    for call in (
        'standard_sizes("n_embd", "n_inner", "n_head", intermediate_ratio=4)',
        'standard_sizes("d_model", "d_ff", "num_heads", head_dim="d_kv")',
        'standard_sizes(heads="n")',
        '{**standard_sizes("d_model", "d_ff", "num_heads"), "more": Size("more")}',
    ):
        sizes: Mapping[str, Size] = eval(call, vars(architectures))
        printed = as_python(declared(modules={}, laws={}, sizes=sizes, outputs={}, variants={}))
        assert call in printed, printed
        assert run(printed).sizes == sizes


def test_families() -> None:
    """Each is the same again, but for what a comment says is left out; of most nothing is."""
    whole = []
    for name in architectures.known():
        family = architectures.find(name)
        text = as_python(family)
        left = re.findall(rf"# {LEFT_OUT}: (?:\"([\w.]+)\"|(twin|remarks|for_config),|\S)", text)
        try:
            made = run(text)
        except UnsupportedModelError as error:  # of a size or constant that is left out
            assert any(size and size in str(error) for size, _ in left), (name, error)
            continue
        other = differing(made, family)
        assert other <= {"refuses", *(field for _, field in left)} and bool(other) == bool(left), (name, other)
        whole += [] if left else [name]
    assert len(whole) >= 42, whole


def test_an_axis_keeps_its_brackets() -> None:
    a, b, c = (Space(name, name) for name in "abc")
    for axis in (a * b * c, a * (b * c), a + b + c, a + (b + c), a * (b + c), (a + b) * c, a * b + c, a + b * c):
        made = run(
            as_python(
                Architecture(
                    "x",
                    modules={"m": {"w": (Writes(axis),)}},
                    laws=dict.fromkeys((a, b, c), Linear()),
                    sizes={name: Size(name) for name in "abc"},
                )
            )
        )
        (role,) = made.modules["m"]["w"]
        assert isinstance(role, Writes) and isinstance(role.axis, Axis) and role.axis == axis


@pytest.mark.parametrize("field", [None, "text", True])
def test_a_size_that_follows_from_a_field_needs_a_number_there(field: Any) -> None:
    config = type("C", (), {"expand": field})()
    with pytest.raises(UnsupportedModelError, match=r"'expand' is .* a size follows from it"):
        Times("expand", "hidden_size")(config, {"hidden_size": 3})
    assert standard_sizes() == standard_sizes() != standard_sizes(intermediate_ratio=2)
