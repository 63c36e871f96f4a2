"""Where training cannot continue exactly, and says so; which state of a module is kept; what is
refused before anything grows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, AdamW, Optimizer, RAdam
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import GPT2Config, GPT2LMHeadModel

import growth
from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.plan.tensor_plan import TensorPlan
from growth.proof.float64 import exact_arithmetic
from growth.training.stages import staged
from support.families import exact
from support.family_cases import MAIN
from support.optimizers import by_name, llama, step
from support.trajectories import MakeOptimizer, cosine, parting, train, trained

exactly = pytest.fixture(exact)
CLASS = {model_type: (model_class, branch) for model_type, model_class, branch in MAIN}


def radam(**settings: Any) -> MakeOptimizer:
    return lambda parameters: RAdam(parameters, lr=3e-3, weight_decay=0.1, eps=1e-4, **settings)


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize(
    ("settings", "steps", "moments", "uneven"),
    [
        ({}, 2, "preserve", True),
        ({}, 8, "preserve", False),
        ({"betas": (0.9, 0.5)}, 8, "preserve", True),
        ({}, 8, "reset", True),
    ],
    ids=str,
)
def test_radam_changes_its_degree(settings: dict[str, Any], steps: int, moments: Any, uneven: bool) -> None:
    """Its first steps, without the second moment, are of degree 1 in the gradient, the later ones
    of degree 0."""
    model, old, schedule = trained("llama", *CLASS["llama"], tied=False, optimizer=radam(**settings), steps=steps)
    grown = growth.widen(model, width=3, symmetry="none", optimizer=old, scheduler=schedule, moments=moments)
    assert bool(grown.uneven) == uneven and not grown.born
    if moments == "preserve":
        distance = parting((model, old, schedule), (grown.model, grown.optimizer, grown.scheduler), 15)
        assert (distance > 1e-5) == uneven and (uneven or distance < 1e-9)


def grown_weight(weight: torch.Tensor, tensor: TensorPlan) -> torch.Tensor:
    """A weight grown by the plan's value coefficients, without the means that some coordinates
    carry."""
    for axis, d in enumerate(tensor.dimensions):
        value = torch.from_numpy(d.value).reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        weight = weight.index_select(axis, torch.from_numpy(d.source)) * value
    return weight


def parted(model_type: str, choice: dict[str, Any], tied: bool) -> tuple[set[str], growth.Grown[Any]]:
    """The parameters that, one step after growth, differ from the grown small model's after the
    same step. Means are not compared."""
    model, old, schedule = trained(model_type, *CLASS[model_type], tied=tied, steps=5)
    grown = growth.widen(model, optimizer=old, scheduler=schedule, symmetry="none", **choice)
    wide = dict(grown.model.named_parameters())
    start = {
        name: wide[name].detach() - grown_weight(p.detach(), grown.plan.tensors[name])
        for name, p in model.named_parameters()
    }
    train(model, old, None, 1)
    train(grown.model, grown.optimizer, None, 1)  # type: ignore[arg-type]
    found = set()
    for name, p in model.named_parameters():
        moved = wide[name].detach() - grown_weight(p.detach(), grown.plan.tensors[name]) - start[name]
        if float(moved.abs().max()) > 1e-9 * float(p.detach().abs().max()):
            found.add(name)
    return found, grown


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize(
    ("model_type", "choice", "tied"),
    [
        ("llama", {"width": 2, "attention": "head-dim"}, False),
        ("llama", {"width": 1.5}, False),
        ("gpt2", {"width": 1.5}, True),
        ("gpt2", {"width": 3, "attention": "head-dim"}, True),
        ("bloom", {"width": 2}, True),
        ("gpt2", {"width": 3}, True),
    ],
    ids=str,
)
def test_every_parameter_that_departs_is_listed(model_type: str, choice: dict[str, Any], tied: bool) -> None:
    found, grown = parted(model_type, choice, tied)
    assert found <= {*grown.uneven, *grown.born}
    assert bool(found) == (choice != {"width": 3})


@pytest.mark.usefixtures("exactly")
def test_a_setting_of_numpy_is_a_number() -> None:
    make: MakeOptimizer = lambda parameters: AdamW(parameters, lr=np.float32(3e-3), eps=np.float32(1e-4))  # noqa: E731
    model, old, schedule = trained("llama", *CLASS["llama"], optimizer=make, scheduler=cosine, steps=5)
    grown = growth.widen(model, width=2, symmetry="none", optimizer=old, scheduler=schedule)
    assert parting((model, old, schedule), (grown.model, grown.optimizer, grown.scheduler), 10) < 1e-9


def test_fresh_states_start_as_all_states_once_did() -> None:
    model = llama()
    optimizer = Adagrad(model.parameters(), initial_accumulator_value=0.1)
    begun = growth.widen(model, width=2, optimizer=optimizer)
    step(model, optimizer)
    grown = growth.widen(model, width=2, optimizer=optimizer, moments="fresh")
    assert begun.optimizer is not None and grown.optimizer is not None
    first, fresh = (by_name(each.model, each.optimizer) for each in (begun, grown))
    for name, parameter in model.named_parameters():
        old = tuple(slice(size) for size in parameter.shape)
        new = torch.ones_like(fresh[name]["sum"], dtype=torch.bool)
        new[old] = False
        assert torch.allclose(fresh[name]["sum"][new], first[name]["sum"][new], rtol=1e-6, atol=0)
        assert not parameter.grad.any() or not torch.equal(fresh[name]["sum"][old], first[name]["sum"][old])  # type: ignore[union-attr]


@pytest.mark.usefixtures("exactly")
def test_adagrad_starts_anew_where_the_small_one_would() -> None:
    make: MakeOptimizer = lambda parameters: Adagrad(parameters, lr=1e-2, initial_accumulator_value=0.1)  # noqa: E731
    model, old, schedule = trained("llama", *CLASS["llama"], optimizer=make, scheduler=cosine, steps=5)
    grown = growth.widen(model, width=2, symmetry="none", optimizer=old, scheduler=schedule, moments="reset")
    for state in old.state.values():
        state["sum"].fill_(0.1)
        state["step"].zero_()
    assert parting((model, old, schedule), (grown.model, grown.optimizer, grown.scheduler), 10) < 1e-9
    born = growth.widen(model, width=2, optimizer=old, attention="head-dim")
    assert born.optimizer is not None and born.born
    assert all(float(state["sum"].min()) > 0 for state in born.optimizer.state.values())


def test_the_state_of_every_module_is_kept() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=24, n_head=4, n_layer=2, vocab_size=40, n_positions=16))
    model.train()
    model.transformer.drop.eval()
    model.transformer.h[1].mlp.dropout.p = 0.25
    model.transformer.h[0].attn.attn_dropout.p = 0.0
    model.loss = nn.CrossEntropyLoss()  # type: ignore[assignment]  # no part of the class, and without weights
    model.activation_checkpointing_enable({"use_reentrant": True})  # type: ignore[operator]
    wide = growth.widen(model, width=2).model
    del model.loss
    for path, module in model.named_modules():
        same: Any = wide.get_submodule(path)
        assert same.training == module.training
        assert not isinstance(module, nn.Dropout) or same.p == module.p
        assert getattr(same, "gradient_checkpointing", None) == getattr(module, "gradient_checkpointing", None)
    assert not wide.transformer.drop.training and wide.training
    assert wide.transformer.h[0]._gradient_checkpointing_func.keywords == {"use_reentrant": True}


class Needy(SGD):
    """An optimizer that cannot be made without more than its defaults."""

    def __init__(self, params: Any, model: nn.Module) -> None:
        super().__init__(params, lr=0.1)


def refused(match: str, model: Any, error: type[Exception] = UnsupportedModelError, **choices: Any) -> None:
    with pytest.raises(error, match=match):
        growth.widen(model, width=2, **choices)


def test_what_is_refused_with_a_reason() -> None:
    model = llama(tied=False)
    tied = llama(tied=False)
    tied.lm_head.weight = tied.model.embed_tokens.weight
    refused(
        r"is tied to 'model.embed_tokens.weight' in this model, but not by its config. Give it a separate weight",
        tied,
    )
    anew: Any = {"optimizer": Needy(model.parameters(), model), "moments": "reset", "hyper": "keep"}
    refused(r"^cannot make another Needy: .*'model'. Leave it out and make a new one", model, **anew)
    sparse = SGD(model.parameters(), momentum=0.9)
    sparse.state[model.lm_head.weight]["momentum_buffer"] = torch.zeros(32, 24).to_sparse()
    refused(r"^the state 'momentum_buffer' of SGD is sparse. Use moments='reset'", model, optimizer=sparse)
    with torch.inference_mode():
        refused(r"^tensors made in inference mode can never be trained", model, IllegalGrowthError)


def test_stages_go_on_where_they_were_cut_short() -> None:
    model = llama()
    optimizer: Optimizer = SGD(model.parameters(), lr=0.1)
    numbers = [
        result
        for _, _, _, result in staged(
            model, optimizer, lambda *at: at[2], {1: {"width": 2}, 4: {"width": 3}}, 6, start=3
        )
    ]
    assert numbers == [3, 4, 5]
    last, *_ = [each for each, *_ in staged(model, optimizer, print, {1: {"width": 2}, 4: {"width": 3}}, 5, start=4)]
    assert last.config.hidden_size == 72  # type: ignore[union-attr]


def test_stages_are_checked_at_once() -> None:
    model = llama()
    optimizer: Optimizer = AdamW(model.parameters())
    with pytest.raises(IllegalGrowthError, match=r"^ReduceLROnPlateau steps by a metric, which staged"):
        staged(model, optimizer, print, {}, 2, scheduler=ReduceLROnPlateau(optimizer))
    with pytest.raises(TypeError, match="unexpected keyword argument 'widht'"):
        staged(model, optimizer, print, {1: {"widht": 2}}, 2)  # type: ignore[typeddict-unknown-key]


def test_an_optimizer_shares_no_tensor_with_the_old_one() -> None:
    with exact_arithmetic():
        model = llama(dtype=torch.float64)
        optimizer = AdamW(model.named_parameters(), lr=torch.tensor(1e-2))
        grown = growth.widen(model, width=2, optimizer=optimizer)
    assert grown.optimizer is not None
    assert (
        grown.optimizer.defaults["lr"] is not optimizer.defaults["lr"]
        and grown.optimizer.defaults["lr"] == optimizer.defaults["lr"]
    )
