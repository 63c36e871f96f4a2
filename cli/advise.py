"""``grow advise``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from growth.errors import CheckpointError
from growth.hf.folders import check_config
from growth.hf.paths import local_path

from .progress import Progress
from .strict import Once

POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(cls=Once, short_help="Whether to grow, when, or to start large.")
@click.argument("small_log")
@click.option(
    "--large-log",
    "large_logs",
    multiple=True,
    metavar="LOG",
    help="Log of the large model, trained from scratch on the same text. May be repeated, as often as --large-config "
    "or --cost-ratio and in their order, to compare several. Without it the large model is guessed.",
)
@click.option("--small-config", metavar="CONFIG", help="The small model: a folder, a hub id or a config.json.")
@click.option(
    "--large-config", "large_configs", multiple=True, metavar="CONFIG", help="The large model. May be repeated."
)
@click.option(
    "--cost-ratio",
    "cost_ratios",
    multiple=True,
    type=click.FloatRange(min=1, min_open=True),
    metavar="R",
    help="In place of the configs: the cost of a token of the large model over one of the small. May be repeated.",
)
@click.option(
    "--axis",
    type=click.Choice(["width", "depth", "both", "experts"]),
    help="With --cost-ratio: what the large model has more of.",
)
@click.option(
    "--grown-log",
    metavar="LOG",
    help="Log of a trial growth of the small model to the large one, its tokens counted from the small model's start.",
)
@click.option(
    "--grown-at",
    type=POSITIVE,
    metavar="N",
    help="With --grown-log: after how many tokens of the small model it grew.",
)
@click.option(
    "--budget-tokens",
    type=POSITIVE,
    metavar="N",
    help="What there is to spend: tokens of the (first) large model that it would pay for. 2e9, for example.",
)
@click.option(
    "--budget-flops",
    type=POSITIVE,
    metavar="N",
    help="The same in FLOPs; needs the configs.",
)
@click.option(
    "--small-is-free", is_flag=True, help="The small model is there: what its training has cost is not counted."
)
@click.option(
    "--tokens-per-step",
    type=POSITIVE,
    metavar="N",
    help="Tokens of an optimizer step, where a log counts steps only.",
)
@click.option(
    "--context",
    type=click.IntRange(min=1),
    help="With configs: tokens of a sequence, for the cost. Default: 2048, or what the model takes if less.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the curves into FILE.png (or .svg, .pdf). Needs matplotlib.",
)
@click.option("--json", "as_json", is_flag=True, help="The advice as JSON.")
def advise(
    small_log: str,
    large_logs: tuple[str, ...],
    large_configs: tuple[str, ...],
    cost_ratios: tuple[float, ...],
    plot: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Whether to grow a small model into a large one, when, or to start with the large one, or to train
    the small one on; and how sure that is. "cannot tell" is an answer.

    SMALL_LOG is a trainer_state.json, the folder of a Trainer run, or a CSV file with columns tokens and
    loss (and learning_rate, if that was not constant). Loss curves are fitted to the logs as power laws,
    at a constant learning rate, with their uncertainty. What growth is worth is what was measured and
    published so far.

    \b
    Examples:
      grow advise small.csv --large-log large.csv --cost-ratio 3.25 --budget-tokens 2e9
      grow advise out/checkpoint-500 --large-log large/checkpoint-200 --small-config org/model \\
        --large-config org/wider-model --budget-flops 1e20 --plot advice.png
      grow advise small.csv --small-config ./small --large-config ./wide --large-config ./deep \\
        --large-log wide.csv --large-log deep.csv --budget-tokens 2e9 --small-is-free
    """
    several = max(len(large_configs), len(cost_ratios), 1)
    if large_logs and len(large_logs) != several:
        raise click.UsageError(
            f"there are {len(large_logs)} --large-log for {several} large models. Give one for each, or none."
        )
    if (options["budget_tokens"] is None) == (options["budget_flops"] is None):
        raise click.UsageError("give the budget once: --budget-tokens N, or --budget-flops N.")
    if not cost_ratios and not (large_configs and options["small_config"]):
        raise click.UsageError("give the costs: --small-config and --large-config, or --cost-ratio R.")
    if cost_ratios and (large_configs or options["small_config"]):
        raise click.UsageError("give the costs once: --small-config and --large-config, or --cost-ratio R.")
    if options["axis"] and not cost_ratios:
        raise click.UsageError("--axis goes with --cost-ratio: the configs say what grows.")
    if (options["grown_log"] is None) != (options["grown_at"] is None):
        raise click.UsageError("a trial growth needs both: --grown-log LOG --grown-at N.")
    for log in filter(None, (small_log, *large_logs, options["grown_log"])):
        if not local_path(log).exists():
            raise CheckpointError(f"no such log: {log}. Give a trainer_state.json, or a CSV file of tokens and loss.")
    for config in filter(None, (options["small_config"], *large_configs)):
        if local_path(config).is_dir():
            check_config(local_path(config))
    with Progress(quiet=as_json) as progress:
        progress.load()
        from growth.planner.advice_plot import check_picture
        from growth.planner.advising import advise as advised

        if plot is not None:
            check_picture(plot)
        progress.say("fitting the curves ...")
        names = _names(large_configs or large_logs or cost_ratios, several)
        result = advised(
            small_log,
            _by_name(names, large_logs),
            large_config=_by_name(names, large_configs),
            cost_ratio=_by_name(names, cost_ratios),
            **options,
        )
        if plot is not None:
            result.plot(plot)
    click.echo(json.dumps(result.to_json(), indent=2) if as_json else str(result))
    if plot is not None and not as_json:
        click.echo(f"\nwritten: {plot}")


def _names(given: tuple[Any, ...], several: int) -> list[str]:
    """What the large models are called: by their configs, or by their logs."""
    if several == 1:
        return ["large"]
    called = [f"x{one:g}" if isinstance(one, float) else _name(one) for one in given]
    if len(set(called)) < several or "small" in called:
        return [f"large {number}" for number in range(1, several + 1)]
    return called


def _name(given: str) -> str:
    """Of a config or a log, without the ending of a file."""
    path = Path(given)
    return path.stem if path.suffix.lower() in (".json", ".csv", ".tsv", ".txt") else path.name


def _by_name(names: list[str], given: tuple[Any, ...]) -> Any:
    """One value, or name -> value of several; None where there are none."""
    if len(given) > 1:
        return dict(zip(names, given, strict=True))
    return given[0] if given else None
