"""Registered modules with unusual features, and the refusal of those that cannot be registered or
widened."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model, save_model
from torch import Tensor, nn

import growth
from growth import architectures
from growth.architectures import registry
from growth.hf.custom_modules import named_outputs
from growth.hf.model_classes import class_is_guessed
from growth.plan.plan import TOLERANCE
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import loud
from growth.rules.norm import RESIDUAL
from support.custom_models import ODD, Odd, OddConfig, OddOutput, run_defining_cells


@pytest.fixture(autouse=True)
def notebook() -> Iterator[Any]:
    """The definitions of the notebook, with its models and ODD registered; the registry is restored
    afterwards."""
    before = dict(registry._REGISTRY)
    growth.register(ODD)
    yield run_defining_cells()
    registry._REGISTRY.clear()
    registry._REGISTRY.update(before)


def odd(**fields: Any) -> Odd:
    torch.manual_seed(0)
    model = Odd(OddConfig(**fields))
    loud(model)  # type: ignore[arg-type]
    model.blocks[1].steps += 5  # type: ignore[union-attr, operator]
    return model.eval()


def save(model: nn.Module, folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_model(model, str(folder / "model.safetensors"))
    return folder


@pytest.mark.parametrize("attention", ["heads", "head-dim"])
def test_tuples_masks_buffers_and_fields_of_other_names(attention: str, tmp_path: Path) -> None:
    model = odd().double()
    model.blocks[0].gradient_checkpointing = True  # type: ignore[union-attr, assignment]
    grown = growth.widen(model, attention=attention, noise=0.2)
    wide = grown.model
    assert (
        isinstance(wide, Odd)
        and wide.config.head_size == (5 if attention == "heads" else 10)
        and wide.config.betas == (0.9, 0.95)
    )
    assert wide.head.weight is wide.tokens.weight and wide.blocks[0].gradient_checkpointing
    for kept in ("future", "causal", "steps"):
        assert torch.equal(getattr(wide.blocks[1], kept), getattr(model.blocks[1], kept))
    ids, mask = torch.randint(0, 37, (2, 13), generator=torch.Generator().manual_seed(0)), torch.ones(2, 13)
    mask[0, 9:] = 0
    with exact_arithmetic(), torch.no_grad():
        before, after = model(ids, attention_mask=mask), wide(ids, attention_mask=mask)
        assert float((before.logits - after.logits).abs().max()) <= TOLERANCE
        stream, (one, other) = torch.cat([before.hidden_states[1]] * 2, -1), after.hidden_states[2].chunk(2, -1)
        assert float((stream - after.hidden_states[1]).abs().max()) <= TOLERANCE
        assert (
            float((before.hidden_states[2] - one - other).abs().max()) <= TOLERANCE < float((one - other).abs().max())
        )
    report = growth.check_equivalence(model.float(), wide.float(), plan=grown.plan, tokens=10)
    assert report.equal and report.diverges_at is None and report.outputs == ("logits",)


def test_a_folder_whose_config_leaves_defaults_out_and_spells_what_is_computed(tmp_path: Path) -> None:
    model = odd()
    small = save(model, tmp_path / "small", model_type="odd", head_size=5)
    done = growth.widen_checkpoint(small, tmp_path / "wide", attention="head-dim", dtype="bfloat16")
    assert done.proof.fold.ok and done.proof.twin.difference <= TOLERANCE
    raw = json.loads((tmp_path / "wide" / "config.json").read_text())
    assert raw == {"model_type": "odd", "head_size": 10, "n_embd": 40}
    written = load_file(tmp_path / "wide" / "model.safetensors")
    assert {
        name.rpartition(".")[2]: written[name].dtype
        for name in written
        if "blocks.0" in name and written[name].ndim != 1
    } == {
        "weight": torch.bfloat16,
        "future": torch.bfloat16,
        "causal": torch.bool,
        "steps": torch.int64,
    }
    wide = Odd(OddConfig(n_embd=40))
    load_model(wide, tmp_path / "wide" / "model.safetensors")
    assert int(wide.blocks[1].steps) == 12  # type: ignore[union-attr, arg-type]
    assert growth.check_equivalence(small, tmp_path / "wide", tokens=10).equal


def test_buffers_that_the_constructor_makes_are_left_out(tmp_path: Path) -> None:
    buffers = ("blocks.*.future", "blocks.*.causal", "blocks.*.steps")
    modules = {name: rule for name, rule in ODD.modules.items() if name != "blocks.*"}
    growth.register(replace(ODD, buffers=buffers, modules=modules))
    model = odd()
    assert int(growth.widen(model).model.blocks[1].steps) == 7  # type: ignore[union-attr, arg-type, index]
    small = save(model, tmp_path / "small", model_type="odd")
    growth.widen_checkpoint(small, tmp_path / "wide")
    assert not any("blocks.1.steps" in name for name in load_file(tmp_path / "wide" / "model.safetensors"))
    assert growth.check_equivalence(small, tmp_path / "wide", tokens=10).equal
    growth.register(replace(ODD, modules=modules))
    refused(
        lambda: growth.widen(model),
        "no rule of 'odd' matches tensor 'blocks.0.future'. Add one, or name it in 'buffers' if the "
        "constructor makes it.",
    )


def test_shared_layers_stay_shared(notebook: Any) -> None:
    class Universal(notebook.DeepNorm):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.blocks = nn.Sequential(*[self.blocks[0]] * config.num_hidden_layers)

    modules = {**notebook.DEEPNORM.modules, "head": notebook.linear(RESIDUAL)}
    growth.register(
        replace(notebook.DEEPNORM, model_type="universal", module_class=Universal, for_config=None, modules=modules)
    )
    wide = growth.widen(Universal(notebook.DeepNormConfig(tied=False)), noise=0.2).model
    assert wide.blocks[0] is wide.blocks[2]  # type: ignore[index]


@dataclass
class Plain:
    logits: Tensor
    loss: Tensor | None = None


def test_outputs_have_names() -> None:
    x, y = torch.zeros(2, 3), torch.ones(1)
    for result, names in (
        (x, {"logits"}),
        ((x, None, [y]), {"output_0"}),
        ({"a": x, "b": (x, y)}, {"a"}),
        (OddOutput(x, None, [x, y], [y]), {"logits", "hidden_states.0", "hidden_states.1"}),
        (Plain(x), {"logits"}),
        ("text", set()),
        (None, set()),
    ):
        assert named_outputs(result, ("hidden_states",)).keys() == names, result


def refused(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(growth.GrowthError, match=re.escape(says)) as caught:
        call()
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@dataclass
class NoDefault:
    hidden_size: int


@dataclass
class Dtyped:
    dtype: str = "float32"


@dataclass
class Nested:
    inner: OddConfig = field(default_factory=OddConfig)


class LlamaForCausalLM(nn.Module):
    pass


class Fresh(nn.Module):
    pass


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"config_class": None},
            "the declaration of 'fresh' must name a module_class (it is Fresh) and a config_class that is a dataclass "
            "(it is missing). Name both.",
        ),
        ({"config_class": dict}, "a config_class that is a dataclass (it is dict). Name both."),
        ({"module_class": None}, "must name a module_class (it is missing)"),
        ({"config_class": NoDefault}, "NoDefault has fields without a default"),
        (
            {"config_class": Dtyped},
            "Dtyped has a field 'dtype', a name that every transformers config uses already. Rename the field.",
        ),
        ({"config_class": Nested}, "field 'inner' of Nested is OddConfig("),
        (
            {"module_class": LlamaForCausalLM},
            "module_class LlamaForCausalLM has the name of a transformers class. Rename yours.",
        ),
        ({"module_class": Odd}, "Odd is already registered as 'odd'. Use that model_type."),
        ({"model_type": "llama"}, "model_type 'llama' is one of transformers' own. Use another name."),
    ],
)
def test_what_cannot_be_registered(changes: dict[str, Any], says: str) -> None:
    fresh = {"model_type": "fresh", "module_class": Fresh, "config_class": OddConfig}
    refused(lambda: growth.register(replace(ODD, **{**fresh, **changes})), says)
    assert "fresh" not in architectures.known()


def test_what_cannot_be_widened(notebook: Any, tmp_path: Path) -> None:
    model = odd()
    for call in (growth.widen, lambda module: growth.check_equivalence(module, module)):
        refused(lambda call=call: call(nn.Linear(2, 2)), "growth.register")  # type: ignore[misc]
    refused(
        lambda: growth.widen(odd(activation="relu")),
        "config field 'activation' is 'relu', which the 'odd' declaration does not support",
    )
    assert growth.widen(odd(activation="relu"), vouch=["activation"]).proof.twin.ok
    refused(lambda: growth.widen(model, scaling="orthogonal"), "the code fixes 1e-05. Use --scaling unit")
    refused(
        lambda: growth.plan_widening(NoDefault(3)),
        "NoDefault is the config of no registered module. Use growth.register.",
    )  # type: ignore[arg-type]
    again = type("Odd", (Odd,), {})(OddConfig())
    refused(
        lambda: growth.widen(again),
        "the class of this Odd is not the class Odd that was registered, as happens when its definition runs again. "
        "Register the new class.",
    )
    model.config = notebook.SimplifiedConfig()
    refused(
        lambda: growth.widen(model),
        "Odd.config is SimplifiedConfig, but must be the OddConfig that was registered. Set self.config",
    )
    del model.config
    refused(lambda: growth.widen(model), "Odd.config is missing, but must be the OddConfig")
    small = save(odd(), tmp_path / "small", model_type="odd", architectures=["Simplified"])
    refused(lambda: growth.plan_widening(small), "'odd' is registered with Odd. Correct config.json.")


def test_what_a_module_does_wrong() -> None:
    growth.register(replace(ODD, outputs={}, twin=lambda config, layers: {}))
    refused(lambda: growth.widen(odd(block_size=8)), "Odd failed on token ids of shape [2, 11] below")
    refused(
        lambda: growth.check_equivalence(odd(), odd()),
        "Use fewer tokens, and call the config's fields vocab_size and max_position_embeddings",
    )
    growth.register(replace(ODD, outputs={"hidden_states": RESIDUAL}))
    refused(lambda: growth.widen(odd()), "Correct its space in the declaration's 'outputs'.")

    class Reads(Odd):
        def __init__(self, config: OddConfig) -> None:
            super().__init__(config)
            self.rate = torch.linspace(0, 1, 3)[1].item()

    growth.register(replace(ODD, model_type="reads", module_class=Reads))
    refused(
        lambda: growth.widen(Reads(OddConfig())),
        "and that the constructor reads the value of no tensor (item, tolist).",
    )

    class Silent(Odd):
        def forward(self, ids: Tensor) -> str:  # type: ignore[override]
            return "nothing"

    growth.register(replace(ODD, model_type="silent", module_class=Silent))
    refused(
        lambda: growth.widen(Silent(OddConfig())),
        "Silent returns no floating-point tensor, so there is nothing to compare. Return logits",
    )


def test_a_registered_type_has_one_class_and_needs_no_guess() -> None:
    assert not class_is_guessed({"model_type": "odd"}) and class_is_guessed({"model_type": "llama"})
