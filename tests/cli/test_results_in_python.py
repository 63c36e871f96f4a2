"""What the results of a call print: as the command line does, shorter as ``repr``, as tables in a
notebook."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from transformers import LlamaConfig

import growth
from growth.plan.choices import CHOICES
from growth.text import Shown, Table, as_html
from support.command import Grow, grow, small
from support.small_models import bert, llama

__all__ = ["grow", "small"]  # fixtures


def test_results_print_as_the_command_does(
    grow: Grow, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wide = "wide"  # "next:" names it as the caller did
    widened = growth.widen_checkpoint(small, wide)
    assert str(widened).endswith(f"\n\nwritten: {tmp_path / wide}\nnext: grow verify {small} {wide}")
    plan, report = growth.plan_widening(small), growth.check_equivalence(small, wide, tokens=32, device="cpu")
    assert f"{plan}\n\nnext: grow widen {small} DST\n" == grow("plan", small).out
    assert f"{widened}\n" == grow("widen", small, wide, "--overwrite").out
    assert f"{report}\n" == grow("verify", small, wide, "--tokens", "32", "--device", "cpu").out
    for result in (plan, widened, report, growth.widen(llama())):
        check_forms(result)


def check_forms(result: Shown) -> None:
    """``repr`` is a line or two, and the HTML holds what the text does."""
    assert len(repr(result)) < 500 and repr(result) != str(result)
    shown = " ".join(ElementTree.fromstring(result._repr_html_().replace("<br>", "<br/>")).itertext())
    words = [word for word in str(result).split() if set(word) != {"-"}]
    assert [word for word in words if word not in shown] == []


def test_a_form_that_lacks_a_part_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    grown = growth.widen(llama())
    monkeypatch.setattr(type(grown), "_repr_html_", lambda self: as_html(self._parts()[:-1]))
    with pytest.raises(AssertionError):
        check_forms(grown)


def test_what_was_grown_says_what_to_know() -> None:
    grown = growth.widen(llama(), symmetry="none")
    assert "note: with symmetry none the copies are equal and train as one" in " ".join(str(grown).split())
    assert "train as one" not in str(growth.widen(llama()))


def test_text_is_escaped() -> None:
    assert '<td style="text-align: right">&lt;b&gt;</td>' in Table(("a",), [("<b>",)], right=(0,)).html()


def test_the_keywords_are_shown() -> None:
    for function in (growth.widen, growth.widen_checkpoint, growth.plan_widening, growth.training.staged):
        shown = inspect.signature(function).parameters
        assert {name: shown[name].default for name in CHOICES} == {n: c.default for n, c in CHOICES.items()}
        assert all(f"\n    {name}: " in str(inspect.getdoc(function)) for name in CHOICES)


@pytest.mark.parametrize(
    ("keyword", "says"),
    [
        ("widht", "did you mean 'width'?"),
        ("num_layers", "did you mean 'layers'?"),
        ("zzz", "; the choices are width"),
        ("num_key_value_heads", "did you mean 'kv_heads'?"),
    ],
)
def test_a_keyword_that_does_not_exist(keyword: str, says: str) -> None:
    with pytest.raises(TypeError, match=keyword) as caught:
        growth.widen(llama(), **{keyword: 2})  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"rope": "pairs"}, "rope pairs changes nothing here: the positions of this bert are not rotary"),
        ({"seed": 3, "symmetry": "split"}, "seed 3 changes nothing here"),
        ({"insert": "end"}, "insert end changes nothing here: no number of layers grows"),
        ({"lossy": True}, "lossy changes nothing here"),
        ({"attention": "head-dim", "heads": 8, "head_dim": "keep"}, "attention head-dim changes nothing here"),
        (
            {"like": LlamaConfig(hidden_size=48, num_attention_heads=8), "keep": ("model_type", "layers")},
            "the other model is a llama, this one a bert",
        ),
    ],
    ids=str,
)
def test_a_choice_without_effect_says_so(choices: dict[str, object], says: str) -> None:
    raw = {**bert().config.to_dict(), "architectures": ["BertForMaskedLM"]}
    told = growth.plan_widening(raw, **choices).notes  # type: ignore[arg-type]
    assert any(says in note for note in told)
    assert not growth.plan_widening(raw, noise=1).notes


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"layers": 4}, ""),
        ({"layers": 4, "noise": 1}, "symmetry noise:1 changes nothing here: no copies are made"),
        ({"layers": 4, "symmetry": "none"}, "symmetry none changes nothing here"),
        ({"layers": 4, "noise": 2}, ""),
        ({"layers": 4, "width": 2, "noise": 1}, ""),
    ],
    ids=str,
)
def test_a_symmetry_without_copies_says_so(choices: dict[str, Any], told: str) -> None:
    notes = " ".join(growth.plan_widening(llama().config, **choices).notes)
    assert told in notes and ("changes nothing here" in notes) is bool(told)


def test_heads_whose_rotary_part_keeps_its_width_are_wider() -> None:
    """DeepSeek's heads under YaRN: 12 coordinates without positions become 24, 4 rotary ones stay."""
    raw = {
        **{"model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"], "n_routed_experts": 4},
        **{"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}, "max_position_embeddings": 64},
        **{"hidden_size": 24, "intermediate_size": 20, "moe_intermediate_size": 20, "num_hidden_layers": 2},
        **{
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "q_lora_rank": 12,
            "kv_lora_rank": 12,
            "vocab_size": 40,
        },
        **{"qk_nope_head_dim": 12, "qk_rope_head_dim": 4, "v_head_dim": 12, "num_experts_per_tok": 2, "n_group": 1},
    }
    plan = growth.plan_widening(raw, attention="head-dim", rope="pairs", noise=1)
    assert plan.new_sizes["pass_dim"] == 24 and plan.new_sizes["rotary_dim"] == 4
    assert [note for note in plan.notes if "changes nothing" in note] == [
        "rope pairs changes nothing here: the rotary part of the heads does not become wider"
    ]


def test_a_guessed_class_is_said() -> None:
    raw = {**llama().config.to_dict(), "architectures": None}
    assert "so the plain one is taken, LlamaModel" in growth.plan_widening(raw, noise=1).notes[0]
