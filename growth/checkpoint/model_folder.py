"""What the folder of one model holds: what growth, ``save_pretrained`` and `transformers.Trainer`
write into it, and the files that go with a model. Only such a folder is ever replaced."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

from growth.hf.companion_names import companions

_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_FILES = (
    *_WEIGHTS,
    *("model*.safetensors.index.json", "pytorch_model*.bin.index.json", "config.json", "growth.json", "README.md"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *("trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth"),
    *(".gitattributes", ".DS_Store"),
)
_MODULE = re.compile(r"\d+_\w+")
"""The folder of one module of a sentence-transformers model, such as ``1_Pooling`` or ``2_Dense``."""
_MODULE_FILES = ("config.json", "model*.safetensors", "pytorch_model*.bin")


def looks_like_a_model(folder: Path) -> bool:
    """Whether a folder holds weights and a ``config.json`` with a model_type."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    typed = isinstance(config, dict) and isinstance(config.get("model_type"), str)
    return typed and any(path.is_file() for pattern in _WEIGHTS for path in folder.glob(pattern))


def foreign_entries(folder: Path) -> list[str]:
    """What a folder holds that the folder of one model does not.

    Example:
        >>> foreign_entries(Path("out"))  # of a training run
        ['checkpoint-500/', 'notes.txt', 'runs/']
    """
    known = set(companions(folder))
    found = []
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            if path not in known and not _matches(path, _FILES):
                found.append(path.name)
        elif _MODULE.fullmatch(path.name):
            inside = {one for one in path.iterdir() if one.is_dir() or not _matches(one, _MODULE_FILES)}
            found += [f"{path.name}/{one.name}" for one in sorted(inside - set(companions(path)))]
        elif inside := set(path.iterdir()):
            unknown = sorted(inside - known)
            found += [f"{path.name}/"] if len(unknown) == len(inside) else [f"{path.name}/{p.name}" for p in unknown]
        else:
            found.append(f"{path.name}/")
    return found


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path.name, pattern) for pattern in patterns)
