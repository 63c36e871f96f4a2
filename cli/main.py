"""``grow``: widen a Transformer checkpoint to one that computes the same function."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from growth.errors import GrowthError
from growth.options import LARGEST_NOISE, LARGEST_WIDTH
from growth.version import __version__

DTYPE = click.Choice(["float64", "float32", "float16", "bfloat16"])
F = TypeVar("F", bound=Callable[..., Any])


class _Width(click.ParamType[int]):
    name = "K"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            width = int(str(value))
        except ValueError:
            width = 0
        if not 2 <= width <= LARGEST_WIDTH:
            self.fail(f"{value!r} is not a whole number from 2 to {LARGEST_WIDTH}. Use --width 2 to double.", param, ctx)
        return width


class _Noise(click.ParamType[float]):
    name = "R"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            noise = float(value)
        except ValueError:
            noise = -1.0
        if not 0 <= noise <= LARGEST_NOISE:
            self.fail(f"{value!r} is not a number from 0 to {LARGEST_NOISE}. 0.1 is a tenth of each weight's RMS.", param, ctx)
        return noise


def _choices(command: F) -> F:
    """The options that say how to grow, shared by ``plan`` and ``widen``."""
    for option in reversed(
        [
            click.option(
                "--width",
                type=_Width(),
                default=2,
                show_default=True,
                help="Factor on hidden and feed-forward size, and on heads or head_dim.",
            ),
            click.option(
                "--attention",
                type=click.Choice(["heads", "head-dim"]),
                default="heads",
                show_default=True,
                help="heads: more heads of the same size. head-dim: the same heads, each wider (head-local repetition).",
            ),
            click.option(
                "--rope",
                type=click.Choice(["slots", "pairs"]),
                default="slots",
                show_default=True,
                help="Rotary models under head-dim. slots: old pairs move to the slots that keep their frequency. "
                "pairs: repeat each pair, its frequency written into the config.",
            ),
            click.option(
                "--scaling",
                type=click.Choice(["unit", "orthogonal"]),
                default="unit",
                show_default=True,
                help="unit: activations are copied. orthogonal: copied and divided by sqrt(K), as in the original derivation.",
            ),
            click.option(
                "--noise",
                type=_Noise(),
                default=0.0,
                show_default=True,
                help="Null-space noise, RMS relative to each weight's: the function stays, the copies differ and so can learn "
                "to differ. Try 0.1.",
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise."),
            click.option(
                "--lossy",
                is_flag=True,
                help="Accept --rope pairs where the config cannot hold the frequencies; the loss is measured and shown.",
            ),
            click.option(
                "--vouch",
                multiple=True,
                metavar="FIELD",
                help="Accept a config field nobody vouches for. The proofs are made all the same.",
            ),
        ]
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="grow")
def grow() -> None:
    """Widen a trained Transformer checkpoint to one that computes the same function.

    \b
    grow plan   SRC                what would happen, without reading a weight
    grow widen  SRC DST --width 2  do it, proved before and after
    grow verify SRC DST            run the real two on text, beside the rounding floor

    SRC is a checkpoint folder or a hub id such as 'org/model'. Exit codes: 0 done, 1 refused or not equal, 2 wrong usage.
    """


@grow.command()
@click.argument("src")
@_choices
@click.option("-v", "--verbose", is_flag=True, help="Every tensor with its roles.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
def plan(src: str, verbose: bool, as_json: bool, **options: Any) -> None:
    """Show what widening SRC would do. Reads headers, no weights.

    Example: grow plan ./small --width 2 --attention head-dim -v
    """
    from growth.planning import plan_widening

    from .render import plan_text

    result = plan_widening(src, **options)
    click.echo(json.dumps(result.to_json(), indent=2) if as_json else plan_text(result, verbose))


@grow.command()
@click.argument("src")
@click.argument("dst", type=click.Path(path_type=Path))
@_choices
@click.option("--dtype", type=DTYPE, help="Of the result. Default: as the source.")
@click.option("--max-shard-size", default="5GB", show_default=True, help="Largest weight file.")
@click.option("--overwrite", is_flag=True, help="Replace DST if it exists, once the new one is whole.")
@click.option("--allow-nonfinite", is_flag=True, help="Carry NaN and infinity over instead of refusing them.")
@click.option("--device", default="cpu", show_default=True, help="For the proof by twin.")
@click.option("--json", "as_json", is_flag=True, help="The record of the growth as JSON (also in DST/growth.json).")
def widen(src: str, dst: Path, as_json: bool, **options: Any) -> None:
    """Widen SRC into the new folder DST, which any transformers loads.

    Two proofs are made on the way and kept in DST/growth.json: the twin, a miniature of the same config grown by the same choices and
    compared in exact arithmetic before anything is written; and the fold, every tensor read back through its map.

    Example: grow widen ./small ./wide --width 2 --noise 0.1
    """
    from growth.checkpoint import widen_checkpoint

    from .render import Progress, widened_text

    with Progress() as progress:
        result = widen_checkpoint(src, dst, progress=progress.update, **options)
    click.echo((result.path / "growth.json").read_text(encoding="utf-8").rstrip() if as_json else widened_text(result, src))


@grow.command()
@click.argument("src")
@click.argument("dst")
@click.option(
    "--text", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Text to read. Default: an excerpt that comes along."
)
@click.option("--tokens", type=click.IntRange(min=2), default=512, show_default=True, help="How many tokens.")
@click.option("--device", help="Default: a GPU if there is one.")
@click.option("--dtype", type=DTYPE, help="To compare in. Default: the coarser of the two.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.pass_context
def verify(
    ctx: click.Context, src: str, dst: str, text: Path | None, tokens: int, device: str | None, dtype: str | None, as_json: bool
) -> None:
    """Run SRC and DST on the same text and compare, beside the rounding floor of SRC itself.

    The floor is how far SRC is from what it computes in wider arithmetic. Exit 0 if the two differ by no more than its order of
    magnitude, 1 if they do not. One model is in memory at a time, and sequences are 128 tokens long. A coarse dtype hides small
    mistakes: where the weights grew bit for bit, --dtype float32 is the sharper test.

    Example: grow verify ./small ./wide --dtype bfloat16
    """
    from growth.equivalence.logits import check_equivalence

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
    """List the model types that can be grown, or spell out the declaration of one: what each of its parameters reads and writes.

    A model type that is not listed is tried against all that are: it is grown if every parameter and config field fits one of them, and its
    miniature, grown, computes the same in exact arithmetic.

    Example: grow architectures llama
    """
    from growth.catalogue import describe, families

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
    """Widen the small model that comes along by each attention choice, prove it, verify it, and let both write."""
    from .demo import run_demo

    run_demo(keep)


def main() -> None:
    """Entry point: errors are one sentence on stderr and exit code 1; usage errors exit 2; an interrupt leaves nothing behind."""
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
        click.echo(f"grow: {error.filename or 'a file'}: {error.strerror or error}. Check the path and its permissions.", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("grow: interrupted; nothing was left behind.", err=True)
        sys.exit(130)
