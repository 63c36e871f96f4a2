"""Reading a checkpoint folder: its config, the names, shapes and dtypes of its tensors, and one
tensor at a time.

Nothing here executes code that comes with a checkpoint: pickles are read with
``weights_only=True``, and an index may name files inside its own folder only."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import Tensor

from growth.errors import FOREIGN_ERRORS, CheckpointError
from growth.hf.companion_names import FETCHED
from growth.hf.config_json import read_json
from growth.hf.configs import Config
from growth.hf.dtypes import SAFETENSORS
from growth.hf.folders import WEIGHTS, check_fetched, check_model_folder, check_source
from growth.hf.hub import HUB_ERRORS, hub_error
from growth.hf.safetensors_reader import read_header, read_tensor
from growth.hf.source_files import SourceFiles

Reader = Callable[[str], Tensor]


@dataclass
class Checkpoint:
    """An open checkpoint folder.

    Args:
        folder: where it is.
        config: ``config.json`` as it stands.
        shapes, dtypes: by tensor name.
        weight_files: the files tensors are read from.
        files: all files that are read; `SourceFiles.check_unchanged` says whether they still are
            what they were.
        stored_as: name -> name in the file, where that is another (`growth.hf.fitting`).
        notes: what a plan should say about how it was read, a sentence each.
    """

    folder: Path
    config: Config
    files: SourceFiles
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    weight_files: list[Path] = field(default_factory=list)
    stored_as: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    _readers: dict[str, Reader] = field(default_factory=dict)

    def read(self, name: str) -> Tensor:
        """One tensor. Its file is opened, or mapped, for it alone: memory is to depend on the largest
        tensor, not on the model.

        Raises:
            CheckpointError: if it cannot be read, or the file is not what it was when it was opened.
        """
        try:
            return self._readers[name](name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"tensor '{name}' in {self.folder} cannot be read: {error}. Fetch the file again."
            ) from error


def resolve(source: str | os.PathLike[str]) -> Path:
    """A local folder as it is, or a hub id downloaded by huggingface_hub.

    Raises:
        CheckpointError: if it is neither, or holds no model.
    """
    if (local := check_source(source)) is not None:
        return local
    try:
        folder = Path(snapshot_download(str(source), allow_patterns=list(FETCHED)))
        if not any(folder.glob("model*.safetensors")):
            folder = Path(snapshot_download(str(source), allow_patterns=[*FETCHED, "pytorch_model*.bin"]))
    except HUB_ERRORS as error:
        raise hub_error(source, error) from error
    check_model_folder(folder)
    return folder


def open_checkpoint(source: str | os.PathLike[str]) -> Checkpoint:
    """Open a checkpoint folder or hub id for reading.

    Raises:
        CheckpointError: if anything about it is missing, corrupt or unsafe.
    """
    folder = resolve(source)
    files = SourceFiles(folder)
    checkpoint = Checkpoint(folder, Config(_read_config(files)), files)
    held_by: dict[str, str] = {}
    for path, listed in _weight_files(files).items():
        checkpoint.weight_files.append(path)
        reader, shapes, dtypes = open_weights(path, files)
        for name in dict.fromkeys((*listed, *shapes)):  # transformers loads what no index lists as well
            if name not in shapes:
                raise CheckpointError(
                    f"the index says tensor '{name}' is in {path.name}, but it is not. Fetch the checkpoint again."
                )
            if name in held_by:
                raise _in_two(name, held_by[name], path)
            held_by[name] = path.name
            checkpoint.shapes[name], checkpoint.dtypes[name] = shapes[name], dtypes[name]
            checkpoint._readers[name] = reader
    _check_dtypes(checkpoint)
    return checkpoint


def _in_two(name: str, one: str, path: Path) -> CheckpointError:
    """The error for a tensor that two shards hold. Which of the two the index names does not matter
    to transformers: it reads all that a shard holds, one shard after the other by name."""
    return CheckpointError(
        f"tensor '{name}' is in {one} and in {path.name} of {path.parent}; transformers loads that of "
        f"{max(one, path.name)}, whatever the index names. Fetch the checkpoint again, or load it and save_pretrained."
    )


def _read_config(files: SourceFiles) -> dict[str, Any]:
    path = files.folder / "config.json"
    files.note(path)
    config = read_json(path)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} does not hold a JSON object. Fetch the file again.")
    return config


def _weight_files(files: SourceFiles) -> dict[Path, list[str]]:
    """File -> the tensors an index lists for it."""
    folder = files.folder
    name = next(name for name in WEIGHTS if (folder / name).is_file())  # `check_model_folder` has seen to that
    if not name.endswith(".index.json"):
        return {folder / name: []}
    files.note(folder / name)
    index = read_json(folder / name)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(
            f"{folder / name} has no 'weight_map' of tensor names to file names. Fetch the file again."
        )
    shards: dict[Path, list[str]] = {}
    for tensor, shard in weight_map.items():
        if shard != os.path.basename(shard) or shard in ("", ".", ".."):
            raise CheckpointError(
                f"{name} points outside its folder for tensor '{tensor}': '{shard}'. Such an index is not followed; "
                "fetch "
                "the checkpoint again."
            )
        if not os.path.isfile(folder / shard):
            raise CheckpointError(
                f"{name} names shard '{shard}' (tensor '{tensor}'), which is not in {folder}. Fetch the missing file."
            )
        shards.setdefault(folder / shard, []).append(tensor)
    return shards


def open_weights(path: Path, files: SourceFiles) -> tuple[Reader, dict[str, tuple[int, ...]], dict[str, torch.dtype]]:
    """One weight file: how a tensor of it is read, and the shapes and dtypes by name.

    Raises:
        CheckpointError: a file that is not whole, needs code to be read, or is behind a link that
            leaves the folder.
    """
    files.note(path)
    check_fetched(path)
    if path.suffix == ".bin":
        tensors = _unpickle(path)
        shapes, dtypes = {n: tuple(t.shape) for n, t in tensors.items()}, {n: t.dtype for n, t in tensors.items()}

        def mapped(name: str) -> Tensor:
            files.note(path)
            return _unpickle(path)[name]

        # A zip is mapped anew for each tensor; older files can only be read whole.
        return mapped if _is_zip(path) else tensors.__getitem__, shapes, dtypes

    def read(name: str) -> Tensor:
        with files.open(path) as file:
            return read_tensor(file, stored[name], lambda start, content: files.follow(path, file, start, content))

    try:
        with files.open(path) as file:
            stored = read_header(path, file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}. Fetch the file again.") from error
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    # Dtypes that no weight may have stay as the format names them, for `_check_dtypes` to say.
    named: dict[str, Any] = dict(SAFETENSORS)
    return read, shapes, {name: named.get(tensor.dtype, tensor.dtype) for name, tensor in stored.items()}


def unpickle(path: Path) -> Any:
    """What a PyTorch file holds, on the CPU, memory-mapped where the format allows. It is read
    without running code of its own.

    Raises:
        CheckpointError: for a file that is not whole, or needs code to be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except FOREIGN_ERRORS as error:
        if isinstance(error, UnpicklingError) and "weights_only" in str(error):
            raise CheckpointError(
                f"{path} cannot be read safely: it needs full unpickling, which runs code. Convert it to safetensors "
                "where you trust it."
            ) from error
        if "Cannot allocate memory" in str(error):
            raise CheckpointError(
                f"{path} is larger than the memory that a process may map here ({path.stat().st_size / 1e9:.1f} GB), "
                "and a PyTorch file is read by mapping it whole. Convert it to safetensors, which is read tensor by "
                "tensor, on a machine with more memory."
            ) from error
        reason = "it is empty or cut short" if isinstance(error, EOFError) else _reason(error)
        raise CheckpointError(f"{path} is not a whole PyTorch file: {reason}. Fetch the file again.") from error


def _unpickle(path: Path) -> dict[str, Tensor]:
    loaded = unpickle(path)
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and is_dense(value) for name, value in loaded.items()
    ):
        raise CheckpointError(f"{path} does not hold a dictionary of tensors. Save the model's state dict.")
    return {name: value.detach() for name, value in loaded.items()}  # a state dict may hold parameters


def is_dense(value: object) -> bool:
    """Whether a value is a tensor whose numbers are all there."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta


def _reason(error: Exception) -> str:
    """The first sentence of what somebody else's error says."""
    return " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _check_dtypes(checkpoint: Checkpoint) -> None:
    for name, dtype in checkpoint.dtypes.items():
        if dtype not in SAFETENSORS.values():
            raise CheckpointError(
                f"tensor '{name}' has dtype {dtype}, which shares of a weight cannot be exact in. Widen the original "
                "(float64, float32, float16, bfloat16) and quantise the result."
            )
