"""The options that say how to grow, shared by ``plan`` and ``widen``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import click

from growth.errors import GrowthError
from growth.plan.options import KEEP, LARGEST_WIDTH
from growth.plan.symmetry import LARGEST_NOISE, Symmetry

F = TypeVar("F", bound=Callable[..., Any])


class _Width(click.ParamType[float]):
    name = "K"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            width = float(Fraction(str(value)))
        except (ValueError, ArithmeticError):
            width = 0.0
        if not 1 < width <= LARGEST_WIDTH:
            self.fail(
                f"{value!r} is not a number above 1 and at most {LARGEST_WIDTH}. Use --width 2 to double, or 1.5, or "
                "5/3.",
                param,
                ctx,
            )
        return width


class _Size(click.ParamType["int | str"]):
    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value).strip().lower()
        if text != KEEP and not (text.isdecimal() and int(text) > 0):
            self.fail(f"{value!r} is neither a whole number nor 'keep'.", param, ctx)
        return KEEP if text == KEEP else int(text)


class _NamedSize(click.ParamType["tuple[str, int | str]"]):
    name = "NAME=N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int | str]:
        name, equals, size = str(value).partition("=")
        if not equals or not name.strip():
            self.fail(f"{value!r} is not of the form NAME=N, such as moe_intermediate_size=2048.", param, ctx)
        return name.strip(), _Size().convert(size, param, ctx)


class _Symmetry(click.ParamType[str]):
    name = "none|noise:R|split:A/B"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(Symmetry.parse(str(value)))
        except GrowthError as error:
            self.fail(str(error), param, ctx)


class _Noise(click.ParamType[float]):
    name = "R"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            noise = float(value)
        except ValueError:
            noise = -1.0
        if not 0 <= noise <= LARGEST_NOISE:
            self.fail(
                f"{value!r} is not a number from 0 to {LARGEST_NOISE}. 0.1 is a tenth of each weight's RMS.",
                param,
                ctx,
            )
        return noise


def choices(command: F) -> F:
    """The options that say how to grow, shared by ``plan`` and ``widen``."""

    @functools.wraps(command)
    def checked(*args: Any, size: tuple[tuple[str, int | str], ...], **options: Any) -> Any:
        if options["like"] and options["width"]:
            raise click.UsageError(
                "--like takes all sizes from another model and leaves no room for --width. Choose one of the two."
            )
        if options["noise"] and options["symmetry"] != "none":
            raise click.UsageError("--noise R is short for --symmetry noise:R. Choose one of the two.")
        if twice := sorted({name for name, value in size if dict(size)[name] != value}):
            raise click.UsageError(f"--size gives {twice[0]} twice. Give it once.")
        return command(*args, sizes=dict(size), **options)

    wrapped: Any = checked
    for option in reversed(
        [
            click.option(
                "--width",
                type=_Width(),
                help="Factor on hidden and feed-forward size, and on heads or head_dim: 2, 1.5, 5/3. Default: 2, "
                "unless sizes are named.",
            ),
            click.option(
                "--hidden-size",
                type=_Size(),
                help="Width of the residual stream. What you do not name grows in the same ratio.",
            ),
            click.option("--intermediate-size", type=_Size(), help="Width of the feed-forward layers."),
            click.option("--heads", type=_Size(), help="Number of attention (query) heads."),
            click.option(
                "--kv-heads",
                type=_Size(),
                help="Number of key/value heads; 'keep' grows queries alone, and no KV cache.",
            ),
            click.option(
                "--head-dim", type=_Size(), help="Width of each head. Rotary heads grow to whole multiples only."
            ),
            click.option(
                "--size",
                type=_NamedSize(),
                multiple=True,
                help="Any other size, by its name in the plan or in config.json.",
            ),
            click.option(
                "--like",
                metavar="CONFIG",
                help="Grow to the sizes of another model: a folder, hub id or config.json. Names override it.",
            ),
            click.option(
                "--attention",
                type=click.Choice(["heads", "head-dim"]),
                default="heads",
                show_default=True,
                help="What grows with the width. heads: more heads of the same size. head-dim: the same heads, each "
                "wider (head-local "
                "repetition).",
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
                help="unit: activations are copied. orthogonal: copied and divided by sqrt(K), as in the original "
                "derivation.",
            ),
            click.option(
                "--symmetry",
                type=_Symmetry(),
                metavar="none|noise:R|split:A/B",
                default="none",
                show_default=True,
                help="Identical copies never learn to differ. noise:R adds noise that no layer sees, RMS relative to "
                "each weight's. "
                "split:A/B reads the copies in uneven shares, split:1/2:varied in shares that vary by weight. The "
                "function stays.",
            ),
            click.option(
                "--noise",
                type=_Noise(),
                default=0.0,
                show_default=True,
                help="Short for --symmetry noise:R. In training 1 parts copies fast, 0.1 slowly.",
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="Seed of noise and varied splits."),
            click.option(
                "--lossy",
                is_flag=True,
                help="Accept --rope pairs where the config cannot hold the frequencies; the loss is measured and "
                "shown.",
            ),
            click.option(
                "--vouch",
                multiple=True,
                metavar="FIELD",
                help="Accept a config field nobody vouches for. The proofs are made all the same.",
            ),
        ]
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]
