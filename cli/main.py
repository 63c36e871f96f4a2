"""``grow``: widen a Transformer checkpoint to one that computes the same function."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from growth.checkpoint.destination import destination
from growth.errors import GrowthError, printable
from growth.hf.folders import check_source
from growth.hf.growable import check_growable
from growth.version import __version__

from .advise import advise
from .choices import CONFIG, DTYPE, as_typed, choices
from .progress import Progress, told
from .ranks import speaks
from .signals import stoppable, stopped
from .strict import Group, show
from .widen import widen

# torch and transformers take seconds to import, so each command imports what needs them after it
# has seen that its arguments make sense.


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="grow")
def grow() -> None:
    """Widen a trained Transformer checkpoint to one that computes the same function.

    \b
    grow plan   SRC                what would happen; no weight is read
    grow widen  SRC DST --width 2  twice as wide, ready to train on
    grow widen  SRC DST --like M   as large as another model, layers too
    grow verify SRC DST            run both on text and compare
    grow advise LOG --large-log L  whether to grow, when, or to start large

    Noise that no layer sees makes the copies of each weight differ, so that they can learn
    different things. --symmetry none leaves it out: the copies then train as one.

    SRC is a checkpoint folder or a hub id such as 'org/model'. Exit codes: 0 done, 1 refused or not
    equal, 2 wrong usage, 130 and 143 interrupted."""


@grow.command(short_help="Show what widening SRC would do. Reads no weights.")
@click.argument("src")
@choices
@CONFIG
@click.option("-v", "--verbose", is_flag=True, help="Every tensor with its roles.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
def plan(src: str, config: str | None, verbose: bool, as_json: bool, **options: Any) -> None:
    """Show what widening SRC would do: sizes, how each space grows, what is rounded in which dtype,
    and what to know before. Reads names and shapes, no weights.

    \b
    Examples:
      grow plan ./small --width 2
      grow plan ./small --width 1.5 --kv-heads keep -v
      grow plan org/model --like org/wider-model
      grow plan ./out/checkpoint-500 --config org/model --width 2      # saved under FSDP
    """
    check_growable(src, config)
    with Progress() as progress:
        progress.load()
        from growth.checkpoint.preview import plan_widening
        from growth.plan.text import plan_parts, predictions
        from growth.text import as_text

        progress.say("planning ...")
        result = plan_widening(src, config=config, **options)
        if as_json:
            exactness = [one.to_json() for one in predictions(result)]
            shown = json.dumps({**result.to_json(), "exactness": exactness}, indent=2)
        else:
            shown = as_text(plan_parts(result, verbose))
    click.echo(shown)
    if not as_json:
        click.echo()
        click.echo(f"next: grow widen {as_typed(src, 'DST', options, config)}")


grow.add_command(widen)
grow.add_command(advise)


@grow.command(short_help="Run SRC and DST on the same text and compare.")
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
    by no more than its order of magnitude, 1 if they differ by more, or if the floor is so large
    that unrelated models would pass. One model is in memory at a time, and sequences are 128 tokens
    long. A coarse dtype hides small mistakes: where the weights grew bit
    for bit, --dtype float32 is the sharper test.

    \b
    Examples:
      grow verify ./small ./wide
      grow verify ./small ./wide --dtype bfloat16 --text book.txt --tokens 2048
    """
    for source in (src, dst):
        check_source(source)
    passage = text.read_text(encoding="utf-8", errors="replace") if text else None
    with Progress(steps=3, quiet=as_json) as progress:
        progress.load()
        from growth.checkpoint.verify import check_equivalence

        report = check_equivalence(
            src, dst, text=passage, tokens=tokens, device=device, dtype=dtype, step=progress.next
        )
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else str(report))
    ctx.exit(0 if report.equal else 1)


@grow.command(short_help="List the model types that can be grown.")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--markdown", is_flag=True, help="The table of all as Markdown.")
@click.option("--python", "as_python", is_flag=True, help="The declaration of NAME as a Python file, to edit.")
def architectures(name: str | None, as_json: bool, markdown: bool, as_python: bool) -> None:
    """List the model types that are declared by hand, or spell out the declaration of one: what each
    of its parameters reads and writes.

    NAME is a model type, a folder, a hub id or a config.json. For a model type that is not listed, the
    declaration is inferred on a miniature: of the folder's config, or of the default config that
    transformers has. It takes seconds, and reads no weights.

    \b
    Examples:
      grow architectures llama
      grow architectures llama --python > mine.py
      grow architectures qwen3_next              # nobody declared it: inferred
      grow architectures ./my-model --python     # what ./my-model grows by
    """
    if as_python and not name:
        raise click.UsageError("--python prints one declaration. Name it: grow architectures NAME --python.")
    with Progress(quiet=as_json) as progress:
        progress.load()
        from growth import architectures as declarations
        from growth.checkpoint.inferred import described
        from growth.hf.catalogue import families

        from .architectures_text import description_text, families_markdown, families_text

        if name:
            declared, one = described(name)
            if as_python:
                shown = declarations.as_python(declared).rstrip("\n")
            else:
                shown = json.dumps(one.to_json(), indent=2) if as_json else description_text(one)
        else:
            rows = families()
            listed = families_markdown(rows) if markdown else families_text(rows)
            shown = json.dumps([row.to_json() for row in rows], indent=2) if as_json else listed
    click.echo(shown)


@grow.command(short_help="Widen a small model that comes along, and prove it.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave the widened checkpoints in this folder.")
def demo(keep: Path | None) -> None:
    """Widen the small model that comes along in five ways, prove each, verify it on text, and let
    both models write. Takes about half a minute and, with --keep, about 20 MB of disk."""
    with Progress() as progress:
        progress.load()
        from .demo import run_demo

        try:
            run_demo(progress, keep and destination(keep))
        except KeyboardInterrupt as stop:
            if keep and keep.exists():
                stop.add_note(f"the models that were complete by then are in {keep}")
            raise


def main() -> None:
    """Entry point: errors are one sentence on stderr and exit code 1; usage errors exit 2; what is
    interrupted leaves nothing behind, and exits with 128 plus the signal's number."""
    with told(speaks()), stoppable():
        _run()


def _run() -> NoReturn:
    try:
        sys.exit(grow(standalone_mode=False, prog_name="grow"))
    except GrowthError as error:
        _fail(f"grow: {error}", 1)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        if speaks():
            show(error)
        sys.exit(error.exit_code)
    except OSError as error:
        said = printable(f"grow: {error.filename or 'a file'}: {error.strerror or error}.")
        _fail(f"{said} Check the path and its permissions.", 1)
    except (click.Abort, KeyboardInterrupt) as interrupt:
        said, code = stopped(interrupt)
        _fail(f"grow: {said}", code)


def _fail(said: str, code: int) -> NoReturn:
    """End with a sentence, which one of several processes says for all."""
    if speaks():
        click.echo(said, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
