"""What lies at a path that should be a model: told before torch is imported, so that a wrong path
costs no seconds, and named where the mistake is a common one (an adapter, a GGUF file, a run
folder, a file that git-lfs has not fetched)."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from growth.errors import CheckpointError
from growth.hf.known_folders import CONVERT_GGUF, adapter_beside_weights, known_folder, other_weights
from growth.hf.paths import local_path, moved_aside
from growth.hf.source_files import check_inside

# In the order transformers looks for them.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

OF_ACCELERATE = (
    "Load it with accelerator.load_state(), grow in the loop with growth.widen(accelerator.unwrap_model(model), "
    "optimizer=optimizer.optimizer), and prepare and save what comes back."
)
"""Its groups are the caller's own, and no file of it says which parameter is which."""

_LFS = b"version https://git-lfs.github.com/spec/"
_SHOWN = 3


def check_source(source: str | os.PathLike[str]) -> Path | None:
    """The folder of a checkpoint, or None for what can only be a hub id.

    Raises:
        CheckpointError: for a path that holds no model, saying what it holds instead.

    Example:
        >>> check_source("out")
        CheckpointError: out is the folder of a training run. Name one of its checkpoints: out/checkpoint-500.
    """
    if not isinstance(source, (str, os.PathLike)) or not isinstance(os.fspath(source), str):
        raise CheckpointError(
            f"a checkpoint is a folder or a hub id, not a {type(source).__name__}. Name its folder; a model in "
            "memory is widened with growth.widen."
        )
    path = local_path(source)
    if os.path.isdir(path):
        check_model_folder(path)
        return path
    if os.path.exists(path):
        raise CheckpointError(_is_a_file(path))
    if (old := moved_aside(path)) is not None:
        raise CheckpointError(
            f"no such folder: {path}. A growth with --overwrite was interrupted there, and the model that it was to "
            f"replace is in {old}. Move it back, or run that growth again, which does."
        )
    if path.is_absolute() or str(source).startswith((".", "~")) or str(source).count("/") > 1 or not str(source):
        raise CheckpointError(
            f"no such folder: {path}. Name a folder that holds config.json, or a hub id such as 'org/model'"
            f"{_meant(path)}."
        )
    return None


def check_model_folder(folder: Path) -> None:
    """Refuse a folder without config.json or without weights, and say what it is.

    Raises:
        CheckpointError: as `check_source` does.
    """
    check_config(folder)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise CheckpointError(known_folder(folder) or _without_weights(folder))
    if said := adapter_beside_weights(folder):
        raise CheckpointError(said)
    check_inside(weights, folder)
    check_fetched(weights)


def check_config(folder: Path) -> None:
    """Refuse a folder without config.json.

    Raises:
        CheckpointError: as `check_source` does.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(_without_config(folder))
    check_inside(folder / "config.json", folder)
    check_fetched(folder / "config.json")


def check_fetched(path: Path) -> None:
    """Refuse a file in whose place git-lfs has left a pointer.

    Raises:
        CheckpointError: if this is one.
    """
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise CheckpointError(
                f"{path} is not the file but git-lfs's pointer to it. Fetch it: run `git lfs pull` in {path.parent}."
            )


def _is_a_file(path: Path) -> str:
    if path.suffix == ".gguf":
        return f"{path} is a GGUF file, whose weights are usually quantised. {CONVERT_GGUF}"
    return f"{path} is a file. Name the folder that holds config.json."


def _without_weights(folder: Path) -> str:
    """What a folder is that has a config and none of the files that weights are read from."""
    none = f"{folder} has no weights: none of {', '.join(WEIGHTS)}"
    if there := other_weights(folder):
        listed = ", ".join(f"'{name}'" for name in there[:_SHOWN])
        return f"{none}, but {listed}. If that is the model's state dict, load it into the model and save_pretrained."
    return f"{none}. Name the folder that a model was saved to."


def _without_config(folder: Path) -> str:
    """What a folder is that has no config.json, and what to name instead."""
    if said := known_folder(folder):
        return said
    if any(folder.glob("random_states_*.pkl")):
        return f"{folder} is a state that accelerate saved, without the model's config. {OF_ACCELERATE}"
    runs = sorted(
        (path.parent for path in folder.glob("checkpoint-*/config.json")),
        key=lambda path: int(path.name.rpartition("-")[2]) if path.name.rpartition("-")[2].isdecimal() else -1,
    )
    if runs:
        return f"{folder} is the folder of a training run. Name one of its checkpoints: {_listed(runs[::-1])}."
    below = sorted(path.parent for deep in ("*/config.json", "*/*/config.json") for path in folder.glob(deep))
    if models := [path for path in below if any((path / name).is_file() for name in WEIGHTS)]:
        return f"{folder} has no config.json, but models are below it. Name one of them: {_listed(models)}."
    return f"{folder} has no config.json. Name the folder that a model was saved to."


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:_SHOWN])) + (f" (and {len(paths) - _SHOWN} more)" if len(paths) > _SHOWN else "")


def _meant(path: Path) -> str:
    """What may have been meant by a path with a typing mistake in its last part."""
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except OSError:
        return ""
    near = get_close_matches(path.name, beside, n=1, cutoff=0.8)
    return f" (did you mean {path.parent / near[0]}?)" if near else ""
