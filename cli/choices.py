"""The options of ``plan`` and ``widen`` that say how to grow: one for each row of
`growth.plan.choices.CHOICES`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from growth.errors import GrowthError
from growth.hf.dtype_names import ALIASES, FLOAT_NAMES
from growth.plan.choice_checks import check_together
from growth.plan.choices import CHOICES, Choice
from growth.text import as_argument, as_command


class _Dtype(click.Choice[str]):
    """A dtype by its name, or by another that people call it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(ALIASES.get(str(value).lower(), value), param, ctx)


DTYPE = _Dtype(FLOAT_NAMES)


F = TypeVar("F", bound=Callable[..., Any])


CONFIG = click.option(
    "--config",
    help="SRC was saved under FSDP, by accelerate or Trainer (pytorch_model_fsdp_0 or pytorch_model_fsdp.bin), "
    "which writes no config: the model's config.json, a folder that has one, or a hub id.",
)


class _Value(click.ParamType[Any]):
    """A value in the range that the table says."""

    def __init__(self, choice: Choice) -> None:
        self.choice, self.name = choice, choice.takes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.choice.check(self.choice.parse(value))
        except GrowthError as error:
            self.fail(str(error), param, ctx)


def choices(command: F) -> F:
    """Give a command the options that say how to grow; what it gets are keywords of
    `growth.widen`, those that were typed."""

    @functools.wraps(command)
    def checked(*args: Any, sizes: tuple[dict[str, int | str], ...], **options: Any) -> Any:
        named: dict[str, int | str] = {}
        for name, size in (pair for one in sizes for pair in one.items()):
            if named.setdefault(name, size) != size:
                raise click.UsageError(f"--size gives {name} twice. Give it once.")
        source = click.get_current_context().get_parameter_source
        options = {
            name: value
            for name, value in options.items()
            if name not in CHOICES or source(name) is not ParameterSource.DEFAULT
        }
        try:
            check_together(options)
        except GrowthError as error:
            raise click.UsageError(str(error)) from error
        return command(*args, sizes=named, **options)

    wrapped: Any = checked
    for choice in reversed(list(CHOICES.values())):
        wrapped = _option(choice)(wrapped)
    return wrapped  # type: ignore[no-any-return]


def _option(choice: Choice) -> Callable[[F], F]:
    names = (choice.flag, choice.name)
    if choice.default is False:
        return click.option(*names, is_flag=True, help=choice.help)
    if choice.many:
        kind = _Value(choice) if choice.name == "sizes" else click.STRING
        return click.option(*names, type=kind, multiple=True, metavar=choice.takes, help=choice.help)
    return click.option(
        *names,
        type=click.Choice(choice.values) if choice.values else _Value(choice),
        metavar=choice.takes or None,
        default=choice.default,
        show_default=choice.default is not None,
        help=choice.help,
    )


def as_typed(src: str, dst: str, options: Mapping[str, Any], config: str | None = None) -> str:
    """The arguments of ``grow widen`` that make these choices."""
    words = [as_argument(src), as_argument(dst), *(() if config is None else ("--config", as_argument(config)))]
    for name, choice in CHOICES.items():
        value = options.get(name)
        if value in (None, choice.default, (), {}):
            continue
        if choice.default is False:
            words.append(choice.flag)
        elif choice.name == "sizes":
            words += [word for size in value.items() for word in (choice.flag, "=".join(map(str, size)))]
        else:
            words += [word for one in (value if choice.many else [value]) for word in (choice.flag, _plain(one))]
    return as_command(words)


def _plain(value: Any) -> str:
    """``1`` for 1.0; other numbers in full."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
