"""The files beside weights and config: tokenizer, templates, licence, pooling config."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from growth.hf.config_json import read_json
from growth.plan.plan import Plan

# By pattern. Anything else (optimizer states, other frameworks' weights) may describe the old sizes.
_COMPANIONS = (
    *(
        "tokenizer*",
        "vocab*",
        "merges.txt",
        "special_tokens_map.json",
        "added_tokens.json",
        "*.model",
        "*.jinja",
        "chat_template*",
    ),
    *(
        "generation_config.json",
        "LICEN[CS]E*",
        "NOTICE*",
        "USE_POLICY*",
        "*preprocessor_config.json",
        "processor_config.json",
    ),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"),
    *(
        "spiece*",
        "sentencepiece*",
        "*.spm",
        "*.tiktoken",
        "target_vocab.json",
        "bpe.codes",
        "dict.txt",
        "normalizer.json",
        "emoji.json",
    ),
    *("tekken.json", "byte_maps.json"),
)


_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "*.index.json")
"""What the wide model's weights replace."""


def copy_companions(source: Path, folder: Path, plan: Plan, covered: Sequence[str]) -> tuple[str, ...]:
    """Copy tokenizer files and the like, with the width in a sentence-transformers pooling config
    set to the new one.

    Args:
        source, folder: from where, and where to.
        plan: how the model grew.
        covered: names of files that were grown or copied already.

    Returns:
        The names of the files that were not copied, hidden ones aside.
    """
    wanted = {
        path
        for pattern in _COMPANIONS
        for path in source.glob(pattern)
        if path.is_file() and path.suffix not in (".bin", ".safetensors")
    }
    for path in sorted(wanted):
        copy = folder / path.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file():  # sentence-transformers keeps the width of the embedding beside the model's own config
        described = read_json(pooling)
        hidden = plan.old_sizes.get("hidden_size")
        if (
            isinstance(described, dict)
            and hidden is not None
            and described.get("word_embedding_dimension", hidden) == hidden
        ):
            write_json(pooling, {**described, "word_embedding_dimension": plan.new_sizes["hidden_size"]})
    replaced = {*covered, "config.json", "README.md", "growth.json"}
    replaced |= {path.name for pattern in _WEIGHTS for path in source.glob(pattern)}
    behind = [
        p
        for p in source.iterdir()
        if p.name not in replaced and p not in wanted and not any(p in w.parents for w in wanted)
    ]
    return tuple(sorted(p.name for p in behind if not p.name.startswith(".")))


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
