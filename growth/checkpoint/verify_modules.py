"""The modules behind the transformer of a sentence-transformers model, compared with what growth
makes of the source's (`growth.checkpoint.pipeline`)."""

from __future__ import annotations

import filecmp
from pathlib import Path

import torch
from transformers import PreTrainedModel

from growth.checkpoint.first_module import MODULES
from growth.checkpoint.pipeline import open_pipeline
from growth.checkpoint.results import ModulesBehind
from growth.checkpoint.run_pair import Model
from growth.checkpoint.sentence_modules import Module
from growth.errors import GrowthError
from growth.hf.companion_names import MODULE_WEIGHTS
from growth.hf.reader import open_weights, resolve
from growth.hf.source_files import SourceFiles
from growth.plan.plan import Plan
from growth.weights.grow import grow_tensor


def modules_behind(a: Model, b: Model, plan: Plan | None) -> ModulesBehind | None:
    """Compare the modules behind two transformers; None where there are none to compare.

    Args:
        a: the source.
        b: the grown model.
        plan: how b grew out of a.
    """
    if isinstance(a, PreTrainedModel) or isinstance(b, PreTrainedModel):
        return None
    source, target = SourceFiles(resolve(a)), SourceFiles(resolve(b))
    if not all((files.folder / MODULES).is_file() for files in (source, target)):
        return None
    if plan is None:
        return ModulesBehind(unknown="no growth.json says how the model grew out of this source")
    try:
        pipeline = open_pipeline(source, plan)
    except GrowthError as error:
        return ModulesBehind(unknown=str(error).partition(". ")[0])
    same: list[str] = []
    other: list[str] = []
    for module in pipeline.modules if pipeline else ():
        if any((module.path / name).is_file() for name in MODULE_WEIGHTS):
            alike = _alike(module, target, target.folder / module.path.name, plan.options.seed)
            (same if alike else other).append(module.path.name)
    return ModulesBehind(tuple(same), tuple(other)) if same or other else None


def _alike(module: Module, target: SourceFiles, folder: Path, seed: int) -> bool:
    """Whether a module of the grown model has the weights that growth makes of the source's."""
    if module.weights is None:
        names = [name for name in MODULE_WEIGHTS if (module.path / name).is_file()]
        return all(
            (folder / name).is_file() and filecmp.cmp(module.path / name, folder / name, shallow=False)
            for name in names
        )
    file = folder / MODULE_WEIGHTS[0]
    if not file.is_file():
        return False
    held, (read, shapes, dtypes) = module.weights, open_weights(file, target)
    return shapes == dict(held.shapes) and all(
        dtypes[name] == held.dtypes[name]
        and torch.equal(
            read(name), grow_tensor(held.read(name), plan, held.dtypes[name], seed=seed).reshape(held.shapes[name])
        )
        for name, plan in held.tensors.items()
    )
