"""What was changed by hand in a model in memory and does not show on padded tokens: attributes that
other inputs read, weights that a run changes, parameters in the same memory."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import nn
from transformers import MistralForCausalLM

import growth
from growth.errors import UnsupportedModelError
from growth.hf.configs import Config, config_to_build
from growth.hf.model_classes import class_of
from growth.proof import outputs, own_run
from growth.proof.inputs import few_inputs
from growth.proof.miniature import loud
from growth.proof.own_run import try_model
from growth.training import shared_memory
from growth.training.rebuild import same_by_config, share_weights
from support.edits import UNSEEN, loud_llama
from support.family_cases import MAIN, label, small_config
from support.optimizers import llama, no_twin, step

__all__ = ["no_twin"]  # a fixture


@pytest.mark.parametrize("edit", UNSEEN)
def test_attributes_are_refused_whatever_the_inputs_show(edit: str) -> None:
    model = loud_llama()
    before = copy.deepcopy(model.state_dict())
    change, says = UNSEEN[edit]
    change(model)
    with pytest.raises(UnsupportedModelError, match=rf"^this LlamaForCausalLM {says}"):
        growth.widen(model, width=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_window_longer_than_the_inputs_is_refused() -> None:
    raw = small_config("mistral", "MistralForCausalLM", {})
    model = MistralForCausalLM._from_config(config_to_build(raw))
    attention = model.model.layers[0].self_attn
    attention.config = copy.deepcopy(model.config)
    assert growth.widen(model, width=2).proof.run is not None
    attention.config.sliding_window = 99
    with pytest.raises(
        UnsupportedModelError, match=r"model.layers.0.self_attn.config.sliding_window is 99, by the model's 5"
    ):
        growth.widen(model, width=2)


def test_a_forward_that_differs_without_a_mask_is_refused() -> None:
    model = loud_llama()
    attention = model.model.layers[1].self_attn
    forward = attention.forward

    def patched(*given: Any, **named: Any) -> Any:
        output, weights = forward(*given, **named)
        return (output if named.get("attention_mask") is not None else 1.1 * output), weights

    attention.forward = patched
    with pytest.raises(UnsupportedModelError, match=r"'model.layers.1.self_attn' .its forward was replaced"):
        growth.widen(model, width=2)


def test_a_forward_that_differs_in_the_loss_alone_is_refused_on_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loud_llama()
    forward = model.forward

    def patched(*given: Any, **named: Any) -> Any:
        output = forward(*given, **named)
        return output if output.loss is None else type(output)(output | {"loss": 1.01 * output.loss})

    model.forward = patched  # type: ignore[method-assign]
    ids = torch.arange(3, 12)[None]
    batch = {"input_ids": ids, "labels": ids}
    assert growth.widen(model, width=2).proof.run is not None
    with pytest.raises(
        UnsupportedModelError, match=r"its loss differ by .* the model itself .its forward was replaced"
    ):
        growth.widen(model, width=2, verify_inputs=batch)
    with monkeypatch.context() as patch:
        patch.setattr(own_run, "forward", lambda model, inputs, loss: outputs.forward(model, inputs))
        assert growth.widen(model, width=2, verify_inputs=batch).proof.run is not None
    unlabelled = {**batch, "labels": torch.full_like(ids, -100)}  # whose loss is NaN
    assert growth.widen(loud_llama(), width=2, verify_inputs=unlabelled).proof.run.own == 0  # type: ignore[union-attr]


def test_hooks_and_methods_that_are_not_kept_are_said() -> None:
    model = loud_llama()
    model(input_ids=torch.arange(3, 12)[None], output_hidden_states=True)  # transformers puts hooks of its own there
    assert not growth.widen(model, width=2).proof.run.unseen  # type: ignore[union-attr]
    model.prepare_inputs_for_generation = lambda *given, **named: {}  # type: ignore[method-assign]
    model._compiled_call_impl = model._call_impl  # as model.compile() does
    layers = model.model.layers
    layers[0].register_forward_hook(lambda module, given, output: None)
    layers[0].register_full_backward_hook(lambda module, given, output: None)
    layers[1].register_state_dict_pre_hook(lambda *given: None)
    layers[1].mlp.up_proj.weight.register_hook(lambda gradient: 2 * gradient)
    layers[1].mlp.gate_proj.weight.register_post_accumulate_grad_hook(lambda weight: None)
    grown = growth.widen(model, width=2)
    assert grown.proof.run is not None and set(grown.proof.run.unseen) == {
        "the model has a _compiled_call_impl of its own",
        "the model has a prepare_inputs_for_generation of its own",
        "model.layers.0 has a forward hook",
        "model.layers.0 has a backward hook",
        "model.layers.1 has a state dict pre hook",
        "model.layers.1.mlp.up_proj.weight has a gradient hook",
        "model.layers.1.mlp.gate_proj.weight has a gradient hook",
    }
    assert "not kept, as the wider model follows the config: the model has a" in str(grown)


def test_what_an_optimizer_was_given_by_hand_is_said() -> None:
    model = llama()
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    def averaged(*given: Any) -> None:
        """An average of the weights, as it is kept after each step."""

    plain = growth.widen(model, width=2, optimizer=optimizer, scheduler=scheduler)
    assert not any("not kept of the optimizer" in note for note in plain.plan.notes), "a scheduler's counter is kept"
    optimizer.register_step_post_hook(averaged)
    optimizer.zero_grad = lambda *given, **named: None  # type: ignore[method-assign]
    note = growth.widen(model, width=2, optimizer=optimizer, scheduler=scheduler).plan.notes[-1]
    assert "a step post hook (test_what_an_optimizer_was_given_by_hand_is_said.<locals>.averaged)" in note
    assert "a zero_grad of its own" in note and note.endswith("give it to the grown one") and "a step of" not in note
    mine = torch.optim.SGD(model.parameters(), lr=0.1)
    step_of_class = type(mine).step
    mine.step = functools.wraps(step_of_class)(lambda *given: None)  # type: ignore[method-assign]
    assert "a step of its own" in growth.widen(model, width=2, optimizer=mine).plan.notes[-1]


def test_the_check_is_what_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the comparison of attributes, these pass."""
    model = loud_llama()
    model.model.embed_tokens.norm_type = 1.0
    monkeypatch.setattr(own_run, "_check_settings", lambda model, settings: None)
    run = growth.widen(model, width=2).proof.run
    assert (
        run is not None and run.own == 0 and run.unseen == ("model.embed_tokens.norm_type is 1.0, by the config 2.0",)
    )


@pytest.mark.parametrize("evade", [False, True], ids=["in place", "by .data"])
def test_weights_that_a_run_changes_are_put_back(evade: bool) -> None:
    model = loud_llama()
    weight = model.model.layers[0].mlp.up_proj.weight
    before = weight.detach().clone()

    def limit(module: nn.Module, given: Any) -> None:
        (weight.data if evade else weight.detach()).mul_(0.5)

    model.model.layers[1].register_forward_pre_hook(limit)
    with pytest.raises(UnsupportedModelError):
        growth.widen(model, width=2)
    assert torch.equal(weight, before)


def test_a_run_that_changes_an_unused_weight_is_refused_by_its_name() -> None:
    model = loud_llama()
    spare = model.model.embed_tokens.weight

    def forget(module: nn.Module, given: Any) -> None:
        spare.data[31] = 0  # no random token has the last id

    model.model.register_forward_pre_hook(forget)
    model.lm_head.weight = nn.Parameter(spare.detach().clone())
    model.config.tie_word_embeddings = False
    before = spare.detach().clone()
    with pytest.raises(
        UnsupportedModelError, match=r"changes its weight 'model.embed_tokens.weight', so it is not one"
    ):
        growth.widen(model, width=2)
    assert torch.equal(spare, before)


def test_which_gradient_an_embedding_gets_is_kept() -> None:
    model = llama(tied=False)
    model.model.embed_tokens.padding_idx = 5
    model.model.embed_tokens.scale_grad_by_freq = True
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    step(model, optimizer, 2)
    grown = growth.widen(model, width=2, symmetry="none", optimizer=optimizer)
    assert grown.model.model.embed_tokens.padding_idx == 5 and not grown.proof.run.unseen  # type: ignore[union-attr]
    step(model, optimizer, 3)
    step(grown.model, grown.optimizer, 3)  # type: ignore[arg-type]
    ids = torch.arange(3, 12)[None]
    assert torch.allclose(model(input_ids=ids).logits, grown.model(input_ids=ids).logits, atol=1e-5)


def test_parameters_in_the_same_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama(tied=False)
    model.lm_head.weight.data = model.model.embed_tokens.weight.data
    says = (
        r"'model.embed_tokens.weight' and 'lm_head.weight' .* same memory.* Tie them .*\(lm_head.weight = model.embed"
    )
    with pytest.raises(UnsupportedModelError, match=says):
        growth.widen(model, width=2)
    model.lm_head.weight.data = model.lm_head.weight.data.clone()
    assert growth.widen(model, width=2).model.config.hidden_size == 48
    layer = model.model.layers[0].mlp
    layer.up_proj.weight.data = model.model.embed_tokens.weight.data[5:25]
    with pytest.raises(
        UnsupportedModelError, match=r"up_proj.weight' .* part\. Give 'model.layers.0.mlp.up_proj.weight'"
    ):
        growth.widen(model, width=2)
    monkeypatch.setattr(shared_memory, "_overlap", lambda one, other: False)
    assert growth.widen(model, width=2).model.config.hidden_size == 48


def test_parts_of_a_fused_matrix_are_fine() -> None:
    model = llama(tied=False)
    layer = model.model.layers[0].mlp
    rows, columns = torch.randn(40, 24), torch.randn(20, 48)
    layer.gate_proj.weight.data, layer.up_proj.weight.data = rows.split(20)
    layer = model.model.layers[1].mlp
    layer.gate_proj.weight.data, layer.up_proj.weight.data = columns.split(24, dim=1)
    assert growth.widen(model, width=2).model.config.hidden_size == 48


def test_layers_that_were_taken_out_leave_gaps_in_their_numbers() -> None:
    model = llama()
    model.model.layers = model.model.layers[1:]
    model.config.num_hidden_layers = 1
    run = growth.widen(model, width=2).proof.run
    assert run is not None and run.unseen == ("model.layers.0.self_attn.layer_idx is 1, by the config 0",)


def test_what_is_done_to_models_after_loading_passes() -> None:
    """A padding id in the config, a vocabulary that was resized: the class keeps the old numbers."""
    model = llama()
    model.config.pad_token_id = 3
    run = growth.widen(model, width=2).proof.run
    assert run is not None and run.unseen == ("model.padding_idx is None, by the config 3",)
    model.resize_token_embeddings(40)
    run = growth.widen(model, width=2).proof.run
    assert run is not None and run.unseen[-1] == "model.vocab_size is 32, by the config 40"
    gemma = class_of(raw := small_config("gemma", "GemmaForCausalLM", {}))._from_config(config_to_build(raw))
    gemma.config.pad_token_id = 3
    grown = growth.widen(gemma, width=2).model
    assert grown.model.embed_tokens.padding_idx == gemma.model.embed_tokens.padding_idx != 3


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=label)
def test_honest_models_are_not_refused_after_use(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    """New, trained, after ``generate`` and in 16 bits; and no run changes any tensor."""
    raw = small_config(model_type, model_class, branch)
    model = class_of(raw)._from_config(config_to_build(raw), experts_implementation="eager")
    loud(model)
    inputs = next(iter(few_inputs(model)))
    _unchanged(model, inputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    outputs = model.train()(**inputs, output_hidden_states=True).values()
    sum(value.square().mean() for value in outputs if isinstance(value, torch.Tensor) and value.grad_fn).backward()
    optimizer.step()
    model.eval()
    if model.can_generate() and model_type != "xlnet":  # whose generate fails in transformers 5
        model.generate(
            **{name: value for name, value in inputs.items() if not name.startswith("decoder")}, max_length=14
        )
    _unchanged(model, inputs)
    _unchanged(model.half(), inputs)


def _unchanged(model: Any, inputs: Any) -> None:
    same, _ = same_by_config(model, Config({**model.config.to_dict(), "architectures": [type(model).__name__]}))
    share_weights(same, model)
    tensors = [*model.parameters(), *model.buffers()]
    before = [value._version for value in tensors]
    trial = try_model(model, same)
    assert trial.own == 0 and not trial.unseen and [value._version for value in tensors] == before
