"""Folders of sentence-transformers: what the first module passes on, by its config, and whose files lie
in the folders of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint.test_sentence_transformers import BERT_CONFIG, DENSE, IN_NEW, IN_OLD, POOLING, embedding, laid
from transformers import BertForMaskedLM, BertModel

import growth
from growth import CheckpointError, UnsupportedModelError
from growth.checkpoint import first_module
from support.refusals import offline, refused
from support.small_models import bert

__all__ = ["offline"]


def passing_on(output: Any, feature: Any = "sentence_embedding", method: str = "forward", **more: Any) -> str:
    """The config of a first module, as sentence-transformers 5.3 and later save it."""
    text = {"method": method, "method_output_name": output}
    said = {"transformer_task": "feature-extraction", "modality_config": {"text": text}, "module_output_name": feature}
    return json.dumps({**said, **more})


def pooled() -> BertModel:
    """With the pooler, which a masked LM does not have."""
    torch.manual_seed(0)
    return BertModel(bert().config)


@pytest.mark.parametrize("output", ["pooler_output", ["pooler_output"]], ids=["name", "path"])
def test_a_dense_reads_the_pooled_output(output: Any, tmp_path: Path) -> None:
    source = laid(tmp_path / "small", pooled(), (f"{IN_NEW}dense.Dense", DENSE))
    (source / BERT_CONFIG).write_text(passing_on(output))
    growth.widen_checkpoint(source, tmp_path / "wide", width=2, noise=1.0)
    torch.testing.assert_close(embedding(tmp_path / "wide"), embedding(source), rtol=0, atol=5e-6)
    report = growth.check_equivalence(source, tmp_path / "wide")
    assert report.equal and report.modules is not None and report.modules.same == ("1_Dense",)


def test_a_config_that_is_not_read_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = laid(tmp_path / "small", pooled(), (f"{IN_NEW}dense.Dense", DENSE))
    (source / BERT_CONFIG).write_text(passing_on("pooler_output"))
    monkeypatch.setattr(first_module, "_config", lambda source: ("", {}))
    growth.widen_checkpoint(source, tmp_path / "wide", width=2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        embedding(tmp_path / "wide")


def test_without_a_dense_the_pooled_embedding_is_said_to_be_wider(tmp_path: Path) -> None:
    source = laid(tmp_path / "small", pooled())
    (source / BERT_CONFIG).write_text(passing_on("pooler_output"))
    notes = growth.plan_widening(source, width=2).notes
    assert any("the sentence embedding has 48 coordinates instead of 24; cosines stay" in note for note in notes)


def test_logits_are_not_wider(tmp_path: Path) -> None:
    model = BertForMaskedLM(bert().config)
    splade = (f"{IN_OLD}SpladePooling", {"pooling_strategy": "max"})
    source = laid(tmp_path / "small", model, splade, (f"{IN_NEW}dense.Dense", {**DENSE, "in_features": 60}))
    (source / BERT_CONFIG).write_text('{"transformer_task": "fill-mask"}')
    growth.widen_checkpoint(source, tmp_path / "wide", width=2)
    for name in ("1_SpladePooling/config.json", "2_Dense/model.safetensors"):
        assert (tmp_path / "wide" / name).read_bytes() == (source / name).read_bytes()


UNKNOWN: dict[str, tuple[str, str]] = {
    "another output": (passing_on("text_embeds"), "passes on 'text_embeds' as 'sentence_embedding'"),
    "an inner layer": (passing_on(["hidden_states", 1], "token_embeddings"), "passes on no single output of forward"),
    "another method": (passing_on("pooler_output", method="get_text_features"), "no single output of forward"),
    "no name": (passing_on("pooler_output", None), "as 'None'"),
    "another task": (passing_on("embeddings", transformer_task="retrieval"), "task 'retrieval'"),
    "no task": (passing_on("last_hidden_state", transformer_task=["x"]), "task '['x']'"),
    "two outputs": (
        passing_on(
            "",
            modality_config={
                "text": {"method": "forward", "method_output_name": "pooler_output"},
                "message": {"method": "forward", "method_output_name": "last_hidden_state"},
            },
        ),
        "passes on 'last_hidden_state' and 'pooler_output'",
    ),
    "no modalities": ('{"modality_config": null}', "no single output of forward"),
    "an empty list": ('{"modality_config": {}}', "passes on nothing"),
    "no object": ("[1]", "no single output of forward"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_output_that_is_not_known_is_refused(case: str, tmp_path: Path) -> None:
    source = laid(tmp_path / "from" / "small", bert(), (f"{IN_OLD}Pooling", POOLING))
    config, says = UNKNOWN[case]
    (source / BERT_CONFIG).write_text(config)
    refused(source, tmp_path / "to" / "wide", UnsupportedModelError, BERT_CONFIG, says, step=r"\. Move modules\.json")
    result = growth.widen_checkpoint(source, tmp_path / "wide", intermediate_size=80)
    assert "1_Pooling/config.json" in result.files, "nothing that it could write is wider"


def test_a_first_module_of_another_class_is_refused(tmp_path: Path) -> None:
    source = laid(tmp_path / "from" / "small", bert(), (f"{IN_OLD}Pooling", POOLING))
    listed = json.loads((source / "modules.json").read_text())
    listed[0]["type"] = f"{IN_OLD}Router"
    (source / "modules.json").write_text(json.dumps(listed))
    refused(source, tmp_path / "to" / "wide", UnsupportedModelError, "Router", step=r"\. Move modules\.json")


OWN = ("notes.txt", ".env", "train_data.jsonl", "optimizer.pt", "README.md", ".ipynb_checkpoints/a.txt", "old/a.txt")


@pytest.mark.parametrize("choice", [{"width": 2}, {"intermediate_size": 80}], ids=["grown", "copied"])
def test_files_of_your_own_in_the_folder_of_a_module_are_left_out_and_named(
    choice: dict[str, Any], tmp_path: Path
) -> None:
    kinds = ((f"{IN_OLD}Pooling", POOLING), (f"{IN_OLD}Dense", DENSE), (f"{IN_OLD}Normalize", {}))
    source = laid(tmp_path / "small", bert(), *kinds)
    folders = ("1_Pooling", "2_Dense", "3_Normalize")
    (source / "3_Normalize" / "config.json").unlink()
    for folder in folders:
        for name in OWN:
            (source / folder / name).parent.mkdir(exist_ok=True)
            (source / folder / name).write_text("SECRET")
    result = growth.widen_checkpoint(source, tmp_path / "wide", **choice)
    shown = {name.partition("/")[0] for name in OWN if not name.startswith(".")}
    assert set(result.left_behind) == {f"{folder}/{name}" for folder in folders for name in shown}
    written = {path.relative_to(tmp_path / "wide").as_posix() for path in (tmp_path / "wide").rglob("*")}
    inside = {name for name in written if name.startswith(folders)} - {*folders}
    assert inside == {"1_Pooling/config.json", "2_Dense/config.json"} | {
        f"2_Dense/{'model.safetensors' if 'width' in choice else 'pytorch_model.bin'}"
    }
    assert not any("SECRET" in path.read_text("latin-1") for path in (tmp_path / "wide").rglob("*") if path.is_file())


def test_a_module_of_which_more_files_may_be_needed_is_refused(tmp_path: Path) -> None:
    source = laid(tmp_path / "from" / "small", bert(), (f"{IN_OLD}Pooling", POOLING), (f"{IN_OLD}Router", {"a": 1}))
    part = source / "2_Router" / "query_0_Dense"
    part.mkdir()
    refused(source, tmp_path / "to" / "wide", UnsupportedModelError, "(Router)", "query_0_Dense", step=r"\. Move mod")
    with pytest.raises(UnsupportedModelError, match="query_0_Dense"):
        growth.widen_checkpoint(source, tmp_path / "wide", intermediate_size=80)
    part.rmdir()
    assert growth.widen_checkpoint(source, tmp_path / "wide", intermediate_size=80).left_behind == ()


def test_a_module_that_is_a_link_is_still_refused(tmp_path: Path) -> None:
    source = laid(tmp_path / "small", bert(), (f"{IN_OLD}Pooling", POOLING), (f"{IN_OLD}LSTM", {"hidden_dim": 8}))
    (tmp_path / "secret").write_text("{}")
    (source / "2_LSTM" / "lstm_config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="leads through a symbolic link"):
        growth.widen_checkpoint(source, tmp_path / "wide", intermediate_size=80)
