"""The measurement of `benchmarks/coverage.py`: a wrong model and an ignored image are noticed, and the page holds what
was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, LlavaForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import coverage
import coverage_case
import coverage_inputs
import coverage_report
from coverage_exact import Float64, difference, load
from coverage_models import class_and_config, loud_model

import growth

WIDTHS = (2,)


def test_a_growth_is_exact_and_a_spoilt_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    record = coverage_case.case("llama", "LlamaForCausalLM", WIDTHS, limit=60)
    assert coverage.status(record) == "exact"

    def spoilt(model_class: type[LlamaForCausalLM], folder: Path) -> tuple[LlamaForCausalLM, list[str]]:
        model, names = load(model_class, folder)
        if folder.name != "small":
            with torch.no_grad():
                model.model.layers[0].mlp.down_proj.weight.mul_(1 + 1e-6)
        return model, names

    monkeypatch.setattr(coverage_case, "load", spoilt)
    assert coverage.status(coverage_case.case("llama", "LlamaForCausalLM", WIDTHS, limit=60)) == "WRONG"


def test_a_crash_is_told_from_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert coverage.status(coverage_case.case("xglm", "XGLMForCausalLM", WIDTHS, limit=60)) == "refused"

    def crash(*given: object, **choices: object) -> None:
        raise KeyError("a field")

    monkeypatch.setattr(growth, "widen_checkpoint", crash)
    assert coverage.status(coverage_case.case("llama", "LlamaForCausalLM", WIDTHS, limit=60)) == "crash"


def test_inputs_have_an_image_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with Float64():
            model = loud_model(*class_and_config("llava", "LlavaForConditionalGeneration")).eval()
        inputs, _, text_alone = coverage_inputs.inputs_for(model)
        assert "pixel_values" in inputs and not text_alone
        blind = LlavaForConditionalGeneration.forward
        monkeypatch.setattr(
            LlavaForConditionalGeneration,
            "forward",
            lambda self, *given, pixel_values=None, **named: blind(self, *given, **named),
        )
        assert "pixel_values" not in coverage_inputs.inputs_for(model)[0]
    finally:
        torch.set_default_dtype(torch.float32)


def test_copies_are_found_wherever_they_stand() -> None:
    small = torch.randn(7, 4, dtype=torch.float64)
    wide = torch.cat([small, small], 1)[:, torch.randperm(8)] / 2
    assert difference(small, wide) < 1e-12
    assert difference(small, torch.cat([small[:, :3], small[:, :3], small[:, :2]], 1)) == float("inf")
    assert difference(small, wide + 1e-6 * torch.randn_like(wide)) > 1e-9


def test_the_page_holds_what_was_measured() -> None:
    page = coverage_report.PAGE.read_text()
    start = page.index(coverage_report.BEGIN) + len(coverage_report.BEGIN)
    wanted = coverage_report.tables(coverage.measured(coverage.RESULTS))
    assert page[start : page.index(coverage_report.END)].strip() == wanted.strip(), (
        "run `python benchmarks/coverage.py --report --only`, which writes the tables of docs/families.md"
    )


def test_nothing_is_wrong_and_nothing_crashes() -> None:
    found = {key: coverage.status(record) for key, record in coverage.measured(coverage.RESULTS).items()}
    assert not {key for key, word in found.items() if word in ("WRONG", "crash", "out of time")}
