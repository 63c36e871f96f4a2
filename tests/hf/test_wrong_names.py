"""Names that nobody has: of classes, model types, config fields, families, keywords, commands. Each
refusal names the one that is meant, where one is spelled alike."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

from growth import plan_widening
from growth.errors import GrowthError, UnsupportedModelError
from growth.hf.catalogue import describe
from growth.hf.model_classes import class_of
from support.command import Grow, grow
from support.size_cases import SMALL

__all__ = ["grow"]  # a fixture

LLAMA = {"model_type": "llama", **SMALL}

WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"architectures": ["LlamaForCasualLM"]},
        "has no model class 'LlamaForCasualLM'; .*did you mean 'LlamaForCausalLM'",
    ),
    ({"architectures": ["LlamaConfig"]}, "has 'LlamaConfig', but it is no model class"),
    ({"architectures": ["AutoModelForCausalLM"]}, "has 'AutoModelForCausalLM', but it is no model class"),
    ({"architectures": ["torch"]}, "no model class"),
    ({"architectures": ["__class__"]}, "no model class"),
    ({"architectures": [""]}, "no model class"),
    (
        {"architectures": ["MistralForCausalLM"]},
        "names MistralForCausalLM, a class of model_type 'mistral', but the config's own is 'llama'",
    ),
    ({"architectures": ["BertModel"]}, "names BertModel, a class of model_type 'bert'"),
    ({"model_type": "lama"}, "does not know model_type 'lama' .did you mean 'llama'"),
    ({"model_type": "mistrall"}, "did you mean 'mistral'"),
]


@pytest.mark.parametrize(("changes", "says"), WRONG, ids=[says[:40] for _, says in WRONG])
def test_of_a_class_or_model_type(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        plan_widening({**LLAMA, **changes})


def test_a_class_that_several_model_types_share() -> None:
    assert class_of({**LLAMA, "model_type": "internlm3", "architectures": ["LlamaForCausalLM"]}).__name__
    assert class_of({"model_type": "gpt-sw3", "architectures": ["GPT2LMHeadModel"]}).__name__


def test_a_model_type_without_a_plain_class() -> None:
    with pytest.raises(UnsupportedModelError, match=r"has no plain one\. Name the class"):
        class_of(AutoConfig.for_model("encoder-decoder", encoder=LLAMA, decoder=LLAMA).to_dict())


def test_of_a_field_a_size_a_family_and_a_keyword() -> None:
    for choices, meant in (
        ({"vouch": ["mlp_bais"]}, "mlp_bias"),
        ({"sizes": {"hiden_size": 64}}, "hidden_size"),
        ({"sizes": {"num_atention_heads": 64}}, "num_attention_heads"),
        ({"attention": "head_dims"}, "head-dim"),
        ({"rope": "pair"}, "pairs"),
        ({"scaling": "orthogonl"}, "orthogonal"),
    ):
        with pytest.raises(GrowthError, match=f"did you mean '{meant}'"):
            plan_widening(LLAMA, **choices)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModelError, match="Did you mean llama"):
        describe("lama")
    with pytest.raises(TypeError, match="did you mean 'hidden_size'"):
        plan_widening(LLAMA, hiden_size=64)  # type: ignore[call-arg]


def test_on_the_command_line(grow: Grow) -> None:
    for typed, meant in (
        ("wident small wide", "widen"),
        ("plan small --widht 2", "--width"),
        ("plan small --atention heads", "--attention"),
        ("architectures lama", "llama"),
    ):
        result = grow(*typed.split())
        assert result.code and meant in result.err, result.err
