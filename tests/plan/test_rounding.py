"""What `grow plan` says about rounding is what the fold finds afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig, PhiConfig

from growth import plan_widening
from growth.plan import rounding
from growth.plan.plan import Plan
from growth.plan.rounding import PER_EPS, Exactness, predict, relative_rounding
from growth.plan.tensor_plan import TensorPlan
from growth.weights.fold import Fold
from growth.weights.grow import grow_tensor

LLAMA = LlamaConfig(
    **{
        "hidden_size": 96,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    },
    **{"vocab_size": 64, "tie_word_embeddings": True, "architectures": ["LlamaForCausalLM"]},
)
GPT2 = GPT2Config(
    n_embd=96,
    n_head=6,
    n_layer=1,
    vocab_size=64,
    n_positions=256,
    bos_token_id=1,
    eos_token_id=2,
    architectures=["GPT2LMHeadModel"],
)
SMALL = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 41},
    **{"bos_token_id": 1, "eos_token_id": 2},
}
GROWTHS: dict[str, tuple[Any, dict[str, Any]]] = {
    "twice": (LLAMA, {"width": 2, "symmetry": "none"}),
    "three times": (LLAMA, {"width": 3, "symmetry": "none"}),
    "three times, split": (LLAMA, {"width": 3, "symmetry": "split:1/2"}),
    "twice, noise": (LLAMA, {"width": 2, "noise": 0.1}),
    "half as much again": (LLAMA, {"width": 1.5, "symmetry": "none"}),
    "wider heads": (LLAMA, {"width": 2, "attention": "head-dim", "symmetry": "none"}),
    "wider heads, pairs, orthogonal": (
        LLAMA,
        {"width": 2, "attention": "head-dim", "rope": "pairs", "scaling": "orthogonal", "symmetry": "none"},
    ),
    "orthogonal": (LLAMA, {"width": 4, "scaling": "orthogonal", "symmetry": "none"}),
    "orthogonal, three times, split": (
        LLAMA,
        {"width": 3, "attention": "head-dim", "scaling": "orthogonal", "symmetry": "split:1/2"},
    ),
    "orthogonal, three times": (
        LLAMA,
        {"width": 3, "attention": "head-dim", "scaling": "orthogonal", "symmetry": "none"},
    ),
    "means": (GPT2, {"width": 1.5, "symmetry": "none"}),
    "means, noise": (GPT2, {"width": 1.5, "noise": 0.1}),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def measured(tensor: TensorPlan, held: torch.dtype, result: torch.dtype) -> Fold:
    """The fold of a random tensor of normal weights, grown by this plan."""
    old = 0.2 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    fold = Fold()
    grow_tensor(old.to(held), tensor, result, fold=fold)
    assert fold.ok
    return fold


def agrees(tensor: TensorPlan, held: torch.dtype, result: torch.dtype) -> bool:
    predicted, fold = relative_rounding(tensor, held, result), measured(tensor, held, result)
    if predicted == 0:
        # A product of roots may be off by an ulp of float64, and weights below the smallest normal
        # number by a unit of it.
        return fold.rms < (1e-7 if result is torch.float16 else 1e-12)
    large = len(torch.empty(tensor.shape).flatten()) > 2000
    slack = 1.2 if large else 2.5
    if not large and any(d.averages for d in tensor.dimensions):  # a vector has one mean, which may or may not round
        return fold.rms < predicted * slack
    return predicted / slack < fold.rms < predicted * slack


def plan(name: str) -> Plan:
    config, choices = GROWTHS[name]
    return plan_widening(config, **choices)


@pytest.mark.parametrize("held", DTYPES, ids=str)
@pytest.mark.parametrize("name", GROWTHS)
def test_the_prediction_is_what_the_fold_finds(name: str, held: torch.dtype) -> None:
    for result in DTYPES:
        wrong = [tensor for tensor in plan(name).tensors.values() if not agrees(tensor, held, result)]
        assert not wrong, [(t, relative_rounding(t, held, result), measured(t, held, result)) for t in wrong]


@pytest.mark.parametrize(
    ("what", "name"),
    [("all round", "twice"), ("none rounds", "three times"), ("the whole tensor rounds", "half as much again")],
)
def test_a_wrong_prediction_is_seen(what: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "all round": lambda t: 1.0,
        "none rounds": lambda t: 0.0,
        "the whole tensor rounds": lambda t: float(not t.exact),
    }[what]
    monkeypatch.setattr(rounding, "_rounding_share", wrong)
    assert not all(agrees(tensor, torch.float32, torch.float32) for tensor in plan(name).tensors.values())


def test_a_sum_scaled_by_the_wrong_coefficient_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def coefficients(tensor: TensorPlan) -> tuple[np.ndarray, ...]:
        """``gradient`` where the copies' sum is scaled by ``1 / gradient``."""
        return tuple(
            d.gradient if axis == tensor.exact_sum_axis else d.value for axis, d in enumerate(tensor.dimensions)
        )

    monkeypatch.setattr(TensorPlan, "coefficients", property(coefficients))
    assert not all(
        agrees(tensor, torch.float32, torch.float32)
        for tensor in plan("orthogonal, three times, split").tensors.values()
    )


def test_nothing_rounds_at_powers_of_two() -> None:
    assert predict(plan("twice")).rounded == {} and predict(plan("twice, noise")).rounded == {}
    assert predict(plan("twice")) == Exactness("as stored", dict.fromkeys(plan("twice").tensors, 0.0))


def test_a_coarser_dtype_rounds_every_weight_once() -> None:
    found = predict(plan("twice"), torch.bfloat16)
    assert (
        found.dtype == "bfloat16"
        and set(found.rounding.values()) == {PER_EPS * 2**-7}
        and found.remedies == ("no --dtype",)
    )


@pytest.mark.parametrize("name", [name for name in GROWTHS if name != "twice"])
def test_the_choices_offered_help(name: str) -> None:
    config, choices = GROWTHS[name]
    changes: dict[str, dict[str, Any]] = {
        "--attention heads": {"attention": "heads"},
        "--scaling unit": {"scaling": "unit"},
        "--symmetry split:1/2": {"symmetry": "split:1/2"},
        "--width 2": {"width": 2},
        "--width 4": {"width": 4},
    }
    for choice in predict(plan(name)).remedies:
        assert not predict(
            plan_widening(config, **{**{k: v for k, v in choices.items() if k != "noise"}, **changes[choice]})
        ).rounded


def test_a_width_is_offered_where_it_would_replace_no_named_size() -> None:
    assert "--width" not in str(predict(plan_widening(LLAMA, hidden_size=120, heads=8, kv_heads="keep")).remedies)
    assert "--width" not in str(predict(plan_widening(LLAMA, width=2, intermediate_size=384)).remedies)


@pytest.mark.parametrize(
    "config",
    [PhiConfig(partial_rotary_factor=1.0, **SMALL), GPTNeoXConfig(rotary_pct=1.0, **SMALL)],
    ids=lambda config: config.model_type,
)
def test_sizes_of_zero_are_no_obstacle(config: Any) -> None:
    """Where the whole head turns, nothing is left of it that does not."""
    assert (
        predict(plan_widening(config, width=1.5)).rounded
        and predict(plan_widening(config, width=2), torch.bfloat16).rounded
    )


def test_they_are_those_one_would_name() -> None:
    assert predict(plan("three times")).remedies == ("--symmetry split:1/2", "--width 4")
    assert predict(plan("wider heads")).remedies == ("--attention heads",)
    assert "--width 2" in predict(plan("half as much again")).remedies
