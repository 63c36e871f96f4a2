"""Checkpoints of the real `transformers.Trainer`: it trains and saves, the folder grows, and it
resumes from there."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from support.families import LANGUAGE_MODELS, build

pytest.importorskip("accelerate", reason="transformers.Trainer needs it")

from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM, Trainer, TrainingArguments

import growth
from growth.checkpoint import parameter_numbers
from growth.checkpoint.model_folder import foreign_entries
from growth.checkpoint.parameter_numbers import trainer_order
from growth.cli.main import grow
from growth.proof.miniature import build_exact
from support.family_cases import MAIN, first_accepted, label, small_config
from support.trainer_runs import MODELS, by_name, checkpoint, loaded, mark, run, same, stopped


def cli(*arguments: object) -> None:
    grow([str(argument) for argument in arguments], standalone_mode=False)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_training_goes_on(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MODELS[kind]()
    small = run(model, tmp_path / "small")
    source, target = tmp_path / "small" / "checkpoint-30", tmp_path / "wide" / "checkpoint-30"
    cli("widen", source, target, "--optimizer", "--width", "2", "--noise", "0.1")
    assert not {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"} - set(
        os.listdir(target)
    )
    for name in ("scheduler.pt", "rng_state.pth", "training_args.bin"):
        assert (source / name).read_bytes() == (target / name).read_bytes()
    wide = run(AutoModelForCausalLM.from_pretrained(target), tmp_path / "wide", target)
    for folder in (source, target, tmp_path / "wide" / "checkpoint-60"):  # which --overwrite may replace
        assert foreign_entries(folder) == []
    assert "checkpoint-60/" in foreign_entries(tmp_path / "wide")
    assert wide.trainer.state.global_step == 60 and (tmp_path / "wide" / "checkpoint-60" / "optimizer.pt").is_file()
    assert wide.trainer.model.config.hidden_size == 48

    assert [wide.losses[step] for step in range(1, 31)] == [
        small.losses[step] for step in range(1, 31)
    ]  # the history came along
    assert wide.losses[31] == pytest.approx(small.losses[31], rel=2e-6)
    assert wide.logged("learning_rate") == small.logged("learning_rate")
    own = max(abs(small.losses[step] - small.losses[step - 1]) for step in range(22, 61))
    assert all(abs(wide.losses[step] - small.losses[step]) < own for step in range(32, 61))
    assert sum(wide.losses[step] for step in range(51, 61)) < sum(wide.losses[step] for step in range(31, 41))

    held = by_name(*loaded(source))
    assert wide.seen.held.keys() == {name for name, _ in wide.trainer.model.named_parameters()} == held.keys()
    assert all(float(state["step"]) == 30 for state in wide.seen.held.values())
    assert [group["weight_decay"] for group in wide.seen.groups] == [0.1, 0.0]
    record = json.loads((target / "growth.json").read_text())
    told = record["training"]
    assert (
        told["global_step"] == 30
        and told["moments"] == "preserve"
        and told["hyper"] == "keep"
        and told["optimizer"] == "Adam family"
    )
    assert told["learning_rate_factors"] == [0.5, 1.0]
    assert "2 times faster" not in str(record["plan"]["notes"])  # with noise training takes another course anyway
    assert {"optimizer.pt", "trainer_state.json"} <= record["source"]["sha256"].keys()


@pytest.mark.parametrize("moments", ["preserve", "fresh"])
@pytest.mark.parametrize("kind", [*MODELS])
def test_disk_and_memory_agree_bit_for_bit(kind: str, moments: Any, tmp_path: Path) -> None:
    source, model, optimizer = checkpoint(tmp_path, kind)
    mark(source, model, optimizer)
    growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True, moments=moments, width=3, heads="keep")
    grown = growth.widen(model, optimizer=optimizer, hyper="keep", moments=moments, width=3, heads="keep")
    assert grown.optimizer is not None
    wide, resumed = loaded(tmp_path / "wide")
    numbers = sum(value.nbytes for state in resumed.state.values() for value in state.values())
    assert (
        tmp_path / "wide" / "optimizer.pt"
    ).stat().st_size < 1.5 * numbers  # no tensor brings along what it is a view of
    assert same(by_name(wide, resumed), by_name(grown.model, grown.optimizer))
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert all(torch.equal(value, wide.state_dict()[name]) for name, value in grown.model.state_dict().items())


def swapped(order: list[list[str]]) -> list[list[str]]:
    return order[::-1]


def shifted(order: list[list[str]]) -> list[list[str]]:
    return [names[1:] + names[:1] for names in order]


def queries_for_outputs(order: list[list[str]]) -> list[list[str]]:
    """Two parameters of the same shape swapped, which no shape check can see."""
    other = {"q_proj": "o_proj", "o_proj": "q_proj"}
    return [[".".join(other.get(part, part) for part in name.split(".")) for name in names] for names in order]


def undivided(order: list[list[str]]) -> list[list[str]]:
    return [[name for names in order for name in names], []]


WRONG = {
    swapped: r"has \d+ parameters where Trainer gives it \d+ of LlamaForCausalLM's",
    undivided: r"has \d+ parameters where Trainer gives it \d+ of LlamaForCausalLM's",
    shifted: r"of parameter \d+ in optimizer\.pt has shape .* by Trainer's order that is '.*' of shape",
}


def reorder(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameter_numbers, "trainer_order", lambda model: mutant(trainer_order(model)))


class FailsOnce(io.FileIO):
    """A file on a disk that refuses its third write, and no other."""

    writes = 0

    def write(self, data: Any) -> int:
        FailsOnce.writes += 1
        if FailsOnce.writes == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(data)


def test_a_write_that_fails_once_is_an_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _, _ = checkpoint(tmp_path, "llama")
    opened = Path.open

    def open_file(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if path.name == "optimizer.pt" and mode == "wb":
            return io.BufferedWriter(FailsOnce(path, mode))
        return opened(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_file)
    with pytest.raises(growth.CheckpointError, match=r"could not be written: Input/output error\. Nothing was left"):
        growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True)
    assert FailsOnce.writes > 2 and [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("mutant", WRONG)
def test_a_wrong_order_is_refused(mutant: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, model, optimizer = checkpoint(tmp_path, "llama")
    mark(source, model, optimizer)
    reorder(mutant, monkeypatch)
    with pytest.raises(growth.CheckpointError, match=WRONG[mutant]):
        growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True, attention="head-dim")


def test_a_wrong_order_that_no_shape_shows_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, model, optimizer = checkpoint(tmp_path, "llama")
    mark(source, model, optimizer)
    grown = growth.widen(model, optimizer=optimizer, hyper="keep", attention="head-dim")
    assert grown.optimizer is not None
    for mutant, agrees in ((list, True), (queries_for_outputs, False)):
        reorder(mutant, monkeypatch)
        growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True, attention="head-dim", overwrite=True)
        assert same(by_name(*loaded(tmp_path / "wide")), by_name(grown.model, grown.optimizer)) is agrees


def test_order_is_that_of_trainer(tmp_path: Path) -> None:
    for case in LANGUAGE_MODELS:
        model = build(case)
        optimizer = Trainer(model, TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])).create_optimizer()
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        with torch.device("meta"):
            empty = type(model)(model.config)
        assert trainer_order(empty) == [
            [names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups
        ]


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=label)
def test_disk_and_memory_agree_in_every_family(
    model_type: str, model_class: str, branch: dict[str, Any], tmp_path: Path
) -> None:
    raw = small_config(model_type, model_class, branch)
    model, optimizer = stopped(build_exact(raw), tmp_path / "small")
    choice = first_accepted(raw, [{"attention": "head-dim"}, {"attention": "heads"}], 0)
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", optimizer=True, **choice)
    wanted = growth.widen(model, optimizer=optimizer, hyper="keep", **choice).optimizer.state_dict()["state"]  # type: ignore[union-attr]
    written = torch.load(tmp_path / "wide" / "optimizer.pt", weights_only=True)["state"]
    assert same({str(i): state for i, state in written.items()}, {str(i): state for i, state in wanted.items()})


def test_weights_by_older_names(tmp_path: Path) -> None:
    source, model, optimizer = checkpoint(tmp_path, "gpt2")
    weights = load_file(source / "model.safetensors")
    older = {name.removeprefix("transformer."): value for name, value in weights.items()}
    save_file(older, source / "model.safetensors", metadata={"format": "pt"})
    growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True)
    grown = growth.widen(model, optimizer=optimizer, hyper="keep")
    assert grown.optimizer is not None and same(
        by_name(*loaded(tmp_path / "wide")), by_name(grown.model, grown.optimizer)
    )


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.1},
    "SGD without momentum": {"optim": "sgd", "learning_rate": 0.1},
    "RMSprop": {"optim": "rmsprop", "optim_args": "momentum=0.5,centered=true", "learning_rate": 1e-4},
    "Adagrad": {"optim": "adagrad", "learning_rate": 1e-2},
    "Adam family": {"optim": "adamw_torch_fused"},
}


@pytest.mark.parametrize(
    ("name", "moments"), [*((name, "preserve") for name in OPTIMIZERS), ("Adagrad", "reset"), ("Adam family", "reset")]
)
def test_other_optimizers_go_on(name: str, moments: Any, tmp_path: Path) -> None:
    source, model, optimizer = checkpoint(tmp_path, "llama", **OPTIMIZERS[name])
    target = tmp_path / "wide" / "checkpoint-2"
    result = growth.widen_checkpoint(source, target, optimizer=True, moments=moments)
    assert result.training is not None and result.training["optimizer"] == name.removesuffix(" without momentum")
    resumed = run(AutoModelForCausalLM.from_pretrained(target), tmp_path / "wide", target, steps=4, **OPTIMIZERS[name])
    assert resumed.trainer.state.global_step == 4 and resumed.logged("learning_rate").keys() == {1, 2, 3, 4}
    grown = growth.widen(model, optimizer=optimizer, hyper="keep", moments=moments)
    assert grown.optimizer is not None and same(resumed.seen.held, by_name(grown.model, grown.optimizer))


def test_an_undeclared_optimizer_is_refused_and_reset_goes_on(tmp_path: Path) -> None:
    source, _, _ = checkpoint(tmp_path, "llama", optim="adafactor")
    with pytest.raises(growth.UnsupportedModelError, match=r"settings beta1, clip_threshold, .* --moments reset"):
        growth.widen_checkpoint(source, tmp_path / "no", optimizer=True)
    target = tmp_path / "wide" / "checkpoint-2"
    growth.widen_checkpoint(source, target, optimizer=True, moments="reset")
    resumed = run(AutoModelForCausalLM.from_pretrained(target), tmp_path / "wide", target, steps=4, optim="adafactor")
    assert resumed.trainer.state.global_step == 4 and resumed.seen.held == {}


def test_what_stays_and_what_is_left_behind(tmp_path: Path) -> None:
    source, _, _ = checkpoint(tmp_path, "gpt2")
    (source / "scaler.pt").write_bytes(b"scale")
    (source / "rng_state_0.pth").write_bytes(b"random")
    (source / "notes.txt").write_text("mine")
    state = json.loads((source / "trainer_state.json").read_text())
    (source / "trainer_state.json").write_text(json.dumps({**state, "best_model_checkpoint": str(source)}))
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    result = growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True)
    assert result.left_behind == ("notes.txt",) and before == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
    assert (tmp_path / "wide" / "scaler.pt").read_bytes() == b"scale" and (
        tmp_path / "wide" / "rng_state_0.pth"
    ).read_bytes() == b"random"
    written = json.loads((tmp_path / "wide" / "trainer_state.json").read_text())
    assert written == {**state, "best_model_checkpoint": str(tmp_path / "wide")}
    result = growth.widen_checkpoint(source, tmp_path / "alone")
    assert (
        "optimizer.pt" in result.left_behind and "trainer_state.json" in result.left_behind and result.training is None
    )
    assert not (tmp_path / "alone" / "training_args.bin").exists()


def test_names_in_the_file_go_before_the_order(tmp_path: Path) -> None:
    source, _, _ = checkpoint(tmp_path, "llama")
    model = LlamaForCausalLM.from_pretrained(source)
    optimizer = torch.optim.AdamW(list(model.named_parameters())[::-1], amsgrad=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    mark(source, model, optimizer)
    growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True)
    grown = growth.widen(model, optimizer=optimizer, hyper="keep")
    wide = LlamaForCausalLM.from_pretrained(tmp_path / "wide")
    loaded = torch.optim.AdamW(list(wide.named_parameters())[::-1], amsgrad=True)
    loaded.load_state_dict(torch.load(tmp_path / "wide" / "optimizer.pt", weights_only=True))
    assert grown.optimizer is not None and same(by_name(wide, loaded), by_name(grown.model, grown.optimizer))
