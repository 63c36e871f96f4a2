"""What a growth that succeeded must have made: the same function, and a whole folder that loads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fuzz.damage import SECRET
from fuzz.guard import DoesNotRun, Found, raw_controls
from growth.checkpoint import widen as widening
from growth.errors import FOREIGN_ERRORS, GrowthError
from growth.hf.configs import config_to_build
from growth.hf.model_classes import class_of
from growth.hf.reader import open_checkpoint
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.plan import Plan
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import build_exact, loud
from growth.proof.outputs import Outputs, forward, largest_difference
from growth.proof.twin import TwinReport
from growth.weights.grow import grow_tensor

LARGEST, PRECISION, SWAMPS = 3_000_000, 1e-9, 1e15
"""Parameters of a model that is run; difference, over the size of the outputs, at which it is another function."""


@contextmanager
def remembered_twins() -> Iterator[None]:
    """The twin of one config, options and sizes runs once, for the whole of a run: weights and files take no part
    in it."""
    right, known = widening.prove_twin, {}

    def prove(plan: Plan, device: Any = "cpu") -> TwinReport:
        key = repr((sorted(plan.old.items()), plan.options, plan.old_sizes, plan.new_sizes, device))
        if key not in known:
            known[key] = right(plan, device)
        return known[key]  # type: ignore[no-any-return]

    widening.prove_twin = prove  # type: ignore[assignment]
    try:
        yield
    finally:
        widening.prove_twin = right


def same_function(plan: Plan, seed: int) -> None:
    """Raise `Found` if a model of the plan's config, at its own sizes, and the grown one differ.

    Raises:
        DoesNotRun: where the config makes no model that runs.
    """
    if plan.lossy or plan.parameters(new=True) > LARGEST:
        raise DoesNotRun
    with exact_arithmetic(), torch.random.fork_rng(devices=[]):
        try:
            small = build_exact(plan.old)
            loud(small, seed)
            inputs = [random_inputs(small, _vocabulary(small), length=length) for length in (13, 5)]
            before = [forward(small, each) for each in inputs]
        except (GrowthError, *FOREIGN_ERRORS) as error:
            raise DoesNotRun from error
        weights = {name: value.detach() for name, value in to_disk(small, small.state_dict()).items()}
        parts = {} if plan.extension is None else plan.extension.parts
        if {parts[name].source if name in parts else name for name in plan.tensors} - weights.keys():
            raise DoesNotRun
        wide = build_exact(plan.new)
        read = plan.reading(weights.__getitem__)
        state = {name: grow_tensor(read(name), tensor, seed=seed) for name, tensor in plan.tensors.items()}
        wide.load_state_dict(from_disk(wide, state), strict=False)
        _compare(before, [forward(wide, each) for each in inputs], plan)


def same_folders(source: Path, target: Path, plan: Plan) -> None:
    """Raise `Found` if two folders, loaded by plain ``from_pretrained`` in float64, compute different things beyond
    the rounding of the weights' dtype."""
    if plan.lossy or plan.parameters(new=True) > LARGEST:
        raise DoesNotRun
    with exact_arithmetic(), torch.random.fork_rng(devices=[]):
        try:
            small, missing = _loaded(source, plan.old)
            inputs = random_inputs(small, _vocabulary(small), length=13)
            before = forward(small, inputs)
        except FOREIGN_ERRORS as error:
            raise DoesNotRun from error
        if missing or not all(value.isfinite().all() for value in before.values()):
            raise DoesNotRun
        if any((value.detach().abs() > SWAMPS).any() for value in small.state_dict().values()):
            raise DoesNotRun  # beside such a weight the others are below the rounding of a sum, in any order
        wide, missing = _loaded(target, plan.new)
        if missing:
            raise Found("result", f"the result lacks {sorted(missing)[:3]}")
        _compare([before], [forward(wide, inputs)], plan, 0.02)


def _loaded(folder: Path, raw: Mapping[str, Any]) -> tuple[Any, set[str]]:
    config = config_to_build(raw)
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model, info = class_of(raw).from_pretrained(
        folder, config=config, dtype=torch.float64, output_loading_info=True, local_files_only=True, **eager
    )
    return model.to(torch.float64).eval(), {*info["missing_keys"], *map(str, info["mismatched_keys"])}


def _vocabulary(model: Any) -> int:
    sizes = [
        getattr(part, "vocab_size", None)
        for part in (model.config, *(getattr(model.config, name, None) for name in model.config.sub_configs))
    ]
    return min((size for size in sizes if isinstance(size, int)), default=2)


def _compare(before: list[Outputs], after: list[Outputs], plan: Plan, precision: float = PRECISION) -> None:
    scale = max(float(value.abs().max()) for outputs in before for value in outputs.values())
    if not scale < 1e12:
        raise DoesNotRun
    differs = max(largest_difference(*pair, plan) for pair in zip(before, after, strict=True))
    if not differs <= precision * max(scale, 1.0):
        raise Found("silently wrong", f"outputs up to {scale:.3g} differ by {differs:.3g}")


def check_whole(target: Path) -> None:
    """Raise `Found` unless the folder is a model with nothing of others in it."""
    for name in ("config.json", "growth.json", "README.md"):
        if not (target / name).is_file():
            raise Found("result", f"no {name}")
    card = (target / "README.md").read_text(encoding="utf-8")
    own = card.partition("\n# ")[2].partition("The card of the source")[0]
    if odd := raw_controls(own, "\n"):
        raise Found("control character", f"{odd} in README.md")
    record = json.loads((target / "growth.json").read_text(encoding="utf-8"))
    if not {"proof", "plan", "source"} <= record.keys():
        raise Found("result", "growth.json lacks a part")
    for path in target.rglob("*"):
        if path.is_symlink():
            raise Found("result", f"{path.name} is a link")
        if path.is_file() and SECRET in path.read_bytes():
            raise Found("leaked", f"{path.relative_to(target)} holds what lies outside the source")
    try:
        opened = open_checkpoint(target)
        for name in list(opened.shapes)[:3]:
            opened.read(name)
    except GrowthError as error:
        raise Found("result", f"it does not open: {error}") from error
