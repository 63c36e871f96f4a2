"""A sentence-transformers model: the modules that its ``modules.json`` puts behind the transformer.

    0  .           Transformer   writes token_embeddings, as a rule the last hidden state  [.., hidden_size]
    1  1_Pooling   Pooling       token_embeddings -> sentence_embedding              [.., modes * hidden_size]
    2  2_Dense     Dense         sentence_embedding -> sentence_embedding            [.., out_features]

The hidden state becomes wider, so a Dense that reads it grows as any matrix does that reads it, and
what comes out of it is what it was. A pooling only has its width written in its config. Behind them
nothing is wider, and everything is copied. A module of another kind that would read a wider feature
is refused: a result whose ``modules.json`` does not fit what is there would be worse than none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from growth.checkpoint.companions import write_json
from growth.checkpoint.first_module import ALONE, MODULES, written_feature
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.checkpoint.sentence_modules import Module, Weights, Wide, read_module
from growth.errors import UnsupportedModelError
from growth.hf.companion_names import MODULE_WEIGHTS, SENTENCE_CONFIGS
from growth.hf.config_json import read_json
from growth.hf.source_files import SourceFiles
from growth.plan.plan import Plan
from growth.weights.fold import Fold
from growth.weights.model_weights import growing_tensors

_ABOUT = (*SENTENCE_CONFIGS, "config_sentence_transformers.json")
"""What else such a model has in its main folder; nothing in it is a width."""


@dataclass(frozen=True)
class Pipeline:
    """The modules behind a transformer that grows by ``plan``.

    Args:
        source: the files of the checkpoint.
        plan: how the transformer grows.
        modules: behind it, in order.
        note: what the caller should know; empty for nothing.
    """

    source: SourceFiles
    plan: Plan
    modules: Sequence[Module]
    note: str = ""

    @property
    def files(self) -> list[Path]:
        """The weight files of modules that grow."""
        return [module.weights.file for module in self.modules if module.weights]

    def write(self, folder: Path, allow_nonfinite: bool = False) -> list[str]:
        """Write the grown modules, and what else belongs to them.

        Args:
            folder: to write into.
            allow_nonfinite: carry NaN and infinity over instead of refusing them.

        Returns:
            The source's files and folders that are now covered, relative to its folder.

        Raises:
            CheckpointError: a weight that holds NaN or infinity, a file behind a link.
        """
        home = self.source.folder
        covered = [MODULES, *(name for name in _ABOUT if (home / name).is_file())]
        for name in covered:
            self.source.copy(home / name, folder / name)
        for module in self.modules:
            self._write_module(module, folder / module.path.name, allow_nonfinite)
            covered += [module.path.name, *(f"{module.path.name}/{name}" for name in module.files)]
        return covered

    def _write_module(self, module: Module, folder: Path, allow_nonfinite: bool) -> None:
        if not module.path.is_dir():
            return
        folder.mkdir()
        for name in module.files:
            edited = name == "config.json" and module.config is not None
            if not edited and not (module.weights and name in MODULE_WEIGHTS):
                self.source.copy(module.path / name, folder / name)
        if module.config is not None:
            write_json(folder / "config.json", module.config)
        if module.weights:
            _write_weights(folder / MODULE_WEIGHTS[0], self.plan, module.weights, allow_nonfinite)


def open_pipeline(source: SourceFiles, plan: Plan) -> Pipeline | None:
    """The sentence-transformers modules of a checkpoint, and how they grow; None where it has none.

    Raises:
        CheckpointError: a module whose files are not there, or do not fit.
        UnsupportedModelError: a module that reads a wider feature in a way that is not known.
    """
    listed = _listed(source)
    if not listed:
        return None
    wide = Wide(written_feature(source, plan, listed[0][1]), plan)
    modules = [read_module(source, path, kind, wide) for path, kind in listed[1:]]
    return Pipeline(source, plan, modules, wide.note())


def _listed(source: SourceFiles) -> list[tuple[Path, str]]:
    """(Folder, class) of each module that ``modules.json`` lists; empty if it is none of
    sentence-transformers."""
    path = source.folder / MODULES
    if not path.is_file():
        return []
    source.note(path)
    listed = read_json(path)
    if not isinstance(listed, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("path"), str) and isinstance(entry.get("type"), str)
        for entry in listed
    ):
        return []
    for place, entry in enumerate(listed):
        name, own = entry["path"], entry["type"].startswith("sentence_transformers.")
        if name != os.path.basename(name) or name in (".", "..") or bool(name) == (place == 0) or not own:
            raise UnsupportedModelError(
                f"{MODULES} lists '{name}' of type '{entry['type']}', where the transformer in '' and then modules of "
                f"sentence-transformers in folders of their own are understood. {ALONE}"
            )
    return [(source.folder / entry["path"], entry["type"].rpartition(".")[2]) for entry in listed]


def _write_weights(path: Path, plan: Plan, weights: Weights, allow_nonfinite: bool) -> None:
    """Grow the tensors of one module, and read each back."""
    own = replace(plan, tensors=weights.tensors)
    with SafetensorsWriter(path, {name: (weights.shapes[name], weights.dtypes[name]) for name in own.tensors}) as file:
        for growing in growing_tensors(
            own, own.tensors, weights.read, weights.dtypes, Fold(), allow_nonfinite=allow_nonfinite
        ):
            for block in growing.blocks():
                file.append(block)
