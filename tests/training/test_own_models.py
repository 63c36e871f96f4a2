"""Modules that nobody registered, grown in memory by the declarations that are inferred."""

from __future__ import annotations

import copy
import gc
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
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
from growth.architectures import (
    FFN,
    RESIDUAL,
    Architecture,
    Copied,
    Keeps,
    Linear,
    Size,
    as_python,
    convolution,
    feed_forward,
    linear,
    registry,
)
from growth.architectures.registry import known
from growth.hf.configs import Config
from growth.hf.custom_modules import WRAPPERS
from growth.hf.own_inputs import Features, Given, Made, OwnInputs, Tokens, found_inputs
from growth.hf.own_modules import OwnWrapper
from growth.infer.infer import infer
from growth.plan.plan import TOLERANCE
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import loud
from growth.training import own_models
from support import own_models as models
from support.own_models import DECODER_CONFIG, GPT, Decoder, GPTConfig, Selective, selective_config

BY_HAND: dict[type, Architecture] = {
    GPT: models.GPT_DECLARED,
    Decoder: models.DECODER_DECLARED,
    Selective: models.SELECTIVE_DECLARED,
}
DECLARED: dict[type, Architecture] = {}
"""What a test has declared; all else is inferred."""


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, type[OwnWrapper], OwnInputs]]]:
    """What a declaration was asked for."""
    found: list[tuple[Any, type[OwnWrapper], OwnInputs]] = []

    def declare(raw: Mapping[str, Any], kind: type[OwnWrapper]) -> Architecture:
        found.append((Config(raw).parsed, kind, kind.inputs))
        return DECLARED.get(kind.module_class) or infer(raw, kind)

    monkeypatch.setattr(own_models, "infer", declare)
    yield found


def ready(model: Any) -> Any:
    """A module with loud float64 weights."""
    model = model.double()
    loud(model)
    return model


def gpt(**fields: Any) -> Any:
    return ready(GPT(GPTConfig(**fields)))


def decoder() -> Any:
    return ready(Decoder(**DECODER_CONFIG))


def selective(**fields: Any) -> Any:
    return ready(Selective(selective_config(**fields)))


def ids(seed: int = 0) -> Tensor:
    return torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(seed))


def signal(seed: int = 0) -> Tensor:
    return torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_signal(config: Any) -> dict[str, Any]:
    return {"signal": torch.randn(2, 6, config.features), "scale": 0.5}


Case = tuple[Callable[[], Any], dict[str, Any], Callable[[int], Tensor], Callable[[Any], Tensor]]
CASES: dict[str, Case] = {
    "a dataclass": (gpt, {}, ids, lambda output: output[0]),
    "keywords": (
        decoder,
        {"config": DECODER_CONFIG, "build": lambda config: Decoder(**config)},
        ids,
        lambda output: output,
    ),
    "floats": (selective, {"inputs": (signal().float(),)}, signal, lambda output: output["classes"]),
}
"""How to make it, what growth.widen is told, inputs, and the output."""


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
    grown = growth.widen(model, optimizer=optimizer, hyper=hyper, **told)
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


# What is wrong, and how it is said.

WRONG: Mapping[str, tuple[Callable[[], Any], str]] = {
    "no config": (lambda: growth.widen(nn.Linear(2, 2)), "Linear has no config (module.config), from which a wider"),
    "a config without fields": (lambda: growth.widen(gpt(), config=3), "not 3, which has no fields by name."),
    "another model's config": (
        lambda: growth.widen(gpt(), config=GPTConfig(n_embd=48)),
        "GPT(config): 'transformer.wte.weight' has shape [50, 48], not [50, 24]",
    ),
    "too few fields": (
        lambda: growth.widen(decoder(), config={"dim": 24}),
        "cannot be built from its config (Decoder(config): TypeError: ",
    ),
    "more layers than there are": (
        lambda: growth.widen(gpt(), config=GPTConfig(n_layer=4)),
        "it makes 'transformer.h.3.ln_1.weight', which this module has not",
    ),
    "fewer layers than there are": (
        lambda: growth.widen(gpt(), config=GPTConfig(n_layer=2)),
        "it makes no 'transformer.h.2.ln_1.weight'",
    ),
    "a builder of another class": (
        lambda: growth.widen(decoder(), config=DECODER_CONFIG, build=lambda config: gpt()),
        "build(config) does not make this Decoder: it makes a GPT. Correct build=, or the config.",
    ),
    "a builder that fails": (
        lambda: growth.widen(decoder(), config=DECODER_CONFIG, build=lambda config: config.dim),
        "build(config) does not make this Decoder: it fails (AttributeError: ",
    ),
    "inputs of another type": (
        lambda: growth.widen(gpt(), inputs=(torch.zeros(2, 3),)),
        "GPT cannot be run on these inputs (RuntimeError: ",
    ),
    "inputs that are none": (lambda: growth.widen(gpt(), inputs=3), "that makes one, not 3. Give one of them."),
    "a function that fails": (
        lambda: growth.widen(gpt(), inputs=lambda config: config.missing),
        "GPT cannot be run on these inputs (AttributeError: ",
    ),
    "a model of transformers": (
        lambda: growth.widen(LlamaForCausalLM(LlamaConfig(**SMALL)), config=GPTConfig()),
        "and LlamaForCausalLM is a class of transformers. Leave them out; verify_inputs= is a batch to run it on.",
    ),
    "a comparison on text": (
        lambda: growth.check_equivalence(*[growth.widen(gpt()).model] * 2, text="It is a truth"),
        "GPT has no tokenizer, or its tokenizer makes fewer than two tokens of this text. Leave the text out.",
    ),
}
SMALL: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}


@pytest.mark.parametrize("call, says", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(growth.GrowthError, match=re.escape(says)) as caught:
        call()
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_declaration_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One law is another in each: each is refused by the twin, at the module where it shows."""
    make, told, _, _ = CASES[name]
    model = make()
    right = BY_HAND[type(model)]
    laws = {
        "a dataclass": {FFN: Linear()},
        "keywords": {FFN: Linear()},
        "floats": {models.INNER: Linear()},
    }[name]
    wrong = replace(right, laws={**right.laws, **laws}, epsilon=1e-30)
    monkeypatch.setitem(DECLARED, type(model), wrong)
    telling = {"inputs": (lambda config: random_signal(config)) if name == "floats" else ids(), "config": None, **told}
    with pytest.raises(growth.ProofError, match="the first module whose output is wrong is '"):
        growth.widen(model, width=2, scaling="orthogonal", **telling)


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


def test_inputs_that_are_chosen(asked: list[Any]) -> None:
    growth.widen(gpt(block_size=7))  # 11 tokens are too many
    growth.widen(selective(features=6))
    growth.widen(selective(features=4), inputs=random_signal)
    found = [each[2] for each in asked]
    assert found == [Tokens("idx", 5), Features("signal", True), Made(random_signal, ("signal",))]


class Inner(nn.Module):
    """A part of a model: its inputs are as wide as what it grows."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.up, self.down = nn.Linear(config["width"], config["inner"]), nn.Linear(config["inner"], config["width"])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu())


class Image(nn.Module):
    """It begins with a convolution, has a norm with a memory, and takes its inputs as they come."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, config["width"], 3)
        self.head = nn.Linear(config["width"], 10)

    def forward(self, *images: Tensor, shift: float = 0.0) -> Tensor:
        logits: Tensor = self.head(self.conv(self.norm(sum(images)) + shift).tanh().mean((2, 3)))
        return logits


def test_parts_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = feed_forward(("up",), "down", reads=RESIDUAL, writes=RESIDUAL)
    sizes = {"hidden_size": Size("width", small=9), "intermediate_size": Size("inner", small=11)}
    laws = {RESIDUAL: Linear(), FFN: Copied()}
    declared = Architecture("inner", modules=rules, laws=laws, sizes=sizes, outputs={"logits": RESIDUAL})
    monkeypatch.setitem(DECLARED, Inner, declared)
    model = Inner({"width": 8, "inner": 12})
    with pytest.raises(growth.UnsupportedModelError, match="where an input has a dimension that grows, the module is"):
        growth.widen(model)
    grown = growth.widen(model, intermediate_size=36)
    x = torch.randn(4, 8)
    assert grown.config["inner"] == 36 and torch.allclose(grown.model(x), model(x), atol=1e-6)


@pytest.mark.parametrize("inputs", ["zeros", "two", "named", "function"])
def test_images(inputs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: (Keeps(),) for name in ("weight", "bias", "running_mean", "running_var")}
    modules = {
        "norm": {**kept, "num_batches_tracked": ()},
        "conv": convolution(None, FFN, kernel=2),
        "head": linear(FFN),
    }
    sizes = {"intermediate_size": Size("width", small=9)}
    declared = Architecture("image", modules=modules, laws={FFN: Copied()}, sizes=sizes)
    monkeypatch.setitem(DECLARED, Image, declared)
    model, image = ready(Image({"width": 8})), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    model.train()(image)  # its norm remembers
    with pytest.raises(growth.UnsupportedModelError, match=r"Image begins with Conv2d.* Give inputs: growth.widen\("):
        growth.widen(model)
    given: Any = {
        "zeros": torch.zeros(1, 3, 6, 6),
        "two": (image, image + 1),
        "named": {"input_0": image, "shift": 0.5},
        "function": lambda config: [torch.randn(2, 3, 5, 5) * config["width"]],
    }[inputs]
    grown = growth.widen(model, width=1.5, inputs=given)
    assert grown.proof.run is not None and "input_0" in grown.proof.run.inputs
    wide = grown.model.eval()
    with exact_arithmetic(), torch.no_grad():
        assert float((wide(image) - model.eval()(image)).abs().max()) <= TOLERANCE
    monkeypatch.setitem(DECLARED, Image, replace(declared, laws={FFN: Linear()}))
    with pytest.raises(growth.ProofError):
        growth.widen(ready(Image({"width": 10})), inputs=given, scaling="orthogonal")


def test_several_inputs_have_to_be_given() -> None:
    class Two(Selective):
        def forward(self, signal: Tensor, other: Tensor) -> Any:  # type: ignore[override]
            return super().forward(signal + other)

    with pytest.raises(growth.UnsupportedModelError, match=r"Two takes several inputs \(signal, other\). Give inputs"):
        growth.widen(Two(selective_config()))


def test_a_miniature_keeps_what_the_inputs_need() -> None:
    """Token 49 is not in the vocabulary of 41 that a miniature has otherwise."""
    last = torch.full((1, 5), 49)
    assert growth.widen(gpt(n_embd=36), inputs=last).proof.twin.ok


def test_a_mask_hides_the_end_of_a_row() -> None:
    class Masked(GPT):  # type: ignore[misc]
        def forward(self, idx: Tensor, attention_mask: Tensor | None = None) -> Any:
            logits = super().forward(idx)[0]
            return logits if attention_mask is None else logits * attention_mask[..., None]

    (inputs, *_) = found_inputs(Masked(GPTConfig()))
    drawn = inputs.draw(Masked(GPTConfig()), None, batch=2, length=6, seed=0)
    assert drawn["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6] and drawn["idx"].shape == (2, 6)
