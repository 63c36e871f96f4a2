"""A model in memory is run beside its class built from its config: what was changed by hand is
refused by name, what only looks passes, and no run leaves a trace."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import AutoModelForCausalLM, BatchEncoding, GPT2Config, GPT2ForSequenceClassification

import growth
from growth.errors import CheckpointError, GrowthError, ProofError, UnsupportedModelError
from growth.hf.configs import config_to_build
from growth.hf.model_classes import class_of
from growth.proof import foreign, own_run
from growth.proof.miniature import loud
from growth.training import model as growth_model
from growth.training import unsharded
from support.edits import DTYPES, EDITS, REPLACED, loud_llama
from support.family_cases import MAIN, label, small_config
from support.optimizers import llama, no_twin, registered

__all__ = ["no_twin", "registered"]  # fixtures
STRUCTURES = ("bert", "gpt2", "bloom", "falcon", "llama", "gpt_neox", "gemma2", "qwen2_moe", "deepseek_v3", "t5")
STRUCTURES += ("marian", "albert", "xlnet", "esm", "deberta-v2", "clip")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("edit", EDITS)
def test_what_was_changed_by_hand_is_refused_by_name(edit: str, dtype: torch.dtype) -> None:
    model = loud_llama(dtype)
    change, says = EDITS[edit]
    change(model)
    with pytest.raises(UnsupportedModelError, match=rf"does not compute what its config says: its .* is {says}"):
        growth.widen(model, width=2)


@pytest.mark.parametrize("edit", REPLACED)
def test_modules_with_weights_that_were_replaced(edit: str) -> None:
    model = loud_llama()
    change, says = REPLACED[edit]
    change(model)
    with pytest.raises(UnsupportedModelError, match=rf"^this LlamaForCausalLM {says}.* Put back the module of Llama"):
        growth.widen(model, width=2)


@pytest.mark.parametrize(
    ("model_type", "model_class", "branch"),
    [pytest.param(*case, marks=() if case[0] in STRUCTURES else pytest.mark.slow) for case in MAIN],
    ids=label,
)
def test_honest_models_grow_in_every_dtype(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    raw = small_config(model_type, model_class, branch)
    for dtype in DTYPES:
        model = class_of(raw)._from_config(config_to_build(raw), experts_implementation="eager")
        loud(model.to(dtype))
        report = growth.widen(model, width=2, noise=1).proof.run
        assert report is not None and report.ok and report.own == 0 and not report.unseen
        assert report.difference <= 3 * report.floor < report.scale


def test_what_only_looks_passes_and_leaves_no_trace() -> None:
    model = llama(rope_scaling={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, max_position_embeddings=8)
    model.train()
    model.model.layers[0].eval()
    seen: list[torch.Tensor] = []
    model.model.layers[0].register_forward_hook(lambda module, given, output: seen.append(output))
    model.model.norm.register_forward_hook(lambda module, given, output: setattr(module, "calls", module.calls + 1))
    model.model.norm.calls = 0
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    before = {name: (vars(module).copy(), module.training) for name, module in model.named_modules()}
    hooks = {name: copy.copy(module._forward_hooks) for name, module in model.named_modules()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    growth.widen(model, width=2)
    assert seen and torch.equal(generators[0], torch.get_rng_state()) and generators[1] == random.getstate()
    assert np.array_equal(generators[2], np.random.get_state()[1])  # type: ignore[index]
    for name, module in model.named_modules():
        assert (vars(module), module.training) == before[name] and module._forward_hooks == hooks[name]
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_makes_no_difference_is_said() -> None:
    model = llama()
    model.model.layers[1].self_attn.attention_dropout = 0.5
    grown = growth.widen(model, width=2)
    assert "not kept, as the wider model follows the config: model.layers.1.self_attn.attention_dropout is 0.5" in str(
        grown
    )
    assert "run: model as its config says bit for bit; grown model's logits off by" in str(grown)
    assert grown.proof.run is not None and grown.proof.to_json()["run"]["own"] == 0


def test_the_callers_own_batch() -> None:
    model = llama()
    ids = torch.arange(14).reshape(2, 7)
    batch = BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids})
    report = growth.widen(model, width=2, verify_inputs=batch).proof.run
    assert report is not None and report.inputs["input_ids"] == (2, 7) and report.inputs["labels"] == (2, 7)
    for wrong in ("pixels", "inputs_embeds"):
        says = rf"could not be run on {wrong} \[2, 7\] \(.*\. verify_inputs must be what model\(\*\*verify_inputs"
        with pytest.raises(UnsupportedModelError, match=says):
            growth.widen(model, width=2, verify_inputs={wrong: ids.float()})
    embedded = {"inputs_embeds": torch.ones(1, 3, 24)}
    with pytest.raises(UnsupportedModelError, match=r"grown .* cannot be run .* has a size that grows, leave it out"):
        growth.widen(model, width=2, verify_inputs=embedded)


def test_a_class_that_takes_one_row_at_a_time() -> None:
    model = GPT2ForSequenceClassification(GPT2Config(n_embd=12, n_head=2, n_layer=1, vocab_size=9, n_positions=9))
    report = growth.widen(model, width=2).proof.run
    assert report is not None and report.inputs["input_ids"] == (1, 5)


def test_models_that_cannot_be_run_or_say_nothing() -> None:
    model = llama()
    hook = model.model.norm.register_forward_hook(lambda module, given, output: output / [])
    with pytest.raises(UnsupportedModelError, match=r"could not be run on input_ids \[1, 5\].* remove the hook"):
        growth.widen(model, width=2)
    hook.remove()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(GrowthError, match="NaN"):
        growth.widen(model, width=2)
    assert growth.widen(model, width=2, allow_nonfinite=True).model.config.hidden_size == 48
    hot = llama(dtype=torch.float16)
    with torch.no_grad():
        hot.model.embed_tokens.weight.fill_(6e4)
        hot.model.layers[0].mlp.down_proj.weight.fill_(6e4)
        hot.model.norm.weight.fill_(6e4)
    with pytest.raises(
        CheckpointError, match=r"the logits of this LlamaForCausalLM are all NaN or infinite on input_ids"
    ):
        growth.widen(hot, width=2)


@pytest.fixture
def mixed_precision() -> Iterator[Accelerator]:
    """Accelerate keeps one state for a process."""
    AcceleratorState._reset_state(True)
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state(True)


def test_a_model_that_accelerate_prepared_for_mixed_precision(mixed_precision: Accelerator) -> None:
    accelerator = mixed_precision
    model = accelerator.unwrap_model(accelerator.prepare(loud_llama()))
    forward = vars(model)["forward"]
    report = growth.widen(model, width=2).proof.run
    assert report is not None and report.own == 0 and vars(model)["forward"] is forward
    model.model.layers[1].self_attn.scaling *= 1.001
    with pytest.raises(UnsupportedModelError, match=r"first module to differ is 'model.layers.1.self_attn'"):
        growth.widen(model, width=2)


def test_a_class_built_anew_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    built = growth_model.same_by_config

    def elsewhere(*given: Any) -> Any:
        same, tables = built(*given)
        return same.to("meta"), tables

    monkeypatch.setattr(growth_model, "same_by_config", elsewhere)
    with pytest.raises(UnsupportedModelError, match=r"cannot be run on input_ids .* several devices, move the model"):
        growth.widen(llama(), width=2)


def test_a_model_that_runs_under_autocast_only() -> None:
    model = llama(tied=False, dtype=torch.bfloat16)
    model.lm_head.float()
    with pytest.raises(
        UnsupportedModelError, match=r"could not be run .* under autocast only, widen it under autocast"
    ):
        growth.widen(model, width=2)
    with torch.autocast("cpu", torch.bfloat16):
        report = growth.widen(model, width=2, noise=1).proof.run
    assert report is not None and report.own == 0 and 1e-3 * report.scale < report.floor < 0.1 * report.scale


def test_tables_are_worked_out_as_the_models_were(tmp_path: Path) -> None:
    """``from_pretrained`` makes the sinusoids of a 16-bit GPT-J in float32, ``from_config`` in 16
    bits."""
    raw = small_config("gptj", "GPTJForCausalLM", {})
    made = AutoModelForCausalLM.from_config(config_to_build(raw), dtype=torch.bfloat16)
    made.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    coarse, fine = (model.transformer.h[0].attn.embed_positions for model in (made, loaded))
    assert not torch.equal(coarse, fine)
    for model in (made, loaded):
        grown = growth.widen(model, width=2)
        assert torch.equal(
            grown.model.transformer.h[0].attn.embed_positions, model.transformer.h[0].attn.embed_positions
        )
        assert grown.model.config.dtype == torch.bfloat16 and not grown.proof.run.unseen  # type: ignore[union-attr]


def test_what_an_honest_module_may_differ_by() -> None:
    """The same function summed in another order passes, with its difference reported."""
    model = loud_llama()
    down = model.model.layers[0].mlp.down_proj
    model.model.layers[0].mlp.down_proj.forward = (  # type: ignore[method-assign]
        lambda x: x[..., :9] @ down.weight.T[:9] + x[..., 9:] @ down.weight.T[9:]
    )
    report = growth.widen(model, width=2).proof.run
    assert report is not None and report.ok and 0 < report.own < 1e-4


@pytest.mark.usefixtures("registered")
def test_a_registered_module_is_run_too() -> None:
    from support.custom_models import Odd, OddConfig

    module = Odd(OddConfig())
    assert growth.widen(module, width=2).proof.run is not None
    module.blocks[0].register_forward_hook(lambda part, given, output: (2 * output[0], output[1]))
    with pytest.raises(
        UnsupportedModelError, match=r"The first module to differ is 'blocks.0' \(it has a forward hook"
    ):
        growth.widen(module, width=2)


def test_a_wrong_wide_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rebuild = unsharded.rebuild

    def wrong(*given: Any) -> Any:
        new = rebuild(*given)
        with torch.no_grad():
            new.model.norm.weight.mul_(1.5)
        return new

    monkeypatch.setattr(unsharded, "rebuild", wrong)
    for dtype in DTYPES:
        with pytest.raises(ProofError, match=r"grown LlamaForCausalLM does not compute .* Please report"):
            growth.widen(loud_llama(dtype), width=2)


@pytest.mark.parametrize("edit", ["scaling", "forward"])
def test_the_check_is_what_refuses(edit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the comparison of the model with its class, or with one that allows too much, these
    pass."""
    model = loud_llama()
    EDITS[edit][0](model)
    monkeypatch.setattr(foreign.Origin, "foreign", property(lambda origin: False))
    monkeypatch.setattr(own_run, "_check_settings", lambda model, settings: None)
    assert growth.widen(model, width=2).proof.run.own > 0  # type: ignore[union-attr]
    monkeypatch.setattr(own_run, "same_values", lambda one, other: True)
    assert growth.widen(model, width=2).proof.run.own == 0  # type: ignore[union-attr]
