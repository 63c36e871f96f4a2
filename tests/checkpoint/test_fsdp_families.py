"""Every family, saved in the layout of FSDP, grows to the state dict that growth in memory gives, bit for bit and name
by name: tied weights under both names, experts fused as they are in memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
import transformers

import growth
from growth.hf.configs import parse
from support.family_cases import MAIN, small_config
from support.fsdp_runs import whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=[case[1] for case in MAIN])
def test_every_family(model_type: str, model_class: str, branch: dict[str, Any], tmp_path: Path) -> None:
    config = parse(small_config(model_type, model_class, branch))
    torch.manual_seed(0)
    # Kernels of fused experts want sizes that small models do not have.
    model = getattr(transformers, model_class)._from_config(
        config, dtype=torch.float32, experts_implementation="eager"
    )
    model.config.architectures = [model_class]
    grown = growth.widen(model.eval(), width=2, noise=1.0).model.state_dict()
    model.config.save_pretrained(tmp_path / "config")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": model.state_dict()}, checkpoint_id=tmp_path / "state" / "pytorch_model_fsdp_0")
    growth.widen_checkpoint(tmp_path / "state", tmp_path / "wide", config=tmp_path / "config", width=2, noise=1.0)
    held = whole(tmp_path / "wide", "pytorch_model_fsdp_0", tmp_path)["model"]
    assert held.keys() == grown.keys()
    assert [name for name, value in grown.items() if not torch.equal(value, held[name])] == []
