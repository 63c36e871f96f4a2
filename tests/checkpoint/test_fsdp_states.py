"""States of an optimizer in a folder of FSDP: which of two tied names has one, and values that are none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import growth
from growth.hf.dcp_reader import ShardedFolder
from growth.hf.source_files import SourceFiles
from support.fsdp_damage import MODEL, OPTIMIZER, refused, save
from support.fsdp_runs import MODELS

EMBEDDING, HEAD, QUERY = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.weight"


def state_of(change: Callable[[dict[str, Any], list[str]], Any]) -> dict[str, Any]:
    """A state of AdamW for the model with tied weights, changed."""
    state: dict[str, Any] = {
        name: {
            "step": torch.tensor(2.0),
            "exp_avg": torch.full(parameter.shape, 0.5),
            "exp_avg_sq": torch.full(parameter.shape, 0.25),
        }
        for name, parameter in MODELS["tied"]().named_parameters()
    }
    listed = [*state]
    change(state, listed)
    group = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0, "params": listed}
    return {"state": state, "param_groups": [group]}


def put(folder: Path, optimizer: dict[str, Any], whole: bool) -> None:
    """Put a state in the place of that of a folder."""
    shutil.rmtree(folder / OPTIMIZER)
    if whole:
        shutil.rmtree(folder / MODEL)
        torch.save(MODELS["tied"]().state_dict(), folder / "pytorch_model_fsdp.bin")
        torch.save(optimizer, folder / "optimizer.bin")
    else:
        save(folder / OPTIMIZER, {"optimizer": optimizer})


def under_the_other_name(state: dict[str, Any], listed: list[str]) -> None:
    state[HEAD] = state.pop(EMBEDDING)
    listed.insert(0, HEAD)


def listed_after(state: dict[str, Any], listed: list[str]) -> None:
    listed.append(HEAD)


@pytest.mark.parametrize("change", [under_the_other_name, listed_after])
def test_the_tied_name_with_a_state_is_taken(change: Any, damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = damaged_source
    put(folder, state_of(change), whole=False)
    growth.widen_checkpoint(folder, tmp_path / "wide", config=config, optimizer=True, width=2)
    grown = ShardedFolder(tmp_path / "wide" / OPTIMIZER, SourceFiles(tmp_path / "wide"))
    name = HEAD if change is under_the_other_name else EMBEDDING
    found = grown.read(("optimizer", "state", name, "exp_avg"))
    assert isinstance(found, Tensor) and found.shape == (MODELS["tied"]().config.vocab_size, 48) and found.any()
    assert grown.read(("optimizer", "state", name, "step")) == 2
    assert len({place[2] for place in grown.keys if place[1] == "state"}) == len(state_of(change)["state"])


def test_two_states_of_one_weight(damaged_source: tuple[Path, Path]) -> None:
    def both(state: dict[str, Any], listed: list[str]) -> None:
        state[HEAD] = {key: value + 1 for key, value in state[EMBEDDING].items()}
        listed.append(HEAD)

    folder, config = damaged_source
    put(folder, state_of(both), whole=False)
    refused(folder, config, "one weight by the config", EMBEDDING, HEAD, "Set tie_word_embeddings")


STATES: dict[str, tuple[str, Any, str]] = {
    **{
        name: ("step", value, "counts no steps in 'step'")
        for name, value in {
            "an infinite count": torch.tensor(float("inf")),
            "a count that is NaN": float("nan"),
            "a negative count": torch.tensor(-1),
            "a complex count": torch.tensor(1 + 2j),
            "a count beyond any float": 10**400,
            "several counts": torch.ones(1),
        }.items()
    },
    "a moment of 8 bits": ("exp_avg", torch.zeros(24, 24).to(torch.float8_e4m3fn), "state 'exp_avg'"),
    "a number as a moment": ("exp_avg_sq", 1.0, "has 1.0 as 'exp_avg_sq'"),
    "a list as a moment": ("exp_avg_sq", [1.0], "as 'exp_avg_sq'"),
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("how", STATES)
def test_a_state_that_is_none(how: str, whole: bool, damaged_source: tuple[Path, Path]) -> None:
    key, value, says = STATES[how]
    folder, config = damaged_source
    put(folder, state_of(lambda state, listed: state[QUERY].__setitem__(key, value)), whole)
    refused(folder, config, says, "leave --optimizer out", step="leave --optimizer out")


@pytest.mark.parametrize("value", [3, 3.0, torch.tensor(3), torch.tensor(3.0), torch.tensor(3.0, dtype=torch.float64)])
def test_a_count_of_any_kind(value: Any, damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = damaged_source
    put(folder, state_of(lambda state, listed: state[QUERY].__setitem__("step", value)), whole=True)
    made = growth.widen_checkpoint(folder, tmp_path / "wide", config=config, optimizer=True, width=2)
    assert made.training is not None and made.training["global_step"] == 3


def test_tied_weights_that_hold_nan(damaged_source: tuple[Path, Path], tmp_path: Path) -> None:
    folder, config = damaged_source
    state = dict(MODELS["tied"]().state_dict())
    state[EMBEDDING][3, 5] = float("nan")
    state[HEAD] = state[EMBEDDING].clone()
    shutil.rmtree(folder / MODEL)
    save(folder / MODEL, {"model": state})
    refused(folder, config, "holds NaN", optimizer=False)
    growth.widen_checkpoint(folder, tmp_path / "wide", config=config, width=2, allow_nonfinite=True)
    grown = ShardedFolder(tmp_path / "wide" / MODEL, SourceFiles(tmp_path / "wide"))
    assert all(grown.read(("model", name)).isnan().any() for name in (EMBEDDING, HEAD))
    state[HEAD][0, 0] += 1
    shutil.rmtree(folder / MODEL)
    save(folder / MODEL, {"model": state})
    with pytest.raises(growth.CheckpointError, match="are one weight by the config"):
        growth.widen_checkpoint(folder, tmp_path / "other", config=config, width=2, allow_nonfinite=True)
