"""Reading a model that accelerate, or Trainer, saved under FSDP (`growth.hf.fsdp_folder`), tensor by tensor
and without a process group.

Such a folder holds the model's state dict: names and shapes as they are in memory, tied weights under each
of their names, and no config. A plan is made for names on disk, so every tensor is renamed, and where
transformers fuses several (the experts of a layer) split, as it is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from torch import Tensor
from transformers import PreTrainedModel

from growth.errors import CheckpointError, UnsupportedModelError
from growth.hf.config_json import read_json
from growth.hf.configs import Config, config_to_build
from growth.hf.dcp_reader import ShardedFolder
from growth.hf.expected_tensors import expected_tensors, without_weights
from growth.hf.fitting import PEFT
from growth.hf.fsdp_folder import SAVE_SHARDED, FsdpFolder
from growth.hf.hub import HUB_ERRORS, hub_error
from growth.hf.model_classes import class_of
from growth.hf.paths import local_path
from growth.hf.reader import Checkpoint, open_weights
from growth.hf.source_files import SourceFiles
from growth.hf.tensor_names import to_disk


@dataclass
class FsdpCheckpoint:
    """An open folder of FSDP.

    Args:
        found: what it holds.
        checkpoint: its tensors, by their names on disk, each tied one once.
        config_file: where its config was read from.
        config_files: the files of that folder, of which this one was noted.
        model: of that config, on the meta device.
        shapes, dtypes: by name in memory, of all tensors that are stored.
        read_stored: name in memory -> that tensor.
        tied: name in memory of a tensor that is stored a second time -> the name under which it is read.
    """

    found: FsdpFolder
    checkpoint: Checkpoint
    config_file: Path
    config_files: SourceFiles
    model: PreTrainedModel
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    read_stored: Callable[[str], Tensor]
    tied: Mapping[str, str] = field(default_factory=dict)


def open_fsdp(found: FsdpFolder, config: str | os.PathLike[str] | None = None) -> FsdpCheckpoint:
    """Open a folder of FSDP for reading.

    Args:
        found: what it holds.
        config: a config.json, a folder that has one, or a hub id; None for that of the folder.

    Raises:
        CheckpointError: tensors that are missing, damaged or unsafe, or not those of the config.
        UnsupportedModelError: a config without a class that can be built.

    Example:
        >>> opened = open_fsdp(fsdp_folder("out/checkpoint-500"), "org/model")
        >>> opened.checkpoint.shapes["model.norm.weight"]
        (64,)
    """
    files = SourceFiles(found.folder)
    path = _config_file(found.folder, config)
    beside = files if path.parent.resolve() == found.folder.resolve() else SourceFiles(path.resolve().parent)
    beside.note(path if beside is files else path.resolve())
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} does not hold a JSON object. Name the config.json of the model.")
    checkpoint = Checkpoint(found.folder, Config(raw), files)
    model_class = class_of(checkpoint.config)
    expected_tensors(checkpoint.config, model_class)  # which refuses what cannot be built
    model = without_weights(config_to_build(checkpoint.config), model_class)
    read, shapes, dtypes = _stored(found, checkpoint)
    _check_names(found, model, shapes, path)
    opened = FsdpCheckpoint(found, checkpoint, path, beside, model, shapes, dtypes, read, _tied(model, shapes))
    _rename(opened)
    return opened


def _config_file(folder: Path, config: str | os.PathLike[str] | None) -> Path:
    """The config.json that a caller names."""
    if config is None:
        return folder / "config.json"
    path = local_path(config)
    if path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise CheckpointError(f"{path.parent}, named as the config, has no config.json. Name the file itself.")
    if path.exists():
        return path
    if path.suffix == ".json" or path.is_absolute() or str(config).startswith(".") or str(config).count("/") > 1:
        raise CheckpointError(f"no such config: {path}. Name a config.json, a folder that has one, or a hub id.")
    try:
        return Path(hf_hub_download(str(config), "config.json"))
    except HUB_ERRORS as error:
        raise hub_error(config, error) from error


def _stored(
    found: FsdpFolder, checkpoint: Checkpoint
) -> tuple[Callable[[str], Tensor], dict[str, tuple[int, ...]], dict[str, torch.dtype]]:
    """How a stored tensor is read, and the shapes and dtypes by name in memory."""
    if not found.sharded:
        checkpoint.weight_files.append(found.weights)
        return open_weights(found.weights, checkpoint.files)
    folder = ShardedFolder(found.weights, checkpoint.files)
    checkpoint.weight_files.extend(folder.files)
    shapes, dtypes = {}, {}
    for place in folder.keys:
        about = folder.tensor(place)
        if len(place) != 2 or place[0] != "model" or about is None:
            raise CheckpointError(
                f"{found.weights} holds '{'.'.join(map(str, place))}', where accelerate saves the tensors of a model "
                "below 'model'. Save it with accelerator.save_state, or name the folder of a model."
            )
        name = str(place[1])
        shapes[name], dtypes[name] = tuple(about.size), about.properties.dtype
    return lambda name: _tensor(folder.read(("model", name))), shapes, dtypes


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _check_names(found: FsdpFolder, model: PreTrainedModel, shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Refuse tensors that are not those of the model."""
    expected, whose = {name: tuple(value.shape) for name, value in model.state_dict().items()}, type(model).__name__
    if flat := next((name for name in shapes if "_flat_param" in name or "flat_param" in name.split(".")), None):
        raise CheckpointError(
            f"{found.weights} holds '{flat}', a flat piece of FSDP1 without names or shapes. {SAVE_SHARDED}"
        )
    if found_peft := next((name for name in shapes if PEFT & set(name.split("."))), None):
        raise CheckpointError(
            f"{found.weights} holds tensors of a PEFT adapter ('{found_peft}'). Merge it (model.merge_and_unload()), "
            "save that, and widen it."
        )
    if foreign := [name for name in shapes if name not in expected]:
        raise CheckpointError(
            f"{found.weights} holds '{foreign[0]}'{_more(foreign)}, which {whose}, the class that {path} names, does "
            "not have. Name the config of the model that was trained."
        )
    groups = _groups(model)
    missing = [name for name in expected if name not in shapes and not groups.get(name, set()) & shapes.keys()]
    if missing:
        raise CheckpointError(
            f"{found.weights} lacks '{missing[0]}'{_more(missing)}, which {whose} has by {path}. Name the config of "
            "the model that was trained, or fetch the missing files."
        )
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise CheckpointError(
                f"tensor '{name}' in {found.weights} has shape {list(shape)}, but {path} makes it "
                f"{list(expected[name])}. Name the config of the model that was trained."
            )


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _groups(model: PreTrainedModel) -> dict[str, set[str]]:
    """Name in memory -> names of all tensors tied with it, its own among them."""
    groups: dict[str, set[str]] = {}
    for target, source in (model.all_tied_weights_keys or {}).items():
        group = {target, source} | groups.get(target, set()) | groups.get(source, set())
        groups |= dict.fromkeys(group, group)
    return groups


def _tied(model: PreTrainedModel, stored: Mapping[str, object]) -> dict[str, str]:
    """Tensors that are stored again under another name -> the name under which they are read: the one that
    the others are tied to."""
    targets = (model.all_tied_weights_keys or {}).keys()
    tied: dict[str, str] = {}
    for group in {id(group): group for group in _groups(model).values()}.values():
        there = sorted((name for name in stored if name in group), key=lambda name: name in targets)
        tied |= dict.fromkeys(there[1:], there[0])
    return tied


def _rename(opened: FsdpCheckpoint) -> None:
    """List the tensors by their names on disk."""
    checkpoint, model = opened.checkpoint, opened.model
    owners: dict[str, str] = {}
    for name, shape in opened.shapes.items():
        if name in opened.tied:
            continue
        meta = torch.empty(shape, dtype=opened.dtypes[name], device="meta")
        for stored, part in to_disk(model, {name: meta}).items():
            owners[stored] = name
            checkpoint.shapes[stored], checkpoint.dtypes[stored] = tuple(part.shape), part.dtype
    expected, _ = expected_tensors(checkpoint.config, type(model))
    if odd := [name for name, shape in checkpoint.shapes.items() if expected.get(name, shape) != shape]:
        raise UnsupportedModelError(
            f"'{odd[0]}' is made of several tensors in memory, and under FSDP these are read one by one. Load the "
            "checkpoint into the model, save_pretrained, and widen that."
        )
    last: dict[str, dict[str, Tensor]] = {}

    def read(stored: str) -> Tensor:
        name = owners[stored]
        if name not in last:
            last.clear()  # before the next is read
            last[name] = to_disk(model, {name: opened.read_stored(name)})
        return last[name][stored]

    checkpoint._readers = dict.fromkeys(checkpoint.shapes, read)
