"""Models of several stacks, pixels and sound, and tables that a checkpoint leaves to its class."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import growth
from growth import architectures
from growth.algebra.attention_laws import Scores
from growth.algebra.axes import Space
from growth.algebra.derived_laws import UnitLength
from growth.algebra.laws import Copied, Growth
from growth.algebra.norm_laws import LayerNorm
from growth.algebra.roles import Gain
from growth.architectures.towers import within
from growth.hf.computed_tables import completed
from growth.hf.config_json import merged
from growth.hf.configs import parse
from growth.hf.reader import open_checkpoint
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import loud, miniature
from growth.proof.outputs import forward, largest_difference
from growth.rules.linear import linear
from growth.rules.norm import FINAL, RESIDUAL, norm
from support.family_cases import small_config

SEEN_OR_HEARD = [
    pytest.param("vit", "ViTForMaskedImageModeling", marks=pytest.mark.slow),
    pytest.param("dinov2", "Dinov2Backbone", marks=pytest.mark.slow),
    ("clip", "CLIPModel"),
    pytest.param("siglip", "SiglipModel", marks=pytest.mark.slow),
    ("whisper", "WhisperForConditionalGeneration"),
]


def saved(folder: Path, model_type: str, model_class: str, **branch: Any) -> Path:
    """A small loud model in float32."""
    raw = small_config(model_type, model_class, branch)
    model = getattr(transformers, model_class)(parse(raw)).eval()
    loud(model)
    model.save_pretrained(folder)
    return folder


def test_within_renames_spaces_sizes_and_constants_and_leaves_what_is_shared() -> None:
    query = Space("query", "head_dim")
    assert within("text.", {query: Scores("query")}) == {
        Space("text.query", "text.head_dim"): Scores("query", scale="text.attention_scale")
    }
    assert within("text.", linear(RESIDUAL, FINAL), {RESIDUAL}) == linear(
        RESIDUAL, Space("text.final", "text.hidden_size")
    )
    (gain,) = within("text.", norm(RESIDUAL, FINAL), {RESIDUAL, FINAL}, "text.eps")["weight"]
    assert gain == Gain(RESIDUAL, FINAL, epsilon="text.eps")
    assert within("text.", Copied("softmax")) == Copied("softmax")


@pytest.mark.parametrize("scaling", ["unit", "orthogonal"])
def test_vectors_of_unit_length_keep_their_products(scaling: Any) -> None:
    stream, unit = Space("stream", "hidden_size"), Space("unit", "hidden_size")
    entering = LayerNorm().grow(Growth(stream, 4, 12, scaling))
    leaving = UnitLength(stream).grow(Growth(unit, 4, 12, scaling, maps={stream: entering}))
    x, y = torch.randn(2, 4, dtype=torch.float64)
    wide_x, wide_y = (torch.from_numpy(entering.write) * v[torch.from_numpy(entering.source)] for v in (x, y))
    torch.testing.assert_close(
        wide_x / wide_x.norm(), torch.from_numpy(leaving.write) * (x / x.norm())[torch.from_numpy(leaving.source)]
    )
    torch.testing.assert_close(torch.cosine_similarity(wide_x, wide_y, 0), torch.cosine_similarity(x, y, 0))


def test_a_field_of_a_nested_config_is_vouched_for_by_its_path() -> None:
    raw = {"model_type": "clip", "architectures": ["CLIPModel"], "text_config": {"sharpness": 2}, "vision_config": {}}
    with pytest.raises(
        growth.UnsupportedModelError, match=r"'text_config.sharpness' is 2.*--vouch text_config.sharpness"
    ):
        growth.plan_widening(raw)
    growth.plan_widening(raw, vouch=["text_config.sharpness"])
    with pytest.raises(growth.UnsupportedModelError, match=r"'vision_config.sharpness' is 2"):
        growth.plan_widening({**raw, "vision_config": {"sharpness": 2}}, vouch=["text_config.sharpness"])


def test_the_override_of_older_files_is_what_grows() -> None:
    override = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96, "num_hidden_layers": 2}
    raw = {"model_type": "clip", "architectures": ["CLIPModel"], "text_config": {"hidden_size": 512, "vocab_size": 60}}
    raw = {**raw, "text_config_dict": override, "vision_config_dict": None}
    assert parse(merged(raw)).text_config.to_dict() == parse(raw).text_config.to_dict()
    plan = growth.plan_widening(raw, width=3)
    assert parse(plan.new_config).text_config.hidden_size == 192
    small = miniature(raw, architectures.find("clip").at(parse(raw)))
    assert parse(small).text_config.hidden_size == 18


@pytest.mark.parametrize(("model_type", "model_class"), SEEN_OR_HEARD)
def test_pixels_and_sound_are_compared(model_type: str, model_class: str, tmp_path: Path) -> None:
    small = saved(tmp_path / "small", model_type, model_class)
    growth.widen_checkpoint(small, tmp_path / "wide", width=2, noise=1)
    report = growth.check_equivalence(small, tmp_path / "wide", tokens=60, device="cpu")
    assert report.equal and report.diverges_at is None, report
    weights = load_file(tmp_path / "wide" / "model.safetensors")
    name = next(
        name for name in weights if name.endswith(("patch_embedding.weight", "projection.weight", "conv1.weight"))
    )
    weights[name][:5] *= 1.05  # not all alike, which a layer norm would take out again
    save_file(weights, tmp_path / "wide" / "model.safetensors", {"format": "pt"})
    assert not growth.check_equivalence(small, tmp_path / "wide", tokens=60, device="cpu").equal


@pytest.mark.parametrize(
    ("model_type", "model_class", "lacks"),
    [
        (
            "pegasus",
            "PegasusForConditionalGeneration",
            ["model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"],
        ),
        ("marian", "MarianMTModel", []),
        ("whisper", "WhisperForConditionalGeneration", ["model.encoder.embed_positions.weight"]),
    ],
)
def test_tables_a_checkpoint_lacks_are_those_its_class_computes(
    model_type: str, model_class: str, lacks: list[str], tmp_path: Path
) -> None:
    with exact_arithmetic():
        small = saved(tmp_path / "small", model_type, model_class)
        path = small / "model.safetensors"
        save_file(
            {name: value for name, value in load_file(path).items() if name not in lacks}, path, {"format": "pt"}
        )
        result = growth.widen_checkpoint(small, tmp_path / "wide", width=3, noise=0.2)
        kind = getattr(transformers, model_class)
        before, after = (
            kind.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
            for folder in (small, tmp_path / "wide")
        )
        inputs = random_inputs(before, 41)
        assert largest_difference(forward(before, inputs), forward(after, inputs), result.plan) <= 1e-10
    stored = open_checkpoint(tmp_path / "wide")
    assert completed(stored).shapes == stored.shapes
    assert any("embed_positions" in name for name in stored.shapes)


def test_a_class_that_would_not_save_its_tables_again_is_said_so(tmp_path: Path) -> None:
    small = saved(tmp_path / "small", "marian", "MarianMTModel")
    result = growth.widen_checkpoint(small, tmp_path / "wide")
    (note,) = [note for note in result.plan.notes if "save_pretrained of MarianMTModel leaves out" in note]
    model = transformers.MarianMTModel.from_pretrained(tmp_path / "wide")
    model._keys_to_ignore_on_save = set()  # what the note says
    shutil.rmtree(tmp_path / "wide")
    model.save_pretrained(tmp_path / "wide")
    assert "model.encoder.embed_positions.weight" in open_checkpoint(tmp_path / "wide").shapes and "set()" in note
