"""The bookkeeping of a grown optimizer: groups, names, flags, states; and that the old one is not
touched. That training continues exactly is shown in test_trajectory.py."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adafactor, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import StepLR
from transformers import PreTrainedModel

import growth
from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.training import stock as as_stock
from growth.training.factors import factors_of
from growth.training.optimizer import ORIGIN
from support.optimizers import READS, by_name, group_of, llama, no_twin, step

__all__ = ["no_twin"]  # a fixture for every test here

NORMS_AND_BIASES = ("norm", "bias")


def snapshot(model: nn.Module, optimizer: Optimizer) -> Any:
    return copy.deepcopy(
        (model.state_dict(), optimizer.state_dict(), {name: p.grad for name, p in model.named_parameters()})
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_the_ones_given_stay_as_they_were_and_share_nothing_with_the_new() -> None:
    model = llama()
    optimizer = AdamW(model.parameters(), lr=torch.tensor(1e-3), betas=(0.9, 0.99))
    scheduler = StepLR(optimizer, 5)
    step(model, optimizer, 2)
    before, schedule = snapshot(model, optimizer), copy.deepcopy(scheduler.state_dict())
    grown = growth.widen(model, width=2, optimizer=optimizer, scheduler=scheduler)
    assert grown.optimizer is not None and grown.scheduler is not None
    step(grown.model, grown.optimizer, 2)
    for _ in range(9):
        grown.scheduler.step()
    assert same(before, snapshot(model, optimizer)) and scheduler.state_dict() == schedule
    assert not same(before[1]["state"], grown.optimizer.state_dict()["state"])


def test_groups_are_split_by_what_their_parameters_want() -> None:
    """The usual two groups: norms and biases without weight decay."""
    model = llama(tied=False)
    named = dict(model.named_parameters())
    plain = {name: value for name, value in named.items() if any(part in name for part in NORMS_AND_BIASES)}
    optimizer = AdamW(
        [
            {
                "params": [(name, value) for name, value in named.items() if name not in plain],
                "weight_decay": 0.2,
                "name": "matrices",
            },
            {"params": list(plain.items()), "weight_decay": 0.0, "lr": 3e-3, "name": "plain"},
        ],
        lr=1e-3,
        eps=1e-6,
    )
    step(model, optimizer)
    grown = growth.widen(model, width=4, optimizer=optimizer)
    wide, new = grown.model, grown.optimizer
    assert new is not None and type(new) is AdamW and grown.uneven == ()
    names = {id(value): name for name, value in wide.named_parameters()}
    for group in new.param_groups:
        assert group["param_names"] == [names[id(value)] for value in group["params"]]
    held = [name for group in new.param_groups for name in group["param_names"]]
    assert sorted(held) == sorted(named) and len(new.param_groups) > 3
    reads, writes, norm = (
        group_of(wide, new, name)
        for name in (READS, "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight")
    )
    assert (reads["lr"], reads["weight_decay"], reads["name"]) == (1e-3 / 4, 0.2 * 4, "matrices")
    assert (writes["lr"], writes["weight_decay"], writes["name"]) == (1e-3, 0.2, "matrices")
    assert (norm["lr"], norm["weight_decay"], norm["name"]) == (3e-3, 0.0, "plain")
    for name in named:
        assert group_of(wide, new, name)["eps"] == pytest.approx(
            1e-6 * factors_of(grown.plan.tensors[name]).gradient, rel=1e-12
        )
    assert {group_of(wide, new, name)["eps"] for name in named} >= {1e-6 / 4}


def test_kept_settings_are_the_callers_own_and_groups_stay_whole() -> None:
    model = llama()
    optimizer = AdamW([{"params": [value]} for value in model.parameters()], lr=1e-3, weight_decay=0.2)
    step(model, optimizer)
    grown = growth.widen(model, width=1.5, optimizer=optimizer, hyper="keep")
    assert grown.optimizer is not None and grown.uneven == ()
    for old, new in zip(optimizer.param_groups, grown.optimizer.param_groups, strict=True):
        assert {**old, "params": None} == {**new, "params": None}


KINDS: dict[str, tuple[type[Optimizer], dict[str, Any], set[str]]] = {
    "amsgrad": (AdamW, {"amsgrad": True, "foreach": True}, {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
    "fused": (Adam, {"fused": True, "maximize": True}, {"step", "exp_avg", "exp_avg_sq"}),
    "for loop": (AdamW, {"foreach": False, "betas": (0.8, 0.95)}, {"step", "exp_avg", "exp_avg_sq"}),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True, "foreach": True}, {"momentum_buffer"}),
    "dampening": (SGD, {"momentum": 0.9, "dampening": 0.5, "maximize": True, "fused": True}, {"momentum_buffer"}),
    "centered": (
        RMSprop,
        {"centered": True, "momentum": 0.3, "alpha": 0.9},
        {"step", "square_avg", "grad_avg", "momentum_buffer"},
    ),
    "accumulating": (Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.2}, {"step", "sum"}),
    "factored": (Adafactor, {"d": 2.0, "beta2_decay": -0.7}, {"step", "row_var", "col_var", "variance"}),
}


@pytest.mark.parametrize("name", KINDS)
def test_flags_and_counters_are_kept_and_states_fit(name: str) -> None:
    kind, flags, states = KINDS[name]
    model = llama()
    optimizer = kind(model.parameters(), lr=1e-3, **flags)  # type: ignore[call-arg]
    step(model, optimizer, 3)
    grown = growth.widen(model, width=2, optimizer=optimizer)
    new = grown.optimizer
    assert type(new) is kind
    assert new.defaults == optimizer.defaults
    own = {"lr", "initial_lr", "weight_decay", "eps", "params", ORIGIN}
    for group in new.param_groups:
        assert {key: value for key, value in group.items() if key not in own} == {
            key: value for key, value in optimizer.param_groups[0].items() if key not in own
        }
    before, after = by_name(model, optimizer), by_name(grown.model, new)
    assert before.keys() == after.keys() and {key for state in after.values() for key in state} == states
    for parameter, state in after.items():
        for key, value in state.items():
            if value.ndim == 0:
                assert float(value) == float(before[parameter][key]) == 3
            elif key not in ("row_var", "col_var"):
                assert value.shape == grown.model.get_parameter(parameter).shape and value.dtype == torch.float32
    step(grown.model, new, 2)
    new.load_state_dict(new.state_dict())


def test_states_grow_by_the_gradient_coefficients() -> None:
    model = llama()
    optimizer = AdamW(model.parameters())
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer)
    assert grown.optimizer is not None
    before, after = by_name(model, optimizer)[READS], by_name(grown.model, grown.optimizer)[READS]
    assert torch.equal(after["exp_avg"], before["exp_avg"].repeat(2, 2) / 2)  # written by 1 / 2, read by 1
    assert torch.equal(after["exp_avg_sq"], before["exp_avg_sq"].repeat(2, 2) / 4)
    noisy = growth.widen(model, width=2, optimizer=optimizer, noise=0.3)
    assert noisy.optimizer is not None
    assert torch.equal(by_name(noisy.model, noisy.optimizer)[READS]["exp_avg"], after["exp_avg"]), (
        "noise does not enter the state"
    )


def test_fresh_moments_keep_the_old_block_alone() -> None:
    model = llama()
    optimizer = AdamW(model.parameters())
    step(model, optimizer, 2)
    kept, fresh = (
        growth.widen(model, width=2, optimizer=optimizer, moments=moments) for moments in ("preserve", "fresh")
    )
    assert kept.optimizer is not None and fresh.optimizer is not None
    whole, block = by_name(kept.model, kept.optimizer), by_name(fresh.model, fresh.optimizer)
    for name, parameter in model.named_parameters():
        corner = tuple(slice(size) for size in parameter.shape)
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(block[name][key][corner], whole[name][key][corner]), name
            rest = block[name][key].clone()
            rest[corner] = 0
            assert not rest.any() and (
                block[name][key].shape == parameter.shape or whole[name][key].count_nonzero() > rest.numel() // 2
            )
        assert block[name]["step"] == 2


def test_the_old_block_is_the_first_active_copy() -> None:
    """Rotary slots: old pair i is at slot 2 i, and the new slots between do not belong to it."""
    model = llama()
    optimizer = AdamW(model.parameters())
    step(model, optimizer)
    grown = growth.widen(model, width=2, attention="head-dim", optimizer=optimizer, moments="fresh")
    assert grown.optimizer is not None
    name = "model.layers.0.self_attn.k_proj.weight"
    written = grown.plan.tensors[name].dimensions[0]
    chosen = torch.from_numpy(written.first_copies)
    assert int(chosen.sum()) == written.old and not (torch.from_numpy(written.gradient == 0) & chosen).any()
    moments = by_name(grown.model, grown.optimizer)[name]["exp_avg"]
    assert not moments[~chosen].any() and moments[chosen][:, : model.config.hidden_size].count_nonzero() > 0  # type: ignore[operator]


def test_moments_can_be_reset_and_an_optimizer_before_its_first_step_has_none() -> None:
    model = llama()
    optimizer = AdamW(model.parameters())
    assert not growth.widen(model, width=2, optimizer=optimizer).optimizer.state  # type: ignore[union-attr]
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer, moments="reset")
    assert grown.optimizer is not None and not grown.optimizer.state
    assert group_of(grown.model, grown.optimizer, READS)["lr"] == 1e-3 / 2
    step(grown.model, grown.optimizer)


def test_frozen_left_out_and_tied_parameters() -> None:
    model = llama(tied=True)
    model.model.embed_tokens.weight.requires_grad_(False)
    left_out = {name for name, _ in model.named_parameters() if "layers.0" in name}
    optimizer = SGD([value for name, value in model.named_parameters() if name not in left_out], lr=0.1, momentum=0.9)
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer)
    wide, new = grown.model, grown.optimizer
    assert (
        new is not None
        and wide.lm_head.weight is wide.model.embed_tokens.weight
        and not wide.lm_head.weight.requires_grad
    )
    held = [parameter for group in new.param_groups for parameter in group["params"]]
    assert {name for name, value in wide.named_parameters() if not any(value is other for other in held)} == left_out
    assert len(held) == len({id(value) for value in held}) == len(list(wide.parameters())) - len(left_out)
    assert wide.lm_head.weight not in new.state and len(new.state) == len(held) - 1
    before = wide.lm_head.weight.clone()
    step(wide, new)
    assert torch.equal(wide.lm_head.weight, before)


class Wrapper:
    """Not an optimizer."""


class Own(Adam):
    """An optimizer class without a growth rule."""


def test_what_cannot_grow_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_stock, "prepare", lambda *_: pytest.fail("it began"))
    model = llama()
    stock = AdamW(model.parameters())

    def refused(error: type[Exception], match: str, **choices: Any) -> None:
        with pytest.raises(error, match=match):
            growth.widen(model, width=2, **choices)

    refused(UnsupportedModelError, r"^Wrapper is not a torch.optim.Optimizer. Unwrap it", optimizer=Wrapper())
    undeclared = (
        r"^\S*\.{} is not supported: its optimizer state has no growth rule. Use one of torch.optim's Adam, .* "
        r"or moments='reset' with hyper='keep'\.$"
    )
    refused(UnsupportedModelError, undeclared.format("LBFGS"), optimizer=LBFGS(model.parameters()))
    refused(UnsupportedModelError, undeclared.format("Own"), optimizer=Own(model.parameters()))
    refused(UnsupportedModelError, undeclared.format("Own"), optimizer=Own(model.parameters()), moments="reset")
    refused(
        UnsupportedModelError,
        r"^28 parameters of the optimizer are not the model's, .* \[32, 24\]",
        optimizer=AdamW(llama().parameters()),
    )
    refused(
        IllegalGrowthError,
        r"^moments must be preserve or fresh or reset, not 'old'\.$",
        optimizer=stock,
        moments="old",
    )
    refused(IllegalGrowthError, r"^hyper must be preserve or keep, not 'scale'\.$", optimizer=stock, hyper="scale")
    refused(IllegalGrowthError, r"^a scheduler drives an optimizer", scheduler=StepLR(stock, 3))
    refused(
        UnsupportedModelError,
        r"drives another optimizer",
        optimizer=stock,
        scheduler=StepLR(Adam(model.parameters()), 3),
    )
    refused(
        UnsupportedModelError,
        r"none can start fresh. Use moments='preserve'",
        optimizer=Adafactor(model.parameters()),
        moments="fresh",
    )
    step(model, stock)
    stock.state[model.lm_head.weight]["hidden"] = torch.ones(3)
    refused(
        UnsupportedModelError,
        r"^the state 'hidden' of AdamW has no growth rule. Use moments='reset'\.$",
        optimizer=stock,
    )


def test_an_undeclared_optimizer_can_be_made_anew() -> None:
    model = llama()
    own = Own(model.parameters(), lr=1e-2)
    step(model, own)
    grown = growth.widen(model, optimizer=own, moments="reset", hyper="keep")
    assert type(grown.optimizer) is Own and not grown.optimizer.state and grown.optimizer.param_groups[0]["lr"] == 1e-2
    step(grown.model, grown.optimizer)


def test_empty_groups_and_rates_that_schedulers_leave() -> None:
    model: PreTrainedModel = llama()
    optimizer = SGD(
        [{"params": []}, {"params": list(model.parameters()), "initial_lr": 0.4, "max_lr": 0.8, "min_lr": 0.2}], lr=0.1
    )
    grown = growth.widen(model, width=2, optimizer=optimizer)
    captured = growth.widen(model, width=2, optimizer=Adam(model.parameters(), capturable=True)).optimizer
    assert captured is not None and all(group["capturable"] for group in captured.param_groups)
    assert grown.optimizer is not None and grown.optimizer.param_groups[0]["params"] == []
    for group in grown.optimizer.param_groups[1:]:
        assert (
            group["initial_lr"] == 4 * group["lr"]
            and group["max_lr"] == 8 * group["lr"]
            and group["min_lr"] == 2 * group["lr"]
        )
    assert {group["lr"] for group in grown.optimizer.param_groups[1:]} != {0.1}
