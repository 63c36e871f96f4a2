"""``--hyper preserve`` on the checkpoints of the real `transformers.Trainer`: settings per tensor, in
groups that Trainer is given."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate", reason="transformers.Trainer needs it")

from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedModel

import growth
from growth.checkpoint import trainer_groups
from growth.errors import CheckpointError, IllegalGrowthError
from growth.proof.float64 import exact_arithmetic
from growth.training import parameter_groups
from growth.training.optimizer import ORIGIN
from support.trainer_runs import DATA, MODELS, checkpoint, run


def loss_of(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """In the dtype of the logits, float64; that of transformers is in float32."""
    return cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


EXACT: dict[str, Any] = {
    "save": 4,
    "loss": loss_of,
    "max_grad_norm": 0.0,  # whose threshold would belong to one width
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 6,
}


def loss(model: PreTrainedModel) -> float:
    rows = torch.stack([one["input_ids"] for one in DATA[:16]])
    with torch.no_grad(), exact_arithmetic():
        return float(loss_of(model.eval()(input_ids=rows), rows))


def trained_on(grown: Path, folder: Path, steps: int) -> PreTrainedModel:
    """The model of a grown checkpoint, resumed by Trainer with the groups it was saved with."""
    with exact_arithmetic():
        model = AutoModelForCausalLM.from_pretrained(grown, dtype=torch.float64)
        done = run(model, folder, grown, steps=steps, groups=parameter_groups(model, grown), **EXACT)
    assert done.trainer.state.global_step == steps
    return model


@pytest.fixture(scope="module", params=["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    """A folder of checkpoints after 4, 8 and 12 steps in float64, and the loss after 8 and 12."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("small")
    with exact_arithmetic():
        model = MODELS[request.param]().double()
        run(model, folder, steps=12, **EXACT)
    after = AutoModelForCausalLM.from_pretrained(folder / "checkpoint-8", dtype=torch.float64)
    return folder, loss(after), loss(model)


def grow(source: Path, target: Path, **choices: Any) -> Path:
    asked = {"width": 2, "symmetry": "none", "optimizer": True, "hyper": "preserve", **choices}
    growth.widen_checkpoint(source, target, **asked)
    return target


def test_the_small_model_s_trajectory_goes_on_through_two_growths(
    small: tuple[Path, float, float], tmp_path: Path
) -> None:
    folder, after_8, after_12 = small
    once = grow(folder / "checkpoint-4", tmp_path / "wide" / "checkpoint-4")
    model = trained_on(once, tmp_path / "wide", 8)
    assert loss(model) == pytest.approx(after_8, abs=1e-10)
    twice = grow(tmp_path / "wide" / "checkpoint-8", tmp_path / "wider" / "checkpoint-8", width=3)
    model = trained_on(twice, tmp_path / "wider", 12)
    assert loss(model) == pytest.approx(after_12, abs=1e-10)


@pytest.mark.parametrize("wrong", ["settings kept", "rates of the schedule unscaled"])
def test_wrong_settings_leave_it(
    small: tuple[Path, float, float], wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, after_8, _ = small
    if wrong == "settings kept":
        grown = grow(folder / "checkpoint-4", tmp_path / "checkpoint-4", hyper="keep")
        assert "2 times faster" in (grown / "growth.json").read_text()
        with exact_arithmetic():
            model = AutoModelForCausalLM.from_pretrained(grown, dtype=torch.float64)
            run(model, tmp_path, grown, steps=8, **EXACT)
    else:
        monkeypatch.setattr(trainer_groups, "OTHERS", (*trainer_groups.RATES, *trainer_groups.OTHERS))
        monkeypatch.setattr(trainer_groups, "RATES", ())
        model = trained_on(grow(folder / "checkpoint-4", tmp_path / "checkpoint-4"), tmp_path, 8)
    assert abs(loss(model) - after_8) > 1e-4


@pytest.mark.parametrize("rate", [True, False])
def test_a_schedule_with_a_least_rate_reads_the_rate_that_is_given(rate: bool, tmp_path: Path) -> None:
    """It divides by the learning rate that the optimizer was made with; so without it training goes elsewhere."""
    least: dict[str, Any] = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 3e-4}}
    settings: dict[str, Any] = {**EXACT, **least, "warmup_steps": 1}
    with exact_arithmetic():
        torch.manual_seed(0)
        model = MODELS["gpt2"]().double()
        run(model, tmp_path / "small", steps=8, **settings)
        grown = grow(tmp_path / "small" / "checkpoint-4", tmp_path / "wide" / "checkpoint-4")
        wide = AutoModelForCausalLM.from_pretrained(grown, dtype=torch.float64)
        run(wide, tmp_path / "wide", grown, steps=8, groups=parameter_groups(wide, grown), rate=rate, **settings)
    assert (abs(loss(wide) - loss(model)) <= 1e-10) is rate


def test_a_checkpoint_with_split_groups_grows_with_its_settings_kept(
    small: tuple[Path, float, float], tmp_path: Path
) -> None:
    folder, *_ = small
    grow(folder / "checkpoint-4", tmp_path / "wide" / "checkpoint-4")
    trained_on(tmp_path / "wide" / "checkpoint-4", tmp_path / "wide", 8)
    for name, choices in (("wider", {}), ("deeper", {"layers": 3}), ("anew", {"moments": "reset"})):
        target = grow(tmp_path / "wide" / "checkpoint-8", tmp_path / name / "checkpoint-8", hyper="keep", **choices)
        trained_on(target, tmp_path / name, 9)


@pytest.mark.parametrize("kind", [*MODELS])
def test_the_groups_are_those_of_growth_in_memory(kind: str, tmp_path: Path) -> None:
    source, model, optimizer = checkpoint(tmp_path, kind)
    target = grow(source, tmp_path / "wide", width=3, heads="keep", symmetry="noise:1", moments="reset")
    grown = growth.widen(model, optimizer=optimizer, width=3, heads="keep", hyper="preserve")
    assert grown.optimizer is not None
    wide = AutoModelForCausalLM.from_pretrained(target)
    groups = parameter_groups(wide, target)
    names = {id(parameter): name for name, parameter in wide.named_parameters()}
    assert [[names[id(one)] for one in group["params"]] for group in groups] == [
        list(group[ORIGIN]["shapes"]) for group in grown.optimizer.param_groups
    ]
    for read, held in zip(groups, grown.optimizer.param_groups, strict=True):
        assert {key: value for key, value in read.items() if key != "params"} == {
            key: value for key, value in held.items() if key not in ("params", "param_names")
        }
    assert len({group["lr"] for group in groups}) > 1


@pytest.mark.parametrize(
    ("kind", "choices"),
    [
        ("llama", {"width": 2}),
        ("llama", {"width": 1.5, "heads": "keep"}),
        ("gpt2", {"layers": 3}),
        ("gpt2", {"untie": True}),
    ],
    ids=str,
)
def test_what_does_not_continue_exactly_is_said(kind: str, choices: dict[str, Any], tmp_path: Path) -> None:
    source, model, optimizer = checkpoint(tmp_path, kind)
    asked = {"symmetry": "none", "hyper": "preserve", **choices}
    result = growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True, **asked)
    grown = growth.widen(model, optimizer=optimizer, **asked)
    assert result.training is not None
    told = [sorted(result.training[which]) for which in ("uneven", "born")]
    assert told == [sorted(grown.uneven), sorted(grown.born)]
    departing = {*grown.uneven, *grown.born}
    assert bool(departing) is (choices != {"width": 2})
    note = f"does not continue exactly in {len(departing)} parameters"
    assert any(note in one for one in result.plan.notes) is bool(departing)


def test_adagrad_starts_as_growth_in_memory_starts_it(tmp_path: Path) -> None:
    """Its first sums, scaled as the squares of the gradients."""
    settings = {"lr": 1e-2, "initial_accumulator_value": 0.25}
    source, model, held = checkpoint(tmp_path, "llama", made=(torch.optim.Adagrad, settings))
    target = grow(source, tmp_path / "wide", heads="keep", symmetry="noise:1", moments="reset")
    grown = growth.widen(model, optimizer=held, width=2, heads="keep", hyper="preserve", moments="reset")
    assert grown.optimizer is not None
    states = [torch.load(target / "optimizer.pt", weights_only=True), grown.optimizer.state_dict()]
    saved, sums = (
        [state["state"][number]["sum"] for group in state["param_groups"] for number in group["params"]]
        for state in states
    )
    assert all(torch.equal(one, wanted) for one, wanted in zip(saved, sums, strict=True))
    assert {float(value.max()) for value in sums} > {0.25}  # scaled, not all as an optimizer starts


def test_a_parameter_that_would_not_be_trained(tmp_path: Path) -> None:
    source, *_ = checkpoint(tmp_path, "llama")
    target = grow(source, tmp_path / "wide")
    model = AutoModelForCausalLM.from_pretrained(target)
    assert parameter_groups(model, target)
    model.register_parameter("extra", torch.nn.Parameter(torch.zeros(3)))
    with pytest.raises(IllegalGrowthError, match=r"'extra' of this LlamaForCausalLM would not be trained.* Freeze"):
        parameter_groups(model, target)
    model.extra.requires_grad_(False)
    assert parameter_groups(model, target)


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    source, model, _ = checkpoint(tmp_path, "llama")
    with pytest.raises(IllegalGrowthError, match=r"hyper='preserve' is about the optimizer.* Add optimizer=True"):
        growth.widen_checkpoint(source, tmp_path / "wide", hyper="preserve")
    with pytest.raises(IllegalGrowthError, match=r"were not split by a growth.* Leave optimizer_cls_and_kwargs out"):
        parameter_groups(model, source)
    with pytest.raises(CheckpointError, match=r"optimizer\.pt does not exist\. Name a folder"):
        parameter_groups(model, tmp_path)
    target = grow(source, tmp_path / "wide")
    with pytest.raises(IllegalGrowthError, match=r"had shape .* when the state was saved"):
        parameter_groups(model, target)
    other = tmp_path / "other"
    shutil.copytree(source, other)
    torch.save({**torch.load(other / "scheduler.pt"), "milestones": [3, 4, 5]}, other / "scheduler.pt")
    with pytest.raises(CheckpointError, match=r"keeps 3 values under 'milestones'.* Leave --hyper out"):
        grow(other, tmp_path / "never")
    torch.save({**torch.load(source / "scheduler.pt"), "eta_min": 1e-4}, other / "scheduler.pt")
    with pytest.raises(CheckpointError, match=r"one learning rate 'eta_min' for all parameter groups"):
        grow(other, tmp_path / "never")
    assert not (tmp_path / "never").exists()
