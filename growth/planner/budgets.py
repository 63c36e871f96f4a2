"""What the models cost and what there is to spend, from the arguments of `growth.training.advise`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from growth.arguments import check_word, real_number, whole_number
from growth.errors import IllegalGrowthError, shown
from growth.plan.choices import Like
from growth.planner.head_start import KNOWN
from growth.planner.run_costs import ModelCost, axis_of, cost_of
from growth.planner.training_logs import COLUMNS, Log

LARGE, GROWN = "large", "grown"
"""The names of the large model where there is one, and of a trial growth."""


@dataclass(frozen=True)
class Costs:
    """What tokens cost.

    Args:
        ratios: name of a large model -> the cost of a token of it, in tokens of the small one.
        axes: name of a large model -> what it has more of: ``width``, ``depth``, ``both``, ``experts`` or ``unknown``.
        flops: of a token of the small model; None where only ratios are known.
        weights: name of a large model -> the weights of its matrix products; empty where no configs are given.
        context: tokens of a sequence that the FLOPs were counted for; None where they were not.
    """

    ratios: Mapping[str, float]
    axes: Mapping[str, str]
    flops: float | None
    weights: Mapping[str, float]
    context: int | None

    def tokens_per_weight(self, name: str, budget: float) -> float | None:
        """How many tokens a budget pays for, for each weight of a large model; None where these are not known.

        Args:
            name: of the model.
            budget: in tokens of the small model.
        """
        return budget / self.ratios[name] / self.weights[name] if name in self.weights else None


def named(large_log: Any, large_config: Any, cost_ratio: Any) -> tuple[list[str], dict[str, Log]]:
    """The names of the large models, and the logs of those that have one.

    Raises:
        IllegalGrowthError: if what is given for several models names different ones.

    Example:
        >>> named("large.csv", None, 3.25)
        (['large'], {'large': 'large.csv'})
    """
    logs = large_log if _of_several_logs(large_log) else {} if large_log is None else {LARGE: large_log}
    configs = large_config if _of_several_configs(large_config) else None
    ratios = cost_ratio if isinstance(cost_ratio, Mapping) else None
    several = [list(one) for one in (configs, ratios) if one is not None] or [list(logs) or [LARGE]]
    names = several[0]
    for other in (*several[1:], *([list(logs)] if logs else [])):
        if not set(other) <= set(names) or (other in several and set(other) != set(names)):
            raise IllegalGrowthError(
                f"the large models are called {', '.join(map(str, names))} in one place and "
                f"{', '.join(map(str, other))} in another. Call them alike."
            )
    if not names or {"small", "grown"} & {*names}:
        raise IllegalGrowthError(
            "a large model needs a name, other than 'small' and 'grown'. Name each one: {'wide': 'wide.csv', 'deep': "
            "'deep.csv'}."
        )
    return names, dict(logs)


def _of_several_logs(log: Any) -> bool:
    columns = {name for names in COLUMNS.values() for name in names}
    return isinstance(log, Mapping) and not any(str(name).lower() in columns for name in log)


def _of_several_configs(config: Any) -> bool:
    return isinstance(config, Mapping) and "model_type" not in config


def costs_of(
    names: Sequence[str],
    cost_ratio: Any,
    small_config: Like | None,
    large_config: Any,
    axis: str | None,
    context: int | None,
) -> Costs:
    """What a token of each model costs, from ratios or from configs.

    Args:
        names: of the large models.
        cost_ratio, small_config, large_config, axis, context: as `growth.training.advise` takes them.

    Raises:
        IllegalGrowthError: if the costs are not said, or a large model does not cost more than the small one.
    """
    if axis is not None:
        check_word("axis", axis, (one for one in KNOWN if one != "unknown"))
    if cost_ratio is not None:
        ratios = {name: _ratio(cost_ratio[name] if isinstance(cost_ratio, Mapping) else cost_ratio) for name in names}
        if context is not None:
            raise IllegalGrowthError(
                "the ratio of the costs is given, so that no sequence length is needed for them. Leave context "
                "(--context) out, or give both configs in place of the ratio."
            )
        if small_config is None and large_config is None:
            return _costly(Costs(ratios, dict.fromkeys(names, axis or "unknown"), None, {}, None))
        raise IllegalGrowthError(
            "the costs are given twice, by configs and by a ratio (--cost-ratio, cost_ratio=). Give one of them."
        )
    if small_config is None or large_config is None:
        raise IllegalGrowthError(
            "it is not said what a token of the large model costs. Give both configs (--small-config, "
            "--large-config), or the ratio of the costs (--cost-ratio, cost_ratio=)."
        )
    if axis is not None:
        raise IllegalGrowthError(
            "axis (--axis) goes with the ratio of the costs, and the configs say themselves what grows. Leave it out."
        )
    if context is not None and (whole_number(context) or 0) < 1:
        raise IllegalGrowthError(
            f"context must be a whole number above 0, not {shown(context)}. Use 2048, for example."
        )
    configs = large_config if _of_several_configs(large_config) else {names[0]: large_config}
    small = cost_of(small_config, context)
    large: dict[str, ModelCost] = {name: cost_of(configs[name], small.context) for name in names}
    return _costly(
        Costs(
            {name: cost.flops / small.flops for name, cost in large.items()},
            {name: axis_of(small, cost) for name, cost in large.items()},
            small.flops,
            {name: cost.weights for name, cost in large.items()},
            small.context,
        )
    )


def _ratio(value: Any) -> float:
    number = real_number(value)
    if number is None or not 0 < number < float("inf"):
        raise IllegalGrowthError(
            f"cost_ratio must be a number above 1, not {shown(value)}. Use what a token of the large model costs over "
            "one of the small model: 4, for example."
        )
    return float(number)


def _costly(costs: Costs) -> Costs:
    for name, ratio in costs.ratios.items():
        if ratio <= 1:
            raise IllegalGrowthError(
                f"a token of the model '{name}' costs {ratio:.3g} times one of the small model, and a larger model "
                "costs more. Check which of the two is which."
            )
    return costs


def trial_at(names: Sequence[str], grown_log: Any, grown_at: Any) -> float:
    """After how many tokens a trial grew; 0 where there is none.

    Args:
        names: of the large models.
        grown_log, grown_at: as `growth.training.advise` takes them.

    Raises:
        IllegalGrowthError: for one without the other, or a trial with several large models.
    """
    if grown_log is None and grown_at is None:
        return 0.0
    number = real_number(grown_at)
    if grown_log is None or number is None or not 0 < number < float("inf"):
        raise IllegalGrowthError(
            "a trial growth needs its log and after how many tokens of the small model it grew, a number above 0. "
            "Give both (--grown-log LOG --grown-at N, grown_log=, grown_at=)."
        )
    if len(names) > 1:
        raise IllegalGrowthError(
            f"a trial growth is to one large model, and there are {len(names)}. Give that one alone."
        )
    return float(number)


def budget_of(tokens: Any, flops: Any, ratio: float, flops_of_small: float | None) -> float:
    """The budget in tokens of the small model.

    Args:
        tokens, flops: as `growth.training.advise` takes them.
        ratio: the cost of a token of the first large model, in tokens of the small one.
        flops_of_small: FLOPs of a token of the small model; None where they are not known.

    Raises:
        IllegalGrowthError: if none or both are given, or the FLOPs of a token are not known.

    Example:
        >>> budget_of(1e9, None, 3.25, None)
        3250000000.0
    """
    if (tokens is None) == (flops is None):
        raise IllegalGrowthError(
            f"{'no budget is given' if tokens is None else 'the budget is given twice'}. Give it in tokens of the "
            "large model (--budget-tokens, budget_tokens=) or in FLOPs (--budget-flops, budget_flops=)."
        )
    value = real_number(flops if tokens is None else tokens)
    if value is None or not 0 < value < float("inf"):
        raise IllegalGrowthError(
            f"the budget must be a number above 0, not {shown(flops if tokens is None else tokens)}. Use 2e9, for "
            "example."
        )
    if tokens is not None:
        return float(value) * ratio
    if flops_of_small is None:
        raise IllegalGrowthError(
            "a budget in FLOPs needs the FLOPs of a token. Give both configs (--small-config, --large-config), or the "
            "budget in tokens of the large model (--budget-tokens, budget_tokens=)."
        )
    return float(value) / flops_of_small
