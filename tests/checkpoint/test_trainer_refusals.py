"""Training states that cannot grow: each is refused in one sentence that names the file, the state
or the parameter, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate", reason="transformers.Trainer needs it")

import growth
from growth.checkpoint import grown_optimizer, parameter_numbers
from support.trainer_runs import checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("saved"), "llama")[0]


def _edited(path: Path, change: Any) -> None:
    loaded = torch.load(path, weights_only=True)
    change(loaded)
    torch.save(loaded, path)


def _frozen(loaded: dict[str, Any]) -> None:
    loaded["state"].pop(loaded["param_groups"][0]["params"].pop())


def _one_group(loaded: dict[str, Any]) -> None:
    first, second = loaded["param_groups"]
    loaded["param_groups"] = [{**first, "params": first["params"] + second["params"]}]


def _lion(loaded: dict[str, Any]) -> None:
    for group in loaded["param_groups"]:
        del group["eps"]


def _named(loaded: dict[str, Any]) -> None:
    for group in loaded["param_groups"]:
        group["param_names"] = [f"theirs.{number}" for number in group["params"]]


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


REFUSALS: dict[str, tuple[Any, str]] = {
    "no progress": (
        lambda f: (f / "trainer_state.json").unlink(),
        "is not a Trainer checkpoint: it has no trainer_state.json",
    ),
    "no optimizer": (lambda f: (f / "optimizer.pt").unlink(), r"has no optimizer\.pt.* save_only_model=False"),
    "no scheduler": (lambda f: (f / "scheduler.pt").unlink(), r"has no scheduler\.pt"),
    "broken progress": (lambda f: (f / "trainer_state.json").write_text("{}"), "has no 'global_step'"),
    "deepspeed": (
        lambda f: (f / "global_step30").mkdir(),
        "'global_step30', a training state in the layout of DeepSpeed",
    ),
    "fsdp": (
        lambda f: (f / "pytorch_model_fsdp_0").mkdir(),
        r"pytorch_model_fsdp_0/\.metadata cannot be read",
    ),
    "fsdp of a rank": (
        lambda f: (f / "pytorch_model_fsdp_0_rank0.bin").write_bytes(b""),
        r"'pytorch_model_fsdp_0_rank0\.bin', a training state in the layout of FSDP in files for each rank",
    ),
    "fsdp optimizer": (lambda f: (f / "optimizer_0").mkdir(), "'optimizer_0', a training state in the layout of FSDP"),
    "accelerate": (
        lambda f: (f / "optimizer.bin").write_bytes(b""),
        r"'optimizer\.bin', a training state as accelerate saves it\. .* grow in the loop",
    ),
    "cut short": (
        lambda f: (f / "optimizer.pt").write_bytes((f / "optimizer.pt").read_bytes()[:99]),
        "is not a whole PyTorch file",
    ),
    "code": (lambda f: torch.save({"state": Bomb(), "param_groups": []}, f / "optimizer.pt"), "cannot be read safely"),
    "weights": (
        lambda f: torch.save({"w": torch.ones(2)}, f / "optimizer.pt"),
        "does not hold the state of an optimizer",
    ),
    "frozen": (
        lambda f: _edited(f / "optimizer.pt", _frozen),
        r"group 0 in optimizer\.pt has \d+ parameters where Trainer gives it \d+",
    ),
    "one group": (lambda f: _edited(f / "optimizer.pt", _one_group), "has 1 parameter groups where Trainer makes 2"),
    "lion": (
        lambda f: _edited(f / "optimizer.pt", _lion),
        r"the optimizer in optimizer\.pt .* is not supported: its state has no growth rule\. .* --moments reset",
    ),
    "odd state": (
        lambda f: _edited(f / "optimizer.pt", lambda s: s["state"][0].update(z=torch.ones(3))),
        r"optimizer\.pt \(state 'z'\)",
    ),
    "8-bit state": (
        lambda f: _edited(f / "optimizer.pt", lambda s: s["state"][0].update(exp_avg=s["state"][0]["exp_avg"].byte())),
        r"optimizer\.pt \(state 'exp_avg'\) is not supported: its state has no growth rule",
    ),
    "other shape": (
        lambda f: _edited(f / "optimizer.pt", lambda s: s["state"][0].update(exp_avg=torch.ones(3))),
        r"'exp_avg' of parameter 0 in optimizer\.pt has shape \[3\], but by Trainer's order that is "
        r"'model\.embed_tokens\.weight'",
    ),
    "not finite": (
        lambda f: _edited(f / "optimizer.pt", lambda s: s["state"][0]["exp_avg"].fill_(float("nan"))),
        "'exp_avg of model.embed_tokens.weight' holds NaN",
    ),
    "names": (lambda f: _edited(f / "optimizer.pt", _named), "names a parameter 'theirs.0'"),
}


@pytest.mark.parametrize("name", [*REFUSALS])
def test_refused_by_name(name: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, said = REFUSALS[name]
    source = tmp_path / "small"
    shutil.copytree(saved, source)
    spoil(source)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(growth.GrowthError, match=said) as caught:
        growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True)
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json", "scheduler.pt", "rng_state.pth"])
def test_behind_a_link_that_leaves_the_folder(name: str, saved: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(saved, tmp_path / "from" / "small"))
    shutil.move(source / name, tmp_path / name)
    (source / name).symlink_to(tmp_path / name)
    with pytest.raises(growth.CheckpointError, match=rf"{name} leads through a symbolic link .*cp -rL"):
        growth.widen_checkpoint(source, tmp_path / "to" / "wide", optimizer=True)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json"])
def test_that_changes_while_it_is_read(name: str, saved: Path, tmp_path: Path) -> None:
    """As if training went on, and saved over its last checkpoint."""
    source = Path(shutil.copytree(saved, tmp_path / "small"))

    def progress(done: int, size: int, tensor: str) -> None:
        if done == size:
            (source / f"{name}.new").write_bytes((source / name).read_bytes())
            (source / f"{name}.new").replace(source / name)

    with pytest.raises(
        growth.CheckpointError, match=rf"{name} changed while it was read \(another file took its place"
    ):
        growth.widen_checkpoint(source, tmp_path / "wide", optimizer=True, progress=progress)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_choices_that_do_not_fit(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(growth.IllegalGrowthError, match="moments must be preserve or fresh or reset, not 'old'"):
        growth.widen_checkpoint(saved, tmp_path / "wide", optimizer=True, moments="old")  # type: ignore[arg-type]
    with pytest.raises(growth.IllegalGrowthError, match=r"'reset' .*--optimizer"):
        growth.widen_checkpoint(saved, tmp_path / "wide", moments="reset")


@pytest.mark.parametrize("step", ["grown_values", "_compact"])
def test_a_crash_in_the_optimizer_leaves_nothing(
    step: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(grown_optimizer, step, full)
    with pytest.raises(growth.CheckpointError, match=r"No space left on device.* try again"):
        growth.widen_checkpoint(saved, tmp_path / "new" / "wide", optimizer=True)
    assert not list(tmp_path.iterdir())


def test_an_order_that_the_file_cannot_show_is_said(saved: Path, tmp_path: Path) -> None:
    """Groups of one's own with Trainer's counts and shapes pass; names in the file decide."""
    said = "parameters are taken to be in the order of Trainer's own groups, since optimizer.pt holds no names"
    result = growth.widen_checkpoint(saved, tmp_path / "wide", optimizer=True)
    assert any(said in note for note in result.plan.notes)
    source = tmp_path / "named"
    shutil.copytree(saved, source)
    loaded = torch.load(source / "optimizer.pt", weights_only=True)
    model = growth.plan_widening(source).model_class.from_pretrained(source)
    for group, names in zip(loaded["param_groups"], parameter_numbers.trainer_order(model), strict=True):
        group["param_names"] = names
    torch.save(loaded, source / "optimizer.pt")
    result = growth.widen_checkpoint(source, tmp_path / "by_name", optimizer=True)
    assert not any(said in note for note in result.plan.notes)
