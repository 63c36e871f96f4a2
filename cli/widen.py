"""``grow widen``."""

from __future__ import annotations

import json
import warnings
from typing import Any

import click

from growth.checkpoint.destination import check_target, destination
from growth.hf.growable import check_growable

from .choices import CONFIG, DTYPE, choices
from .progress import Progress
from .ranks import launched, process_group, speaks
from .signals import writing
from .strict import Once


@click.command(cls=Once, short_help="Widen SRC into the new folder DST.")
@click.argument("src")
@click.argument("dst")
@choices
@CONFIG
@click.option(
    "--optimizer",
    is_flag=True,
    help="SRC is a transformers.Trainer checkpoint, or was saved under FSDP: grow the optimizer too, so that "
    "train(resume_from_checkpoint=DST), or load_state(DST), goes on at the same step.",
)
@click.option(
    "--moments",
    type=click.Choice(["preserve", "fresh", "reset"]),
    default="preserve",
    show_default=True,
    help="State of the optimizer. preserve: grown as gradients are. fresh: so for the first copy of each coordinate, "
    "zero for the others. reset: start anew.",
)
@click.option(
    "--hyper",
    type=click.Choice(["keep", "preserve"]),
    default="keep",
    show_default=True,
    help="Learning rate, epsilon and weight decay. keep: as they are; the wide model moves faster than the small one "
    "would. preserve: set per tensor, in groups to give Trainer (growth.training.parameter_groups).",
)
@click.option("--dtype", type=DTYPE, help="Of the result. Default: as the source. fp16, bf16, ... are understood.")
@click.option("--max-shard-size", default="5GB", show_default=True, help="Largest weight file: 5GB, 500MB.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace DST once the new one is whole, if it is the folder of a model and holds nothing else.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with what the same growth into DST finished before it was interrupted; and keep what is finished if "
    "this one is. Safe to give from the first time on.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Workers of this process. Default: the cores (or OMP_NUM_THREADS), as far as memory allows. DST is the same "
    "for any number.",
)
@click.option("--allow-nonfinite", is_flag=True, help="Carry NaN and infinity over instead of refusing them.")
@click.option("--device", default="cpu", show_default=True, help="Where the miniature is compared.")
@click.option("--json", "as_json", is_flag=True, help="The record of the growth as JSON (also in DST/growth.json).")
def widen(src: str, dst: str, as_json: bool, **options: Any) -> None:
    """Widen SRC into the new folder DST, which any transformers loads.

    The growth is proved twice, and DST/growth.json keeps both proofs. Before anything is written,
    the twin: a miniature of the same config, grown by the same choices, must compute the same in
    float64. As weights are written, the fold: every tensor, read back, must give the old one.

    \b
    Examples:
      grow widen ./small ./wide --width 2
      grow widen ./small ./wide --hidden-size 1024 --heads 16
      grow widen ./small ./deep --layers 24
      grow widen ./small ./wide --like org/wider-model --dtype bfloat16
    In the middle of training (transformers.Trainer):
      grow widen ./out/checkpoint-500 ./wide/checkpoint-500 --optimizer
    The same saved under FSDP, by Trainer or by accelerator.save_state:
      grow widen ./state ./wide --config org/model --optimizer --width 2
    By several processes, on one machine or on several that share the disk:
      torchrun --no-python --nproc-per-node 8 grow widen ./small ./wide --width 2 --resume
    """
    target = destination(dst)
    with writing(target):
        if not launched():
            check_target(target, options["overwrite"], options["resume"])
            check_growable(src, options["config"], options["optimizer"])
        with Progress(quiet=not speaks()) as progress:
            progress.load()
            from growth.checkpoint.widen import widen_checkpoint

            progress.say("planning, and comparing a miniature before and after growth ...")
            with process_group() as group, warnings.catch_warnings():
                warnings.filterwarnings("ignore", "with symmetry=")  # the plan's notes say it
                result = widen_checkpoint(src, dst, progress=progress.written, group=group, **options)
        if not speaks():
            return
        record = json.loads((result.path / "growth.json").read_text(encoding="utf-8")) if as_json else None
        click.echo(json.dumps(record, indent=2) if as_json else str(result))
