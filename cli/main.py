"""``grow``: widen a Transformer checkpoint to one that computes the same function."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from growth.errors import GrowthError
from growth.version import __version__

from .choices import choices

DTYPE = click.Choice(["float64", "float32", "float16", "bfloat16"])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="grow")
def grow() -> None:
    """Widen a trained Transformer checkpoint to one that computes the same function.

    \b
    grow plan   SRC                what would happen, without reading a weight
    grow widen  SRC DST --width 2  do it, proved before and after
    grow widen  SRC DST --like M   the same, to the sizes of another model
    grow verify SRC DST            run the real two on text, beside the rounding floor

    SRC is a checkpoint folder or a hub id such as 'org/model'. Exit codes: 0 done, 1 refused or not
    equal, 2 wrong usage."""


@grow.command()
@click.argument("src")
@choices
@click.option("-v", "--verbose", is_flag=True, help="Every tensor with its roles.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
def plan(src: str, verbose: bool, as_json: bool, **options: Any) -> None:
    """Show what widening SRC would do. Reads headers, no weights.

    Example: grow plan ./small --width 1.5 --kv-heads keep -v
    """
    from growth.checkpoint.preview import plan_widening

    from .render import plan_text, predictions

    result = plan_widening(src, **options)
    if as_json:
        click.echo(
            json.dumps({**result.to_json(), "exactness": [one.to_json() for one in predictions(result)]}, indent=2)
        )
    else:
        click.echo(plan_text(result, verbose))


@grow.command()
@click.argument("src")
@click.argument("dst", type=click.Path(path_type=Path))
@choices
@click.option(
    "--optimizer",
    is_flag=True,
    help="SRC is a transformers.Trainer checkpoint: grow optimizer.pt too, so that train(resume_from_checkpoint=DST) "
    "goes on at the same "
    "step. Settings stay: at an unchanged learning rate the wide model moves faster than the small one would.",
)
@click.option(
    "--moments",
    type=click.Choice(["preserve", "fresh", "reset"]),
    default="preserve",
    show_default=True,
    help="Of the optimizer. preserve: grown as gradients are. fresh: so for the old block, zero for new copies. "
    "reset: start anew.",
)
@click.option("--dtype", type=DTYPE, help="Of the result. Default: as the source.")
@click.option("--max-shard-size", default="5GB", show_default=True, help="Largest weight file.")
@click.option("--overwrite", is_flag=True, help="Replace DST if it exists, once the new one is whole.")
@click.option("--allow-nonfinite", is_flag=True, help="Carry NaN and infinity over instead of refusing them.")
@click.option("--device", default="cpu", show_default=True, help="For the proof by twin.")
@click.option("--json", "as_json", is_flag=True, help="The record of the growth as JSON (also in DST/growth.json).")
def widen(src: str, dst: Path, as_json: bool, **options: Any) -> None:
    """Widen SRC into the new folder DST, which any transformers loads.

    Two proofs are made on the way and kept in DST/growth.json: the twin, a miniature of the same
    config grown by the same choices and compared in exact arithmetic before anything is written;
    and the fold, every tensor read back through its map.

    Example: grow widen ./small ./wide --width 2 --noise 0.1

    In the middle of training: grow widen ./out/checkpoint-500 ./wide/checkpoint-500 --optimizer
    --noise 0.1"""
    from growth.checkpoint.widen import widen_checkpoint

    from .render import Progress, widened_text

    with Progress() as progress:
        result = widen_checkpoint(src, dst, progress=progress.update, **options)
    click.echo(
        (result.path / "growth.json").read_text(encoding="utf-8").rstrip() if as_json else widened_text(result, src)
    )


@grow.command()
@click.argument("src")
@click.argument("dst")
@click.option(
    "--text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Text to read. Default: an excerpt that comes along.",
)
@click.option("--tokens", type=click.IntRange(min=2), default=512, show_default=True, help="How many tokens.")
@click.option("--device", help="Default: a GPU if there is one.")
@click.option("--dtype", type=DTYPE, help="To compare in. Default: the coarser of the two.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.pass_context
def verify(
    ctx: click.Context,
    src: str,
    dst: str,
    text: Path | None,
    tokens: int,
    device: str | None,
    dtype: str | None,
    as_json: bool,
) -> None:
    """Run SRC and DST on the same text and compare, beside the rounding floor of SRC itself.

    The floor is how far SRC is from what it computes in wider arithmetic. Exit 0 if the two differ
    by no more than its order of magnitude, 1 if they do not. One model is in memory at a time, and
    sequences are 128 tokens long. A coarse dtype hides small mistakes: where the weights grew bit
    for bit, --dtype float32 is the sharper test.

    Example: grow verify ./small ./wide --dtype bfloat16
    """
    from growth.checkpoint.verify import check_equivalence

    from .render import Steps, report_text

    passage = text.read_text(encoding="utf-8", errors="replace") if text else None
    with Steps(3, quiet=as_json) as steps:
        report = check_equivalence(src, dst, text=passage, tokens=tokens, device=device, dtype=dtype, step=steps.next)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else report_text(report))
    ctx.exit(0 if report.equal else 1)


@grow.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--markdown", is_flag=True, help="The table of all as Markdown, as the README has it.")
def architectures(name: str | None, as_json: bool, markdown: bool) -> None:
    """List the model types that can be grown, or spell out the declaration of one: what each of its
    parameters reads and writes.

    A model type that is not listed is tried against all that are: it is grown if every parameter
    and config field fits one of them, and its miniature, grown, computes the same in exact
    arithmetic.

    Example: grow architectures llama
    """
    from growth.hf.catalogue import describe, families

    from .render import description_text, families_markdown, families_text

    if name:
        one = describe(name)
        click.echo(json.dumps(one.to_json(), indent=2) if as_json else description_text(one))
        return
    rows = families()
    if as_json:
        click.echo(json.dumps([row.to_json() for row in rows], indent=2))
    else:
        click.echo(families_markdown(rows) if markdown else families_text(rows))


@grow.command()
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the widened checkpoints in this folder.")
def demo(keep: Path | None) -> None:
    """Widen the small model that comes along by each attention choice, prove it, verify it, and let
    both write."""
    from .demo import run_demo

    run_demo(keep)


def main() -> None:
    """Entry point: errors are one sentence on stderr and exit code 1; usage errors exit 2; an
    interrupt leaves nothing behind."""
    try:
        sys.exit(grow(standalone_mode=False, prog_name="grow"))
    except GrowthError as error:
        click.echo(f"grow: {error}", err=True)
        sys.exit(1)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(
            f"grow: {error.filename or 'a file'}: {error.strerror or error}. Check the path and its permissions.",
            err=True,
        )
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("grow: interrupted; nothing was left behind.", err=True)
        sys.exit(130)
