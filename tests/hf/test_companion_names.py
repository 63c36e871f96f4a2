"""Which files go with a model: every tokenizer file that transformers writes, templates, processors and
licences; nothing that holds weights or a training state."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import transformers
from transformers import utils

import growth
from growth.hf.companion_names import companions
from support.small_models import llama

LICENCES = ("LICENSE", "LICENCE", "license.txt", "Licence.md", "LICENSE-MODEL", "MODEL_LICENSE", "Gemma-License.pdf")
LICENCES += ("COPYING", "COPYRIGHT.txt", "NOTICE", "Notice.txt", "USE_POLICY.md", "use-policy.md", "LICENSES/MIT.txt")
LICENCES += ("ThirdPartyNotices.md", "third_party.txt", "LICENSE-APACHE-2.0", "LICENSE-MIT", "LICENSE.CC-BY-NC-4.0")

TEMPLATES = (utils.hub.CHAT_TEMPLATE_FILE, utils.hub.LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE)
TEMPLATES += tuple(f"{utils.hub.CHAT_TEMPLATE_DIR}/{name}.jinja" for name in ("rag", "tool_use"))

PROCESSORS = (
    utils.FEATURE_EXTRACTOR_NAME,
    utils.VIDEO_PROCESSOR_NAME,
    utils.PROCESSOR_NAME,
    utils.GENERATION_CONFIG_NAME,
)

FURTHER = (
    "tokenizer.model.v3",
    "tokenizer.model.v7m1",
    "tokenizer.4.0.0.json",
    "tekken.json",
    "qwen.tiktoken",
    "added_tokens.json",
    "special_tokens_map.json",
)

OTHERS = (
    "optimizer.pt",
    "tokenizer.bin",
    "vocab.safetensors",
    "license.gguf",
    "tokenizer_of_mine.py",
    "tf_model.h5",
    "notes.txt",
    "eval.json",
    "model_before_finetune_backup.safetensors",
    "pytorch_model_mine.bin",
    *("my_noticeable_results.csv", "copying_notes.md", "license_server_password.txt", "LICENSES/private.key"),
    *("tokenizer_training_corpus.jsonl", "vocab_statistics.csv", "merges_todo.md", "word_counts.json"),
    *("experiment.model", "mine.jinja", "additional_chat_templates/mine.txt", "use_policy_draft.md"),
)


def tokenizer_files() -> set[str]:
    """The files of all tokenizers of the transformers that is installed."""
    found: set[str] = set()
    for path in (Path(transformers.__file__).parent / "models").glob("*/tokenization*.py"):
        for table in re.findall(r"VOCAB_FILES_NAMES = \{(.*?)\}", path.read_text(encoding="utf-8"), re.DOTALL):
            found.update(re.findall(r":\s*[\"']([^\"']+)[\"']", table))
    return found


def test_they_come_along_and_nothing_else(tmp_path: Path) -> None:
    wanted = {*LICENCES, *TEMPLATES, *PROCESSORS, *FURTHER, *tokenizer_files()}
    assert len(wanted) > 50
    llama().save_pretrained(tmp_path / "small")
    for name in {*wanted, *OTHERS}:
        (tmp_path / "small" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "small" / name).write_text("{}")
    result = growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide")
    copied = {str(path.relative_to(tmp_path / "wide")) for path in (tmp_path / "wide").rglob("*") if path.is_file()}
    assert copied - wanted == {"README.md", "config.json", "growth.json", "model.safetensors"}
    assert not wanted - copied and set(result.left_behind) == set(OTHERS)


@pytest.mark.parametrize("name", ["noticeboard/x.json", "config.json", "trainer_state.json", "runs/tokenizer.json"])
def test_what_only_looks_like_one_is_none(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    assert companions(tmp_path) == []
