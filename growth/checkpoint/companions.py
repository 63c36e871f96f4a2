"""The files beside weights and config: tokenizer, templates, licence, pooling config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from growth.hf.companion_names import companions
from growth.hf.config_json import read_json
from growth.hf.source_files import SourceFiles, leaves
from growth.plan.plan import Plan

_OF_PIPELINE = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
)

_REPLACED = ("model*.safetensors", "pytorch_model*.bin", "*.index.json")
"""What the wide model's weights replace."""


def copy_companions(source: SourceFiles, folder: Path, plan: Plan, covered: Sequence[str]) -> tuple[str, ...]:
    """Copy tokenizer files and the like, with the width in a sentence-transformers pooling config
    set to the new one.

    Args:
        source: the source's files. One behind a symbolic link that leaves its folder is not copied.
        folder: where to.
        plan: how the model grew.
        covered: names of files that were grown or copied already.

    Returns:
        The names of the files that were not copied, hidden ones aside; of a link that leaves the
        folder, with where it leads.
    """
    home = source.folder
    pipeline = [home / name for name in _OF_PIPELINE if (home / name).is_file()]
    wanted = {path for path in (*companions(home), *pipeline) if leaves(path, home) is None}
    for path in sorted(wanted):
        copy = folder / path.relative_to(home)
        copy.parent.mkdir(exist_ok=True)
        source.copy(path, copy)
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
    replaced = {*covered, "config.json", "growth.json"} | {path.name for path in wanted}
    replaced |= {path.name for pattern in _REPLACED for path in home.glob(pattern)}
    replaced |= set() if leaves(home / "README.md", home) else {"README.md"}
    parents = {path.parent for path in wanted}
    behind = [path for path in home.iterdir() if path.name not in replaced and path not in parents]
    return tuple(sorted(_named(path, home) for path in behind if not path.name.startswith(".")))


def _named(path: Path, home: Path) -> str:
    outside = leaves(path, home)
    return path.name if outside is None else f"{path.name} (a link to {outside}, outside the folder)"


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
