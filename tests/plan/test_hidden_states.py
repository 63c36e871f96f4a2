"""The last hidden state: equal where the caller asks for it, divided by a number that the plan says
where not, and its cosines."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import growth
from growth import architectures
from growth.algebra.derived_laws import Dual, Scaled
from growth.algebra.maps import Map
from growth.errors import IllegalGrowthError
from growth.hf.configs import Config
from growth.hf.model_classes import class_of
from growth.plan import build
from growth.plan.build import plan_config
from growth.plan.hidden_states import LAST, keeps_directions
from growth.plan.options import Options
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.inputs import random_inputs
from growth.proof.miniature import VOCABULARY
from growth.proof.outputs import forward
from growth.proof.twin import _pair, twin_report
from support.families import exact
from support.family_cases import small_config

exactly = pytest.fixture(exact, autouse=True)


def divided_by_law(model_type: str) -> bool:
    declared = architectures.find(model_type)
    return isinstance(declared.laws.get(declared.outputs.get(LAST)), (Dual, Scaled))  # type: ignore[arg-type]


DECODERS = [model_type for model_type in architectures.known() if divided_by_law(model_type)]


def hidden_states(raw: dict[str, Any], **choice: Any) -> tuple[Tensor, Tensor, Plan]:
    """The last hidden states of the twin and of the grown twin."""
    config, options = Config.of(raw), Options(**choice)
    real = plan_config(config, options)
    twin, grown, plan = _pair(config, options, real.declared, (real.old_sizes, real.new_sizes))
    inputs = random_inputs(twin, VOCABULARY)
    before, after = forward(twin, inputs), forward(grown, inputs)
    return before[LAST], after[LAST], plan


def base_class(model_type: str) -> str:
    return class_of({"model_type": model_type}).__name__


def test_every_kind_of_decoder_is_looked_at() -> None:
    assert len(DECODERS) > 40 and {"llama", "bart", "t5", "gemma2", "cohere", "granite", "gpt2"} <= set(DECODERS)


QUICK = ("llama", "gemma2", "gpt2", "opt", "bart", "mbart", "t5", "xlnet", "bloom", "deepseek_v3")


@pytest.mark.parametrize(
    "model_type", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in DECODERS]
)
def test_a_model_without_a_head_keeps_its_last_hidden_state(model_type: str) -> None:
    raw = small_config(model_type, base_class(model_type), dict(architectures.find(model_type).branches[0]))
    choice = {"width": 2, "symmetry": "noise:0.4"}
    old, new, plan = hidden_states(raw, **choice, last_hidden_state="equal")
    assert (new - torch.cat([old, old], -1)).abs().max() <= TOLERANCE
    assert "last hidden state equal" in repr(plan)
    old, new, plan = hidden_states(raw, **choice)
    told = re.findall(r"comes out times ([\d.]+)", "\n".join(plan.notes))
    assert len(told) == (model_type != "deepseek_v3")  # which halves the stream, for a norm of another size
    factor = float(told[0]) if told else 1.0
    assert (new - factor * torch.cat([old, old], -1)).abs().max() <= 1e-3 * float(old.abs().max())
    assert (factor != 1) == bool(told)


UNTIED = {
    "llama": "LlamaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "cohere": "CohereForCausalLM",
    "granite": "GraniteForCausalLM",
    "bart": "BartForConditionalGeneration",
    "gpt_neox": "GPTNeoXForCausalLM",
}


@pytest.mark.parametrize("width", [1.5, 3])
@pytest.mark.parametrize("model_type", UNTIED)
def test_an_untied_head_reads_an_equal_last_hidden_state(model_type: str, width: float) -> None:
    raw = small_config(model_type, UNTIED[model_type], {}, tied=False)
    if model_type == "bart" and width == 1.5:
        width = 2
    options = Options(width=width, symmetry="noise:0.4", last_hidden_state="equal")
    assert twin_report(raw, options).difference <= TOLERANCE
    plan = plan_config(raw, options)
    grown = plan.maps[plan.architecture.outputs[LAST]]
    assert keeps_directions(grown) and (grown.write == 1).any()
    assert (grown.write[grown.write != 0] == 1).all() == (
        width != 1.5 or not model_type.startswith(("l", "gemma", "gr"))
    )


def test_a_reader_that_is_not_told_does_not_pass_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm writes the last hidden state times 1, the head reads as if it were divided."""
    tensor = build.planned_tensor

    def not_told(name: str, *arguments: Any) -> Any:
        (shape, architecture, roles, maps, *others) = arguments
        if name == "lm_head.weight":
            laws = architecture.laws
            maps = {
                space: maps[laws[space].of].dual if isinstance(laws[space], Dual) else maps[space] for space in maps
            }
        return tensor(name, shape, architecture, roles, maps, *others)

    monkeypatch.setattr(build, "planned_tensor", not_told)
    raw = small_config("llama", "LlamaForCausalLM", {}, tied=False)
    assert twin_report(raw, Options(width=2, last_hidden_state="equal")).difference > 1e-3
    assert twin_report(raw, Options(width=2)).difference <= TOLERANCE


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [("llama", "LlamaForCausalLM"), ("t5", "T5ForConditionalGeneration"), ("gpt2", "GPT2LMHeadModel")],
)
def test_a_tied_head_is_refused_and_the_way_out_works(model_type: str, kind: str) -> None:
    raw = small_config(model_type, kind, {}, tied=True)
    options = Options(width=2, last_hidden_state="equal")
    with pytest.raises(IllegalGrowthError, match=r"ties its head .*AutoModel.from_pretrained"):
        plan_config(raw, options)
    base = raw | {"architectures": [base_class(model_type)]}
    assert twin_report(base, options).difference <= TOLERANCE


def notes(model_type: str, kind: str, **choice: Any) -> str:
    plan = growth.plan_widening(
        small_config(model_type, kind, dict(architectures.find(model_type).branches[0])), **choice
    )
    return "\n".join(note for note in plan.notes if "hidden" in note or "cosines" in note)


def test_what_changes_cosines_is_said() -> None:
    told = notes("t5", "T5EncoderModel", width=1.5)
    assert re.match(r"cosines between vectors of 'last_hidden_state' change, since at \d+ -> \d+ some", told), told
    assert "--last-hidden-state equal or a whole multiple" in told
    assert not notes("t5", "T5EncoderModel", width=1.5, last_hidden_state="equal")
    assert not notes("t5", "T5EncoderModel", width=2)
    assert "'pooler_output' change" in notes("esm", "EsmModel", width=1.5)
    assert not notes("llama", "LlamaForCausalLM", width=1.5) and not notes("bert", "BertModel", width=2)
    assert "comes out times 0.5" in notes("marian", "MarianModel") and not notes("marian", "MarianMTModel")


def test_a_choice_without_effect_is_said() -> None:
    equal = {"width": 2, "last_hidden_state": "equal"}
    assert "changes nothing here: it is equal anyway" in notes("bert", "BertModel", **equal)
    assert "changes nothing here: a CLIPModel has no last hidden state" in notes("clip", "CLIPModel", **equal)
    alone = {"intermediate_size": 64, "last_hidden_state": "equal"}
    assert "changes nothing here: it does not grow" in notes("llama", "LlamaModel", **alone)


def test_directions() -> None:
    assert keeps_directions(Map.repeat(3, 6, 0.5)) and not keeps_directions(Map.repeat(3, 4))
