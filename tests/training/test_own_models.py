"""Modules that nobody registered, grown in memory by the declarations that are inferred."""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import LlamaConfig, LlamaForCausalLM

import growth
from growth.architectures import as_python, registry
from growth.architectures.registry import known
from growth.hf.custom_modules import WRAPPERS
from growth.hf.own_inputs import Given, Tokens
from growth.plan.plan import TOLERANCE
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import loud
from support.own_cases import CASES, decoder, gpt, ids, ready, selective
from support.own_models import DECODER_CONFIG, GPT, Decoder, GPTConfig, selective_config


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("choices", [{"noise": 1.0}, {"width": 3}, {"symmetry": "split:1/2"}])
def test_the_outputs_stay(name: str, choices: dict[str, Any]) -> None:
    make, told, inputs, output = CASES[name]
    model = make()
    grown = growth.widen(model, **told, **choices)
    assert type(grown.model) is type(model) and grown.proof.twin.difference <= TOLERANCE
    assert grown.plan.parameters(new=True) == sum(weight.numel() for weight in grown.model.parameters())
    with exact_arithmetic(), torch.no_grad():
        before, after = output(model(inputs(3))), output(grown.model(inputs(3)))
        assert float((before - after).abs().max()) <= TOLERANCE < float(before.std())


@pytest.mark.parametrize("hyper", ["preserve", "keep"])
@pytest.mark.parametrize("name", CASES)
def test_training_goes_on_as_it_was(name: str, hyper: Any) -> None:
    """Steps of AdamW before growth, then of both: the losses stay equal, and with settings that were
    kept as they are they do not."""
    make, told, inputs, output = CASES[name]
    model = make()
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)

    def step(model: Any, optimizer: Any, number: int) -> Tensor:
        optimizer.zero_grad()
        found = output(model(inputs(number)))
        loss = F.cross_entropy(found.flatten(0, -2), torch.arange(found[..., 0].numel()) % found.shape[-1])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    first = step(model, optimizer, 0)
    for number in range(1, 4):
        step(model, optimizer, number)
    grown = growth.widen(model, optimizer=optimizer, hyper=hyper, symmetry="none", **told)
    pairs = [
        (float(step(model, optimizer, number)), float(step(grown.model, grown.optimizer, number)))
        for number in range(4, 10)
    ]
    apart = max(abs(one - other) for one, other in pairs)
    assert (apart <= 1e-8) == (hyper == "preserve") and abs(float(first) - pairs[-1][0]) > 1e-3


def test_the_config_grows_and_is_of_the_same_kind() -> None:
    grown = growth.widen(gpt())
    assert grown.config is grown.model.config and grown.config == GPTConfig(n_embd=48, n_head=8)
    grown = growth.widen(decoder(), config=DECODER_CONFIG)  # its class takes the fields as keywords
    assert grown.config == {**DECODER_CONFIG, "dim": 48, "heads": 8, "hidden": 80} and type(grown.config) is dict
    assert not hasattr(grown.model, "config") and grown.model.act is F.gelu
    grown = growth.widen(selective(act=nn.GELU))
    assert isinstance(grown.config, SimpleNamespace) and grown.config == selective_config(width=32, act=nn.GELU)
    assert selective_config() == selective_config() and DECODER_CONFIG["dim"] == 24  # the caller's stay


def test_what_is_kept_of_the_module() -> None:
    model = GPT(GPTConfig(dropout=0.1)).to(torch.bfloat16)
    model.transformer["h"][1].eval()  # type: ignore[index]
    model.transformer["wpe"].weight.requires_grad_(False)
    model.transformer["drop"].p = 0.3  # type: ignore[assignment]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        wide: Any = growth.widen(model, noise=1.0).model
        assert torch.equal(torch.rand(1), expected)
    assert {weight.dtype for weight in wide.parameters()} == {torch.bfloat16}
    assert wide.training and not wide.transformer["h"][1].training and wide.transformer["h"][0].training
    assert [name for name, weight in wide.named_parameters() if not weight.requires_grad] == ["transformer.wpe.weight"]
    assert wide.transformer["drop"].p == 0.3 and wide.lm_head.weight is wide.transformer["wte"].weight
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_grown_module_grows_again_without_being_told_how() -> None:
    model = decoder()
    first = growth.widen(model, config=DECODER_CONFIG, build=lambda config: Decoder(**config), inputs=(ids(),))
    second = growth.widen(first.model, width=2, noise=0.5)
    assert second.config["dim"] == 96 and second.config["heads"] == 16
    deeper = growth.widen(second.model, layers=5)
    with exact_arithmetic(), torch.no_grad():
        for wide in (first, second):
            assert float((model(ids(1)) - wide.model(ids(1))).abs().max()) <= TOLERANCE
        assert torch.equal(deeper.model(ids(1)), second.model(ids(1))) and deeper.config["layers"] == 5
    with pytest.raises(growth.UnsupportedModelError, match="Decoder has no config"):
        growth.widen(copy.deepcopy(first.model))  # what is remembered is that module


def test_modules_are_forgotten_with_the_caller() -> None:
    model = gpt()
    gone = weakref.ref(growth.widen(model).model)
    gc.collect()
    assert gone() is None
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.slow
def test_a_declaration_is_asked_for_once(asked: list[Any]) -> None:
    model = gpt(n_embd=28)
    for _ in range(2):
        grown = growth.widen(model)
    growth.widen(gpt(n_embd=28))
    assert len(asked) == 1
    config, kind, inputs = asked[0]
    assert config.n_embd == 28 and kind.module_class is GPT and inputs == Tokens("idx", 11)
    assert config.to_own() == model.config and isinstance(kind._from_config(config).module, GPT)  # type: ignore[attr-defined]
    growth.widen(grown.model)
    growth.widen(gpt(n_embd=28), inputs=ids())
    growth.widen(gpt(n_embd=28, bias=False))
    assert len(asked) == 4 and [type(each[2]) for each in asked] == [Tokens, Tokens, Given, Tokens]
    assert not [name for name in known() if name.startswith("own/")]


def test_two_classes_of_one_name_are_not_mixed(asked: list[Any]) -> None:
    class Other(GPT):
        """Of another function: its head reads what the last norm leaves, divided by 2."""

        def forward(self, idx: Tensor, targets: Tensor | None = None) -> Any:
            return super().forward(idx)[0] / 2

    Other.__name__ = "GPT"
    one, other = gpt(n_embd=32), ready(Other(GPTConfig(n_embd=32)))
    wide_one, wide_other = growth.widen(one), growth.widen(other)
    assert [each[1].module_class for each in asked] == [GPT, Other]
    assert len({each[0].model_type for each in asked}) == 2
    assert type(wide_one.model) is GPT and type(wide_other.model) is Other
    with exact_arithmetic(), torch.no_grad():
        assert float((wide_one.model(ids())[0] / 2 - wide_other.model(ids())).abs().max()) <= TOLERANCE
    assert str(wide_one.plan).startswith("GPT")


def test_the_helpers_of_a_training_loop() -> None:
    model = decoder()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    F.cross_entropy(model(ids()).flatten(0, 1), ids(1).flatten()).backward()  # type: ignore[no-untyped-call]
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    grown = growth.widen(model, config=DECODER_CONFIG, optimizer=optimizer)
    new = grown.new_coordinates()
    assert new.keys() == dict(grown.model.named_parameters()).keys()
    assert (
        float(new["layers.0.down.weight"].float().mean()) == 0.75 and float(new["norm.weight"].float().mean()) == 0.5
    )
    assert growth.training.clip_factor(grown, gradients) > 0
    assert grown.optimizer is not None
    growth.training.train_new_only(grown.model, grown.plan)
    # A new process: the module is built and read from a file by the caller's code.
    again = Decoder(**grown.config).double()
    again.load_state_dict(grown.model.state_dict())
    fresh, _ = growth.training.resume(again, AdamW(again.parameters(), lr=1e-3), grown.optimizer.state_dict())
    assert len(fresh.param_groups) == len(grown.optimizer.param_groups) > 1


def test_stages() -> None:
    model = gpt()

    def step(model: Any, optimizer: Any, number: int) -> float:
        optimizer.zero_grad()
        loss = model(ids(number), ids(number + 1))[1]
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    run = growth.training.staged(model, AdamW(model.parameters(), lr=1e-3), step, {1: {}, 2: {"width": 2}}, 4)
    assert [model.config.n_embd for model, *_ in run] == [24, 48, 96, 96]


def test_a_class_derived_from_one_of_transformers() -> None:
    class Mine(LlamaForCausalLM):
        """Code of one's own, with the config of transformers."""

        def forward(self, input_ids: Any = None, **more: Any) -> Any:
            output = super().forward(input_ids, **more)
            output.logits = 2 * output.logits
            return output

    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2}
    model: Any = Mine(LlamaConfig(vocab_size=50, num_hidden_layers=2, **sizes)).double().eval()
    loud(model)
    model.generation_config.max_new_tokens = 17
    wide: Any = growth.widen(model, noise=1.0).model
    assert (
        type(wide) is Mine
        and wide.generation_config.max_new_tokens == 17
        and type(wide.config) is LlamaConfig
        and wide.config.hidden_size == 48
    )
    with exact_arithmetic(), torch.no_grad():
        assert float((model(ids()).logits - wide(ids()).logits).abs().max()) <= TOLERANCE


def test_what_is_found_can_be_printed_and_registered(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = growth.widen(gpt()).plan
    text = as_python(plan.architecture)
    assert 'model_type="GPT"' in text and "GPT_DECLARED = Architecture(" in text
    names: dict[str, Any] = {}
    exec(text, names)
    assert names["GPT_DECLARED"] == replace(plan.architecture, model_type="GPT")
    for table in (WRAPPERS, registry._REGISTRY):
        monkeypatch.setitem(table, "GPT", None)  # it is as it was afterwards
        del table["GPT"]  # type: ignore[attr-defined]
    growth.register(names["GPT_DECLARED"])
    asked.clear()
    assert growth.widen(gpt(n_layer=4)).plan.architecture.model_type == "GPT" and not asked
    with pytest.raises(growth.UnsupportedModelError, match="not registered, and GPT is registered"):
        growth.widen(gpt(), inputs=ids())
