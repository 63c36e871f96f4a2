"""The files of a `transformers.Trainer` checkpoint beside its model, and which of them must be
there."""

from __future__ import annotations

from pathlib import Path

from growth.checkpoint.optimizer_file import OPTIMIZER
from growth.errors import CheckpointError
from growth.hf.folders import OF_ACCELERATE

SCHEDULER, PROGRESS = "scheduler.pt", "trainer_state.json"


COPIED = (SCHEDULER, "rng_state*.pth", "training_args.bin", "scaler.pt")
"""Files that do not depend on the width. They are copied without being read."""


_SHARDED = {
    "global_step*": "DeepSpeed",
    "zero_to_fp32.py": "DeepSpeed",
    "pytorch_model_fsdp*": "FSDP in files for each rank",
    "optimizer_[0-9]*": "FSDP without the model's weights",
    "rank*-of-*": "XLA FSDP",
    "optimizer.pt_*": "SageMaker",
}
"""Files of a training state in a layout that is not supported -> whose layout it is."""


def check_trainer_folder(folder: Path) -> None:
    """Refuse a folder that is not a Trainer checkpoint, or lacks what Trainer needs to resume.

    Raises:
        CheckpointError: naming the file that is missing, or that belongs to another layout.
    """
    alone = "leave --optimizer out to grow the weights alone"
    if (folder / "optimizer.bin").is_file():
        raise CheckpointError(
            f"{folder} holds 'optimizer.bin', a training state as accelerate saves it. {OF_ACCELERATE}"
        )
    for pattern, whose in _SHARDED.items():
        if found := sorted(path.name for path in folder.glob(pattern)):
            raise CheckpointError(
                f"{folder} holds '{found[0]}', a training state in the layout of {whose}, which is not supported. "
                f"Resume it in one process without sharding and save it there, or {alone}."
            )
    if not (folder / PROGRESS).is_file():
        raise CheckpointError(
            f"{folder} is not a Trainer checkpoint: it has no {PROGRESS}. Name a folder such as out/checkpoint-500, "
            f"or {alone}."
        )
    for name in (OPTIMIZER, SCHEDULER):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}, and without it Trainer starts optimizer and schedule anew. Save with "
                f"save_only_model=False, or {alone}."
            )
