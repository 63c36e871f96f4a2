"""Models whose sizes are asked for in many ways, and what must hold of every answer: each reason is
true, each refusal is one line that names the next step."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
from transformers import (
    AlbertConfig,
    BertConfig,
    BloomConfig,
    CLIPConfig,
    GPT2Config,
    PreTrainedConfig,
    Qwen2Config,
    T5Config,
)

from growth import plan_widening
from growth.errors import GrowthError
from growth.hf.configs import parse
from growth.plan.keep import is_kept
from growth.plan.plan import Plan

FEW: dict[str, Any] = {"num_hidden_layers": 2, "vocab_size": 97}
SMOLLM: dict[str, Any] = {
    **{
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        **FEW,
    },
    **{"num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 64, "tie_word_embeddings": True},
}
QWEN = Qwen2Config(hidden_size=896, intermediate_size=4864, num_attention_heads=14, num_key_value_heads=2, **FEW)
GPT2, BERT = GPT2Config(n_layer=2, vocab_size=97), BertConfig(**FEW, architectures=["BertForMaskedLM"])
T5 = T5Config(num_layers=2, vocab_size=97)
ALBERT = AlbertConfig(
    hidden_size=768, intermediate_size=3072, num_attention_heads=12, **FEW, architectures=["AlbertForMaskedLM"]
)
CLIP = CLIPConfig(text_config=FEW, vision_config={"num_hidden_layers": 2})
BLOOM = BloomConfig(hidden_size=64, n_head=8, n_layer=2, vocab_size=97)
Source = PreTrainedConfig | dict[str, Any]

SMALL: dict[str, Any] = {
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "hidden_size": 960,
    "intermediate_size": 2560,
}
"""SmolLM2-360M, into which SmolLM2-135M grows."""


def grown(source: Source, **choices: Any) -> dict[str, int]:
    """The sizes that change, every reason checked."""
    plan = plan_widening(source, **choices)
    assert not untrue(plan), untrue(plan)
    return {name: size for name, size in plan.new_sizes.items() if size != plan.old_sizes[name]}


NEAREST = re.compile(
    r"nearest (?P<kind>.* )?to x(?P<ratio>[\d.]+) \((?P<wanted>[\d.]+)\)"
    r"(, at least (?P<least>\d+)|(?P<fits> that fits with the other sizes))?"
)


def distance(value: float, wanted: float) -> float:
    return abs(math.log(value / wanted))


def is_kind(value: int, kind: str, new: Mapping[str, int]) -> bool:
    """Whether a number is what the reason of a size calls it; anything is, where it says nothing."""
    for part in kind.strip().split(" and ") if kind else ():
        if part == "whole number":
            continue
        relation, _, other = part.partition(" of ")
        named, _, amount = other.rpartition(" ")
        assert not named or new[named] == int(amount), kind
        if (value % int(amount) if relation == "multiple" else int(amount) % value) != 0:
            return False
    return True


def untrue(plan: Plan) -> list[str]:
    """What is said of a size and is not so."""
    config, old, new, options = parse(plan.new_config), plan.old_sizes, plan.new_sizes, plan.options
    fields = {size.field: name for name, size in plan.architecture.sizes.items() if size.field}
    named = {fields.get(name, name) for name in options.sizes}
    named |= {name for name in new if is_kept(options.keep, name)}

    def holds(name: str, said: str) -> bool:
        size = plan.architecture.sizes[name]
        group = name[: name.rfind(".") + 1]
        hidden = f"{group}hidden_size" if f"{group}hidden_size" in new else "hidden_size"
        if match := re.fullmatch(r"(\d+ copies of each|the same heads, more key/value heads)(?:, then (.*))?", said):
            first, last = plan.extended_sizes[name], new[name]
            copies = first / old[name] if match[1][0].isdigit() else plan.extended_sizes[f"{group}queries_per_kv"]
            right = match[1].startswith(f"{copies:g} ") or copies < old[f"{group}queries_per_kv"]
            return right and (last == first if match[2] is None else last > first and holds(name, match[2]))
        if match := re.fullmatch(r"x([\d.]+)", said):
            return (
                name not in named and new[name] > old[name] and abs(new[name] / old[name] / float(match[1]) - 1) < 1e-3
            )
        if match := NEAREST.fullmatch(said):
            wanted, nearest = float(match["wanted"]), new[name]
            right = [value for value in range(1, 4 * nearest) if is_kind(value, match["kind"] or "", new)]
            if match["least"]:
                assert int(match["least"]) == old[name], said
                assert distance(min(right, key=lambda v: distance(v, wanted)), wanted) < distance(nearest, wanted), (
                    said
                )
                right = [value for value in right if value >= old[name]]
            closest = min(right, key=lambda value: distance(value, wanted))
            return (
                abs(old[name] * float(match["ratio"]) / wanted - 1) < 1e-3
                and nearest != wanted
                and (
                    bool(match["fits"])
                    or (nearest in right and distance(closest, wanted) == distance(nearest, wanted))
                )
            )
        facts = {
            "named": name in named and new[name] > old[name],
            "kept, named": name in named and new[name] == old[name],
            "as the other model": bool(options.like) and name not in named and new[name] > old[name],
            "kept, as the other model": bool(options.like) and name not in named and new[name] == old[name],
            "kept": name not in named and new[name] == old[name],
            f"kept (attention {options.attention})": new[name] == old[name]
            and size.grows in {"heads", "head-dim"} - {options.attention},
            "kept: head_dim grows": new[name] == old[name] and new[f"{group}head_dim"] > old[f"{group}head_dim"],
            "hidden_size / num_attention_heads": new[name] * new[f"{group}num_attention_heads"] == new[hidden],
            "nearest that fits": name not in named and new[name] != old[name],
            "follows from the others": size.follows is not None and size.follows(config, new) == new[name],
        }
        return facts.get(said, False)

    return [
        f"{name} {old[name]} -> {new[name]}: {plan.why.get(name)}"
        for name in old
        if not holds(name, plan.why.get(name, ""))
    ]


def refused(source: Source, **choices: Any) -> str:
    with pytest.raises(GrowthError) as refusal:
        plan_widening(source, **choices)
    message = str(refusal.value)
    assert "\n" not in message and re.search(r"must be|\. (Use|Name|Choose|Check|Add|Say|The nearest) ", message), (
        message
    )
    return message
