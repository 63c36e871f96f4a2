"""What the folder of one model holds: ``--overwrite`` replaces such a folder, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import growth
from growth.checkpoint.destination import check_target
from growth.checkpoint.model_folder import foreign_entries, looks_like_a_model
from growth.checkpoint.trainer_files import COPIED, PROGRESS
from support.crashes import source
from support.refusals import check_message, snapshot

__all__ = ["source"]  # a fixture


@pytest.fixture
def model(source: Path, tmp_path: Path) -> Path:
    """A model in a folder of its own."""
    return Path(shutil.copytree(source, tmp_path / "wide"))


def put(folder: Path, name: str) -> None:
    """A file, or an empty folder where the name ends with a slash."""
    path = folder / name
    if name.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")


def list_modules(folder: Path) -> None:
    """What a sentence-transformers model lists."""
    paths = ("", "1_Pooling", "2_Dense", "3_Normalize")
    entries = [{"path": path, "type": "sentence_transformers.models.Any"} for path in paths]
    (folder / "modules.json").write_text(json.dumps(entries))


def test_a_web_project_is_no_model(tmp_path: Path) -> None:
    project = tmp_path / "site"
    project.mkdir()
    (project / "config.json").write_text('{"port": 8080}')
    for name in ("src/app.js", ".git/HEAD"):
        put(project, name)
    before = snapshot(tmp_path)
    with pytest.raises(growth.CheckpointError) as caught:
        check_target(project, overwrite=True)
    check_message(str(caught.value), ("does not look like a model", "site exists"))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("config", [None, "", "[]", "{}", '{"model_type": 3}', '{"model_type": "llama"', "[" * 9**5])
def test_a_model_has_a_config_with_a_model_type(config: str | None, model: Path) -> None:
    assert looks_like_a_model(model)
    (model / "config.json").unlink()
    if config is not None:
        (model / "config.json").write_text(config)
    assert not looks_like_a_model(model)


def test_a_model_has_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(growth.CheckpointError, match="does not look like a model"):
        check_target(model, overwrite=True)


FOREIGN = [
    *(
        "checkpoint-500/model.safetensors",
        "notes.txt",
        ".git/HEAD",
        "src/app.js",
        "runs/",
        "logs/x",
        "onnx/model.onnx",
    ),
    *("model_before_finetune_backup.safetensors", "pytorch_model_mine.bin", "my_noticeable_results.csv"),
    *("copying_notes.md", "license_server_password.txt", "my-license.txt", "LICENSE-MIT", "LICENSES/private.key"),
    *("tokenizer_training_corpus.jsonl", "vocab_statistics.csv", "merges_todo.md", "word_counts.json"),
    *("experiment.model", "additional_chat_templates/mine.jinja", "1_mydata/license_notes.txt", "rng_states.pth"),
    *("2024_results/config.json", "2024_results/model_a.safetensors", "1_Pooling/model_a.safetensors"),
    *("original/params.json", "model.gguf", "adapter_model.safetensors", "train.py", ".env", "tokenizer/", "all.json"),
    *(
        "global_step500/zero.pt",
        "1_Pooling/notes.txt",
        "1_Pooling/deep/config.json",
        "additional_chat_templates/x/",
    ),
]


@pytest.mark.parametrize("name", FOREIGN)
def test_what_no_model_folder_holds_is_kept_and_named(name: str, model: Path) -> None:
    list_modules(model)
    put(model, name)
    before = snapshot(model.parent)
    with pytest.raises(growth.CheckpointError) as caught:
        check_target(model, overwrite=True)
    top = name.split("/")[0]
    check_message(str(caught.value), ("wide holds", f"does not: {top}", "nothing was replaced"))
    assert snapshot(model.parent) == before


def test_the_first_of_many_foreign_entries_are_named(model: Path) -> None:
    for number in range(9):
        put(model, f"checkpoint-{number}/config.json")
    with pytest.raises(growth.CheckpointError, match=r"checkpoint-0/, checkpoint-1/, checkpoint-2/ \(and 6 more\)"):
        growth.widen_checkpoint(model, model, overwrite=True)


OWN = [
    *("growth.json", "README.md", "LICENSE", "licence.txt", "NOTICE", "chat_template.jinja", "generation_config.json"),
    *("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "merges.txt", "preprocessor_config.json"),
    *("sentence_bert_config.json", "1_Pooling/config.json", "2_Dense/model.safetensors"),
    *("3_Normalize/", "pytorch_model.bin", "model-00001-of-00002.safetensors", "model.safetensors.index.json"),
    *("optimizer.pt", "scaler.pt", "rng_state.pth", "rng_state_1.pth", "training_args.bin", ".gitattributes"),
]


def test_what_growth_and_save_pretrained_and_trainer_write_is_a_models_own(model: Path) -> None:
    list_modules(model)
    for name in (*OWN, PROGRESS, *(pattern.replace("*", "") for pattern in COPIED)):
        if not (model / name).exists():
            put(model, name)
    assert foreign_entries(model) == []
    check_target(model, overwrite=True)


def test_every_file_of_a_growth_is_its_own(source: Path, tmp_path: Path) -> None:
    grown = growth.widen_checkpoint(source, tmp_path / "wide", max_shard_size="50KB")
    assert foreign_entries(grown.path) == [] and looks_like_a_model(grown.path)


def test_what_growth_copied_is_its_own_and_no_more(source: Path, tmp_path: Path) -> None:
    """Names that could be anybody's are the model's where ``growth.json`` says that growth wrote
    them."""
    small = Path(shutil.copytree(source, tmp_path / "small"))
    copied = ("Gemma-License.pdf", "LICENSES/MIT.txt", "additional_chat_templates/tool.jinja")
    for name in copied:
        put(small, name)
    wide = growth.widen_checkpoint(small, tmp_path / "wide")
    assert {*copied, "growth.json", "README.md"} <= {*wide.files} and foreign_entries(wide.path) == []
    assert sorted(wide.files) == json.loads((wide.path / "growth.json").read_text())["files"]
    for name in ("My-License.pdf", "LICENSES/GPL.txt", "additional_chat_templates/mine.jinja", "licences/MIT.txt"):
        put(wide.path, name)
        assert foreign_entries(wide.path) == [
            name if "LICENSES" in name or "templates" in name else name.replace("MIT.txt", "")
        ]
        (wide.path / name).unlink()
    (wide.path / "licences").rmdir()
    growth.widen_checkpoint(small, wide.path, width=3, overwrite=True)


def test_a_pipe_is_not_waited_for(model: Path) -> None:
    for name in ("growth.json", "modules.json", "config.json"):
        (model / name).unlink(missing_ok=True)
        os.mkfifo(model / name)
    assert not looks_like_a_model(model) and foreign_entries(model) == []
