"""Folders of sentence-transformers: the modules behind the transformer grow with it, or are refused.

The folders are laid as sentence-transformers 2 to 6 saves them, and their modules computed here as it
computes them; the library itself gave the same on such folders (``docs/reliability.md``)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, Qwen3Config, Qwen3ForCausalLM, T5Config, T5EncoderModel

import growth
from growth import CheckpointError, UnsupportedModelError
from growth.checkpoint import sentence_modules
from support.refusals import offline, refused
from support.small_models import SIZES, bert

__all__ = ["offline"]

H = 24
BERT_CONFIG = "sentence_bert_config.json"
POOLING = {"word_embedding_dimension": H, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
THREE = {"embedding_dimension": H, "pooling_mode": ["cls", "mean", "max"], "include_prompt": True}
DENSE = {"in_features": H, "out_features": 16, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
IN_OLD, IN_NEW = "sentence_transformers.models.", "sentence_transformers.base.modules."


def qwen3() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6}
    return Qwen3ForCausalLM(Qwen3Config(**heads, **SIZES, tie_word_embeddings=True))


def t5() -> T5EncoderModel:
    torch.manual_seed(0)
    return T5EncoderModel(T5Config(vocab_size=60, d_model=H, d_kv=6, d_ff=40, num_layers=2, num_heads=4))


def module(folder: Path, number: int, kind: str, config: dict[str, Any] | None) -> dict[str, Any]:
    """Lay one module; the entry of it in ``modules.json``."""
    name = f"{number}_{kind.rpartition('.')[2]}"
    entry = {"idx": number, "name": str(number), "path": name, "type": kind}
    if config is None:
        return entry
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(config))
    if "in_features" in config:
        generator = torch.Generator().manual_seed(number)
        held = {"linear.weight": torch.randn(config["out_features"], config["in_features"], generator=generator)}
        held |= {"linear.bias": torch.randn(config["out_features"], generator=generator)} if config["bias"] else {}
        if config.get("use_residual"):
            held["residual.weight"] = torch.randn(held["linear.weight"].shape, generator=generator)
        if kind.startswith(IN_OLD):
            torch.save(held, folder / name / "pytorch_model.bin")
        else:
            save_file(held, folder / name / "model.safetensors", metadata={"format": "pt"})
    return entry


def laid(folder: Path, model: Any, *modules: tuple[str, dict[str, Any] | None]) -> Path:
    model.save_pretrained(folder)
    entries = [{"idx": 0, "name": "0", "path": "", "type": f"{IN_OLD}Transformer"}]
    entries += [module(folder, number, kind, config) for number, (kind, config) in enumerate(modules, 1)]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / BERT_CONFIG).write_text('{"max_seq_length": 32}')
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {}, "similarity_fn_name": "cosine"}')
    return folder


def embedding(folder: Path) -> Tensor:
    """What sentence-transformers computes from such a folder, for one sentence of 20 tokens."""
    loaded = T5EncoderModel if (folder / "config.json").read_text().find('"t5"') > 0 else AutoModel
    model = loaded.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        output = model(input_ids=torch.arange(20)[None])
    tokens: Tensor = output.last_hidden_state
    found = output.pooler_output if "pooler_output" in (folder / BERT_CONFIG).read_text() else tokens.mean(1)
    for entry in json.loads((folder / "modules.json").read_text())[1:]:
        path = folder / entry["path"]
        config = json.loads((path / "config.json").read_text()) if path.is_dir() else {}
        kind = entry["type"].rpartition(".")[2]
        if kind == "Pooling":
            width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
            assert width == tokens.shape[-1]
            if "pooling_mode" in config:
                found = torch.cat([tokens[:, 0], tokens.mean(1), tokens.max(1).values], -1)
        if kind == "Dense":
            weights = path / "model.safetensors"
            held = (
                load_file(weights) if weights.is_file() else torch.load(path / "pytorch_model.bin", weights_only=True)
            )
            assert held["linear.weight"].shape == (config["out_features"], config["in_features"])
            out = torch.tanh(found @ held["linear.weight"].T + held.get("linear.bias", 0.0))
            found = out + found @ held["residual.weight"].T if "residual.weight" in held else out
        if kind == "LayerNorm":
            found = torch.nn.functional.layer_norm(found, found.shape[-1:])
        if kind == "Normalize":
            found = torch.nn.functional.normalize(found, dim=-1)
    return found


PIPELINES: dict[str, tuple[tuple[str, dict[str, Any] | None], ...]] = {
    "mean, dense (.bin)": ((f"{IN_OLD}Pooling", POOLING), (f"{IN_OLD}Dense", DENSE)),
    "three poolings, dense, normalize": (
        (f"{IN_NEW}Pooling", THREE),
        (f"{IN_NEW}dense.Dense", {**DENSE, "in_features": 3 * H, "bias": False}),
        (f"{IN_NEW}normalize.Normalize", {}),
    ),
    "dropout, residual dense, norm, dense": (
        (f"{IN_OLD}Pooling", POOLING),
        (f"{IN_NEW}dropout.Dropout", {"dropout": 0.1}),
        (f"{IN_NEW}dense.Dense", {**DENSE, "use_residual": True}),
        (f"{IN_OLD}LayerNorm", {"dimension": 16}),
        (f"{IN_NEW}dense.Dense", {**DENSE, "in_features": 16, "out_features": 8}),
    ),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("build", [bert, qwen3, t5], ids=["bert", "tied qwen3", "t5"])
def test_a_dense_grows_with_what_it_reads(name: str, build: Callable[[], Any], tmp_path: Path) -> None:
    source = laid(tmp_path / "small", build(), *PIPELINES[name])
    result = growth.widen_checkpoint(source, tmp_path / "wide", width=2, noise=1.0)
    small, wide = embedding(source), embedding(tmp_path / "wide")
    torch.testing.assert_close(wide, small, rtol=0, atol=5e-6)
    assert not result.left_behind
    record = json.loads((tmp_path / "wide" / "growth.json").read_text())
    assert any(path.startswith(("2_Dense/", "3_Dense/")) for path in record["source"]["sha256"])


@pytest.mark.parametrize(
    ("build", "choices"),
    [
        (qwen3, {"layers": 4, "width": 2, "noise": 1.0}),
        (t5, {"layers": 3}),
        (qwen3, {"layers": 3}),
    ],
    ids=["qwen3, wider too", "t5", "qwen3"],
)
def test_a_deeper_transformer_gives_the_same_embedding(
    build: Callable[[], Any], choices: dict[str, Any], tmp_path: Path
) -> None:
    source = laid(tmp_path / "small", build(), *PIPELINES["mean, dense (.bin)"])
    result = growth.widen_checkpoint(source, tmp_path / "deep", **choices)
    assert not result.left_behind and result.plan.extension is not None
    torch.testing.assert_close(embedding(tmp_path / "deep"), embedding(source), rtol=0, atol=5e-6)


def test_a_dense_left_as_it_is_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = laid(tmp_path / "small", bert(), *PIPELINES["mean, dense (.bin)"])
    monkeypatch.setattr(sentence_modules, "Reads", lambda space: sentence_modules.Keeps())
    with pytest.raises((AssertionError, ValueError)):
        growth.widen_checkpoint(source, tmp_path / "wide", width=2)
        torch.testing.assert_close(embedding(tmp_path / "wide"), embedding(source), rtol=0, atol=5e-6)


@pytest.mark.parametrize("normalised", [False, True])
def test_without_a_dense_the_embedding_is_wider_and_its_cosines_stay(normalised: bool, tmp_path: Path) -> None:
    last = ((f"{IN_OLD}Normalize", None),) if normalised else ()
    source = laid(tmp_path / "small", qwen3(), (f"{IN_OLD}Pooling", POOLING), *last)
    result = growth.widen_checkpoint(source, tmp_path / "wide", width=2, noise=1.0)
    pooled = json.loads((tmp_path / "wide" / "1_Pooling" / "config.json").read_text())
    assert pooled == {**POOLING, "word_embedding_dimension": 2 * H}
    said = "the sentence embedding has 48 coordinates instead of 24; cosines stay"
    assert f"{said}{'' if normalised else ', dot products and distances do not'}" in str(result).replace("\n", " ")
    assert said in str(growth.plan_widening(source, width=2)).replace("\n", " ")
    small, wide = embedding(source), embedding(tmp_path / "wide")
    pairs = torch.stack([wide[:, :H], wide[:, H:]])  # copies of one direction, each by its share
    assert torch.nn.functional.cosine_similarity(pairs, small[None], dim=-1).min() > 1 - 1e-6


def test_uneven_copies_are_said_to_turn_embeddings(tmp_path: Path) -> None:
    source = laid(tmp_path / "small", t5(), (f"{IN_OLD}Pooling", POOLING))
    notes = growth.plan_widening(source, width=1.5).notes
    assert any("36 coordinates instead of 24; not even cosines stay, since some have more" in note for note in notes)


def test_a_growth_that_leaves_the_hidden_state_copies_every_module(tmp_path: Path) -> None:
    source = laid(tmp_path / "small", bert(), (f"{IN_OLD}Pooling", POOLING), (f"{IN_OLD}LSTM", {"hidden_dim": 8}))
    growth.widen_checkpoint(source, tmp_path / "wide", intermediate_size=80)
    for name in ("1_Pooling/config.json", "2_LSTM/config.json", "modules.json"):
        assert json.loads((tmp_path / "wide" / name).read_text()) == json.loads((source / name).read_text())


REFUSED: list[tuple[str, tuple[tuple[str, dict[str, Any] | None], ...], type, tuple[str, ...]]] = [
    (
        "norm",
        ((f"{IN_OLD}Pooling", POOLING), (f"{IN_OLD}LayerNorm", {"dimension": H})),
        UnsupportedModelError,
        ("2_Lay",),
    ),
    ("lstm", ((f"{IN_OLD}LSTM", {"word_embedding_dimension": H}),), UnsupportedModelError, ("'1_LSTM' (LSTM)",)),
    (
        "normalised",
        ((f"{IN_OLD}Pooling", POOLING), (f"{IN_OLD}Normalize", None), (f"{IN_NEW}Dense", DENSE)),
        UnsupportedModelError,
        ("'3_Dense' (Dense)",),
    ),
    (
        "adds its input",
        ((f"{IN_OLD}Pooling", POOLING), (f"{IN_NEW}Dense", {**DENSE, "out_features": H, "use_residual": True})),
        UnsupportedModelError,
        ("'2_Dense' (Dense)",),
    ),
    ("code of its own", (("custom_st.Pooling", POOLING),), UnsupportedModelError, ("'custom_st.Pooling'",)),
    ("not there", ((f"{IN_OLD}Pooling", None),), CheckpointError, ("'1_Pooling' (Pooling)", "is not there. Fetch")),
    (
        "another width",
        ((f"{IN_OLD}Pooling", POOLING), (f"{IN_NEW}Dense", {**DENSE, "in_features": 32})),
        CheckpointError,
        ("'2_Dense' reads 32 coordinates", "what arrives there has 24"),
    ),
    (
        "pools another width",
        ((f"{IN_OLD}Pooling", {**POOLING, "word_embedding_dimension": 32}),),
        CheckpointError,
        ("pools 32 coordinates", "has 24"),
    ),
]


@pytest.mark.parametrize(
    ("modules", "error", "says"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_cannot_follow_is_refused(modules: Any, error: Any, says: tuple[str, ...], tmp_path: Path) -> None:
    source = laid(tmp_path / "from" / "small", bert(), *modules)
    refused(source, tmp_path / "to" / "wide", error, *says, step=r"\. (Move modules\.json|Fetch)")
    shutil.move(source / "modules.json", tmp_path / "modules.json")
    result = growth.widen_checkpoint(source, tmp_path / "wide")
    assert not (tmp_path / "wide" / "modules.json").exists(), "and nothing names what is not there"
    assert all(path.name in result.left_behind for path in source.iterdir() if path.is_dir())


def test_weights_of_a_module_that_are_not_there_or_behind_a_link(tmp_path: Path) -> None:
    source = laid(tmp_path / "from" / "small", bert(), (f"{IN_OLD}Pooling", POOLING), (f"{IN_NEW}Dense", DENSE))
    weights = source / "2_Dense" / "model.safetensors"
    shutil.move(weights, tmp_path / "elsewhere")
    refused(source, tmp_path / "to" / "wide", CheckpointError, "'2_Dense' (Dense), whose weights", step=r"\. Fetch")
    weights.symlink_to(tmp_path / "elsewhere")
    refused(source, tmp_path / "to" / "wide", CheckpointError, "leads through a symbolic link", step=r"\. Copy")


def test_another_file_of_that_name_is_left_behind(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path / "small")
    (tmp_path / "small" / "modules.json").write_text('["numpy", "torch"]')
    assert growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide").left_behind == ("modules.json",)


@pytest.mark.parametrize("choice", [{"width": 2, "noise": 1.0}, {"intermediate_size": 80}], ids=["grown", "copied"])
def test_verify_looks_at_the_modules_behind_the_transformer(choice: dict[str, Any], tmp_path: Path) -> None:
    """A Dense with other weights is seen, whether it grew or was copied."""
    folder = laid(tmp_path / "small", bert(), (f"{IN_NEW}Pooling", POOLING), (f"{IN_NEW}Dense", DENSE))
    growth.widen_checkpoint(folder, tmp_path / "wide", **choice)
    report = growth.check_equivalence(folder, tmp_path / "wide")
    assert report.equal and report.modules is not None and report.modules.same == ("2_Dense",)
    assert "2_Dense: as growth makes them" in str(report)
    file = tmp_path / "wide" / "2_Dense" / "model.safetensors"
    held = load_file(file)
    save_file({**held, "linear.weight": held["linear.weight"] * 7 + 3}, file)
    report = growth.check_equivalence(folder, tmp_path / "wide")
    assert not report.equal and "NOT EQUAL: 2_Dense behind the transformer" in str(report)
    (tmp_path / "wide" / "growth.json").unlink()
    assert "NOT COMPARED" in str(growth.check_equivalence(folder, tmp_path / "wide"))
