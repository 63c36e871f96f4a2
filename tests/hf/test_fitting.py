"""Weights that were saved from inside a wrapper, and weights that are not those of the config: each
is understood, or named with what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BertForPreTraining,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedModel,
)

import growth
from growth import CheckpointError, UnsupportedModelError
from growth.hf import fitting
from growth.hf.fitting import unwrapped
from support.damage import added, both, config, replaced, tensors
from support.refusals import Sources, check_message, offline, refused, sources
from support.small_models import SIZES, bert, llama

__all__ = ["offline", "sources"]

WEIGHTS = "model.safetensors"


class Inside(nn.Module):
    """What torch.compile, DDP, Lightning and value heads are to a state dict: an attribute that holds the
    model."""

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        self.add_module(name, model)


WRAPPERS: dict[str, Callable[[PreTrainedModel], nn.Module]] = {
    "_orig_mod": lambda model: Inside("_orig_mod", model),
    "module": lambda model: Inside("module", model),
    "model": lambda model: Inside("model", model),
    "_fsdp_wrapped_module": lambda model: Inside("_fsdp_wrapped_module", model),
    "pretrained_model": lambda model: Inside("pretrained_model", model),
    "base_model.model": lambda model: Inside("base_model", Inside("model", model)),
    "module._orig_mod": lambda model: Inside("module", Inside("_orig_mod", model)),
    "anything": lambda model: Inside("anything", model),
}


def untied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def wrapped(folder: Path, wrap: Callable[[PreTrainedModel], nn.Module], model: PreTrainedModel) -> Path:
    """Saved as people do who save the state dict of what they train."""
    model.config.save_pretrained(folder)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**raw, "architectures": [type(model).__name__]}))
    save_file(untied(wrap(model).state_dict()), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.arange(20)[None]).logits
    return found


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_a_wrapper_puts_before_names_is_taken_off(name: str, tmp_path: Path) -> None:
    model = llama()
    source = wrapped(tmp_path / "small", WRAPPERS[name], model)
    assert all(key.startswith(f"{name}.") for key in load_file(source / WEIGHTS))
    result = growth.widen_checkpoint(source, tmp_path / "wide", noise=1.0)
    wide, info = LlamaForCausalLM.from_pretrained(tmp_path / "wide", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(logits(wide), logits(model), rtol=1e-4, atol=1e-5)
    assert f"'{name}.lm_head.weight' is taken to be 'lm_head.weight'" in str(result)
    if name == "module._orig_mod":
        assert growth.check_equivalence(source, tmp_path / "wide", tokens=32, device="cpu").equal


@pytest.mark.parametrize("kind", [LlamaForCausalLM, LlamaModel, GPT2LMHeadModel], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("prefix", ["module", "model", "transformer"])
def test_prefixes_that_look_like_the_base_models(kind: Any, prefix: str, tmp_path: Path) -> None:
    """Tied, so that no head's name tells; and a prefix that is the base model's own."""
    torch.manual_seed(0)
    if kind is GPT2LMHeadModel:
        model = kind(GPT2Config(n_embd=24, n_head=4, n_layer=2, vocab_size=60, n_positions=64))
    else:
        model = kind(LlamaConfig(num_attention_heads=4, tie_word_embeddings=True, **SIZES))
    state = {f"{prefix}.{name}": tensor for name, tensor in untied(model.state_dict()).items()}
    state.pop(f"{prefix}.lm_head.weight", None)
    source = wrapped(tmp_path / "small", lambda inside: inside, model)
    save_file(state, source / WEIGHTS, metadata={"format": "pt"})
    growth.widen_checkpoint(source, tmp_path / "wide")
    _, info = kind.from_pretrained(tmp_path / "wide", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


def test_names_in_the_middle(sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "small"))
    state = load_file(source / WEIGHTS)
    inner = {
        name.replace(".mlp.", "._checkpoint_wrapped_module.mlp._orig_mod."): value for name, value in state.items()
    }
    save_file(inner, source / WEIGHTS, metadata={"format": "pt"})
    growth.widen_checkpoint(source, tmp_path / "wide")
    growth.widen_checkpoint(sources["llama"], tmp_path / "same")
    wide, same = (load_file(tmp_path / name / WEIGHTS) for name in ("wide", "same"))
    assert wide.keys() == same.keys() and all(torch.equal(wide[name], same[name]) for name in same)


def test_a_weight_that_is_computed_from_what_is_stored_is_none(sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "small"))
    state = load_file(source / WEIGHTS)
    kept = {name.replace("q_proj.weight", "q_proj.parametrizations.weight.original"): state[name] for name in state}
    save_file(kept, source / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"q_proj.weight' of LlamaForCausalLM is missing \(and 1 more\)"):
        growth.plan_widening(source)


def test_a_name_is_taken_off_only_where_all_fits(sources: Sources, tmp_path: Path, monkeypatch: Any) -> None:
    source = wrapped(tmp_path / "small", WRAPPERS["pretrained_model"], llama())
    tensors(lambda state: state.update({"v_head.summary.weight": torch.zeros(1, 24)}))(source)
    says = ("21 of 22 tensor names begin with 'pretrained_model.'", "'v_head.summary.weight' is no tensor of it")
    refused(
        source, tmp_path / "to" / "wide", CheckpointError, *says, step=r"\. Save the state dict of the model inside"
    )
    tensors(lambda state: (state.pop("v_head.summary.weight"), state.pop("pretrained_model.model.norm.weight")))(
        source
    )
    says = ("20 of 20 tensor names begin with 'pretrained_model.'", "'norm.weight' is missing")
    refused(
        source, tmp_path / "to" / "wide", CheckpointError, *says, step=r"\. Save the state dict of the model inside"
    )
    assert unwrapped(["a.b", "a.c"], {"b", "c"}, lambda bare: set(bare) == {"b"}) is None
    assert unwrapped(["_x.b", "b"], {"b"}, lambda bare: True) is None, "two tensors of one name"
    monkeypatch.setattr(fitting, "_look_wrapped", lambda names, prefix: False)
    with pytest.raises(CheckpointError):
        growth.widen_checkpoint(wrapped(tmp_path / "other", WRAPPERS["_orig_mod"], llama()), tmp_path / "wide")


def test_layers_that_the_config_does_not_count_are_left_out(sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "small"))
    config(num_hidden_layers=1)(source)
    result = growth.widen_checkpoint(source, tmp_path / "wide")
    assert (
        "('model.layers.1.input_layernorm.weight' and 8 more) belong to layers that the config does not count"
        in str(result)
    )
    assert not any(".layers.1." in name for name in load_file(tmp_path / "wide" / WEIGHTS))
    small, wide = (LlamaForCausalLM.from_pretrained(folder) for folder in (source, tmp_path / "wide"))
    torch.testing.assert_close(logits(wide), logits(small), rtol=1e-4, atol=1e-5)


def test_a_second_head_is_kept_and_said(tmp_path: Path) -> None:
    """As in the best known BERT: its config names the masked-language class, its file has both heads."""
    BertForPreTraining(bert().config).save_pretrained(tmp_path / "small")
    config(architectures=["BertForMaskedLM"])(tmp_path / "small")
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    assert "are not of BertForMaskedLM" in str(result) and "the twin does not cover them" in str(result)
    _, info = BertForPreTraining.from_pretrained(tmp_path / "wide", output_loading_info=True)
    assert not info["missing_keys"]


def test_a_tensor_that_no_rule_describes_is_refused(sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "small"))
    added("model.layers.0.adapter.weight", torch.zeros(3, 3))(source)
    with pytest.raises(UnsupportedModelError) as caught:
        growth.plan_widening(source)
    check_message(str(caught.value), ("no rule of 'llama'", "not of LlamaForCausalLM", "take them out of the weights"))


def test_a_head_that_is_stored_untied_under_a_tied_config(sources: Sources, tmp_path: Path) -> None:
    """transformers loads the head that is stored; so does the wide model."""
    source = Path(shutil.copytree(sources["llama"], tmp_path / "small"))
    both(config(tie_word_embeddings=True), replaced("lm_head.weight", lambda old: old + 1))(source)
    growth.widen_checkpoint(source, tmp_path / "wide")
    small, wide = (LlamaForCausalLM.from_pretrained(folder) for folder in (source, tmp_path / "wide"))
    torch.testing.assert_close(logits(wide), logits(small), rtol=1e-4, atol=1e-5)
