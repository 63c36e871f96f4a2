"""What the folder of one model holds: what growth, ``save_pretrained`` and `transformers.Trainer`
write into it. Only such a folder is ever replaced, so a file belongs to it by its exact name, or
because ``growth.json`` says that growth wrote it; what is in doubt is foreign."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from growth.hf.companion_names import INDICES, MODULE_FILES, SENTENCE_CONFIGS, is_standard, is_weights
from growth.hf.fsdp_folder import FULL, FULL_OPTIMIZER, SHARDED, SHARDED_OPTIMIZER, fsdp_folder

_FILES = frozenset(
    (
        *(*INDICES, "config.json", "growth.json", "README.md", ".gitattributes", ".DS_Store"),
        *("modules.json", *SENTENCE_CONFIGS, "config_sentence_transformers.json"),
        *("trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt"),
        *(FULL, FULL_OPTIMIZER, "scheduler.bin", "sampler.bin", "dl_state_dict.bin"),
    )
)
_RNG_STATE = re.compile(r"rng_state(_\d+)?\.pth|random_states_\d+\.pkl")
_FSDP = (SHARDED, SHARDED_OPTIMIZER)
_FSDP_FILE = re.compile(r"\.metadata|__\d+_\d+\.distcp")


def looks_like_a_model(folder: Path) -> bool:
    """Whether a folder holds weights, of ``save_pretrained`` or of FSDP, and a ``config.json`` with a
    model_type."""
    config = _json(folder / "config.json")
    typed = isinstance(config, dict) and isinstance(config.get("model_type"), str)
    if not typed:
        return False
    return fsdp_folder(folder) is not None or any(
        is_weights(path.name) and path.is_file() for path in folder.iterdir()
    )


def foreign_entries(folder: Path) -> list[str]:
    """What a folder holds that the folder of one model does not.

    Example:
        >>> foreign_entries(Path("out"))  # of a training run
        ['checkpoint-500/', 'notes.txt', 'runs/']
    """
    written, modules = _written(folder), _modules(folder)
    found = []
    for path in sorted(folder.iterdir()):
        name = path.name
        if not path.is_dir():
            if name not in written and name not in _FILES and not _is_own(name):
                found.append(name)
            continue
        inside = sorted(path.iterdir())
        own = [one for one in inside if _belongs(one, f"{name}/{one.name}", name in modules, written)]
        if not own and name not in modules:
            found.append(f"{name}/")
        else:
            found += [f"{name}/{one.name}" for one in inside if one not in own]
    return found


def _is_own(name: str) -> bool:
    return is_weights(name) or is_standard(name) or _RNG_STATE.fullmatch(name) is not None


def _belongs(path: Path, name: str, in_module: bool, written: frozenset[str]) -> bool:
    """Whether an entry of a folder in the folder of a model is the model's."""
    if path.is_dir():
        return False
    of_fsdp = path.parent.name in _FSDP and _FSDP_FILE.fullmatch(path.name) is not None
    return name in written or (in_module and path.name in MODULE_FILES) or of_fsdp


def _written(folder: Path) -> frozenset[str]:
    """The files that growth wrote, by its record."""
    record = _json(folder / "growth.json")
    files = record.get("files") if isinstance(record, dict) else None
    return frozenset(name for name in files if isinstance(name, str)) if isinstance(files, list) else frozenset()


def _modules(folder: Path) -> frozenset[str]:
    """The folders that ``modules.json`` of a sentence-transformers model lists."""
    listed = _json(folder / "modules.json")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    paths = [entry.get("path") for entry in entries if str(entry.get("type")).startswith("sentence_transformers.")]
    return frozenset(path for path in paths if isinstance(path, str) and path and path == os.path.basename(path))


def _json(path: Path) -> Any:
    """The content of a JSON file; None where it is none, or no plain file (a pipe has no end)."""
    try:
        return json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
