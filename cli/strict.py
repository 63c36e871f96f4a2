"""How ``grow`` reads its arguments, and how it complains about them."""

from __future__ import annotations

import click

from growth.extension.request import counts_layers
from growth.plan.choices import CHOICES
from growth.plan.options import keyword_of_size
from growth.text import printable_lines


class Once(click.Command):
    """A command that refuses an option given twice, of which click would take the last silently."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        seen: set[str | None] = set()
        for given in self.make_parser(ctx).parse_args(args=list(args))[2]:
            if isinstance(given, click.Option) and not given.multiple:
                if given.name in seen:
                    raise click.UsageError(f"{max(given.opts, key=len)} is given twice. Give it once.", ctx)
                seen.add(given.name)
        return super().parse_args(ctx, args)


class Group(click.Group):
    """A group whose commands take each option once."""

    command_class = Once


def show(error: click.ClickException) -> None:
    """Print a usage error, with what is meant where that is known."""
    if isinstance(error, click.NoSuchOption):
        name = error.option_name.strip("-").replace("-", "_")
        if keyword := ["layers"] if counts_layers(name) else keyword_of_size(name):
            flag = CHOICES[keyword[0]].flag
            error = click.UsageError(f"no such option: {error.option_name}. Did you mean {flag}?", error.ctx)
    said = printable_lines(error.format_message())
    (click.UsageError(said, error.ctx) if isinstance(error, click.UsageError) else click.ClickException(said)).show()
