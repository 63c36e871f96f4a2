"""More key/value heads for the same queries, in every family that groups its queries."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD, AdamW
from transformers import AutoConfig, LlamaForCausalLM

import growth
from growth import architectures
from growth.algebra.axes import Fixed, Interleaved, Product
from growth.architectures import ATTENDED, KEY, KV_HEADS, QUERIES_PER_KV, QUERY, VALUE
from growth.architectures.choosable import choosable_sizes
from growth.errors import ProofError
from growth.extension import kv_heads
from growth.extension.coordinates import Coordinates, coordinates, positions
from growth.hf.configs import parse
from growth.plan.options import chosen
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import Parts, build_exact, loud, miniature
from growth.proof.outputs import forward
from growth.proof.twin import prove_twin, twin_report
from support.families import generate
from support.family_cases import cases, load

CHOICES: dict[str, Callable[[int], dict[str, Any]]] = {
    "a head each": lambda heads: {"kv_heads": heads},
    "still in groups": lambda heads: {"kv_heads": heads // 2},
    "twice as wide": lambda heads: {"kv_heads": 2 * heads, "width": 2},
    "1.5 times as wide": lambda heads: {"kv_heads": heads * 3 // 4, "width": 1.5, "noise": 0.4},
    "more heads": lambda heads: {"kv_heads": heads, "heads": 2 * heads},
    "layers and a head of its own": lambda heads: {"kv_heads": heads, "layers": 4, "insert": "end", "untie": True},
}
IGNORES = "gpt_bigcode"
"""Its class reads no number of key/value heads: there is one for all, or one for each."""

TIED = "olmo"
"""A tied head is refused here, whatever grows."""


@cache
def grouped() -> dict[str, tuple[dict[str, Any], int]]:
    """Family -> a small config in which six queries share a key and value, and the number of heads."""
    found: dict[str, tuple[dict[str, Any], int]] = {}
    for model_type, model_class, branch in cases():
        if model_type in (*found, IGNORES) or not model_class.endswith("ForCausalLM"):
            continue
        config = AutoConfig.for_model(model_type, **branch)
        architecture = architectures.find(model_type).at(config)
        if "num_key_value_heads" not in choosable_sizes(architecture.sizes, config):
            continue
        heads = architecture.read_sizes(config)["num_attention_heads"]
        grouped = {
            architecture.sizes["num_key_value_heads"].field: heads // 4,
            "tie_word_embeddings": model_type != TIED,
        }
        raw = AutoConfig.for_model(model_type, **{**branch, **grouped}).to_dict()
        small = dict(miniature({**raw, "architectures": [model_class]}, architecture, Parts(queries=2)))
        sizes = architecture.read_sizes(parse(small))
        assert sizes["queries_per_kv"] == 6
        found[model_type] = small, sizes["num_attention_heads"]
    return found


def test_the_families_that_group_their_queries() -> None:
    expected = {
        *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "glm", "glm4"),
        *("olmo", "olmo2", "olmo3", "granite", "cohere", "cohere2", "ernie4_5", "smollm3", "stablelm", "starcoder2"),
        *("nemotron", "falcon", "mixtral", "granitemoe", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss"),
    }
    assert grouped().keys() == expected


def check(model_type: str, choice: str) -> None:
    raw, heads = grouped()[model_type]
    asked = CHOICES[choice](heads)
    if not raw["tie_word_embeddings"]:
        asked.pop("untie", None)
    plan = growth.plan_widening(raw, **asked)
    assert plan.new_sizes["num_key_value_heads"] == asked["kv_heads"]
    assert plan.extension is not None and any(part.take for part in plan.extension.parts.values())
    report = prove_twin(plan)
    assert report.ok and report.scale > 1e-3


@pytest.mark.parametrize("number", range(29))
def test_every_family(number: int) -> None:
    check(sorted(grouped())[number], [*CHOICES][number % len(CHOICES)])


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("number", range(29))
def test_every_family_by_every_choice(number: int, choice: str) -> None:
    check(sorted(grouped())[number], choice)


WRONG: dict[str, Callable[[Coordinates, Coordinates], Coordinates]] = {
    "copies in another order": lambda right, new: {
        **right,
        KV_HEADS: np.where(new[KV_HEADS] < 0, -1, new[KV_HEADS] % 2),
    },
    "queries in another order": lambda right, new: (
        {**right, QUERIES_PER_KV: new[QUERIES_PER_KV][::-1].copy()} if QUERIES_PER_KV in new else right
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_other_copies_fail_in_the_twin(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = kv_heads._translated

    def mutant(entries: Coordinates, *rest: Any) -> Coordinates:
        return WRONG[wrong](right(entries, *rest), entries)

    monkeypatch.setattr(kv_heads, "_translated", mutant)
    with pytest.raises((ProofError, KeyError)):
        prove_twin(growth.plan_widening(grouped()["llama"][0], kv_heads=4))


def test_fused_and_interleaved_layouts() -> None:
    """The rows of a fused projection, of 2 heads of keys and values of width 1 that become 4."""
    old = {"num_key_value_heads": 2, "queries_per_kv": 2, "head_dim": 1}
    new = {"num_key_value_heads": 4, "queries_per_kv": 1, "head_dim": 1}
    head_by_head = KV_HEADS * (QUERIES_PER_KV * QUERY + KEY + VALUE)  # q0 q1 k v | q2 q3 k v
    assert kv_heads._taken(head_by_head, old, new, "").tolist() == [0, 2, 3, 1, 2, 3, 4, 6, 7, 5, 6, 7]  # type: ignore[union-attr]
    parts = Interleaved((Product(KV_HEADS, KEY), Product(KV_HEADS, VALUE * Fixed(2))))
    assert kv_heads._taken(parts, old, new, "").tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]  # type: ignore[union-attr]
    assert kv_heads._taken(ATTENDED, old, new, "") is None
    with pytest.raises(KeyError, match="does not have"):
        positions({KV_HEADS: np.array([2])}, coordinates(KV_HEADS, old))


def llama(**changes: Any) -> LlamaForCausalLM:
    raw, _ = grouped()["llama"]
    model = build_exact({**raw, "tie_word_embeddings": False, **changes})
    loud(model, 1)
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, None
    return model


def test_on_disk(tmp_path: Path) -> None:
    with exact_arithmetic():
        model = llama()
        model.save_pretrained(tmp_path / "small")
        growth.widen_checkpoint(tmp_path / "small", tmp_path / "four", kv_heads=4)
        growth.widen_checkpoint(tmp_path / "four", tmp_path / "all", kv_heads=12)
        after = load(tmp_path / "all", "LlamaForCausalLM")
        inputs = random_inputs(model, 41)
        before, now = forward(model, inputs), forward(after, inputs)
        assert after.config.num_key_value_heads == 12 and after.config.num_attention_heads == 12
        assert max(float((value - now[name]).abs().max()) for name, value in before.items()) <= 1e-12
        assert generate(model) == generate(after)
        after.save_pretrained(tmp_path / "again")
        kept = load(tmp_path / "again", "LlamaForCausalLM").state_dict()
        assert all(torch.equal(value, kept[name]) for name, value in after.state_dict().items())


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_gradients_of_copies_add_up_to_that_of_their_head(kind: type[torch.optim.Optimizer]) -> None:
    with exact_arithmetic():
        model = llama()
        optimizer = kind(model.parameters(), lr=1e-3)  # type: ignore[call-arg]
        ids = torch.randint(3, 41, (3, 9), generator=torch.Generator().manual_seed(0))
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        grown = growth.widen(model, kv_heads=4, optimizer=optimizer)
        for each in (model, grown.model):
            each.zero_grad()
            each(input_ids=ids, labels=ids).loss.backward()
        keys = "model.layers.0.self_attn.k_proj.weight"
        old, new = (
            each.get_parameter(keys).grad.unflatten(0, (heads, -1)) for each, heads in ((model, 2), (grown.model, 4))
        )
        assert torch.allclose(new[0] + new[1], old[0], atol=1e-14) and not torch.allclose(new[0], new[1], atol=1e-3)
        assert all(bool(value.grad.isfinite().all()) for value in grown.model.parameters())
        assert grown.uneven == tuple(
            f"model.layers.{layer}.self_attn.{name}_proj.weight" for layer in (0, 1) for name in "kv"
        )
        assert grown.optimizer is not None
        group = next(
            group
            for group in grown.optimizer.param_groups
            if any(one is grown.model.get_parameter(keys) for one in group["params"])
        )
        if kind is SGD:
            assert group["lr"] == 2e-3
            return
        assert group["lr"] == 1e-3 and group["eps"] == 5e-9
        before, after = (
            made.state[each.get_parameter(keys)] for made, each in ((optimizer, model), (grown.optimizer, grown.model))
        )
        for name, share in (("exp_avg", 1 / 2), ("exp_avg_sq", 1 / 4)):
            want = before[name].unflatten(0, (2, -1)).repeat_interleave(2, 0).flatten(0, 1) * share
            assert torch.equal(after[name], want)


def test_the_plan_says_what_happens() -> None:
    raw, _ = grouped()["llama"]
    plan = growth.plan_widening(raw, kv_heads=8, heads=24)
    assert plan.why["num_key_value_heads"] == "2 copies of each, then named"
    assert any("KV cache becomes 2 times as large" in note for note in plan.notes)
    assert growth.plan_widening(raw, kv_heads=4, heads=24).extension is None
    report = twin_report(plan.old, chosen({"kv_heads": 8, "heads": 24}))
    assert report.sizes["queries_per_kv"] == 6  # so that several still share one
