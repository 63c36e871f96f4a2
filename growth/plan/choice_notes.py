"""What a caller should know about what was asked: choices that change nothing here, and what was
taken for granted where the config or the caller did not say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from growth.hf.model_classes import class_is_guessed
from growth.plan.choices import CHOICES
from growth.plan.hidden_states import LAST
from growth.plan.like import OtherModel
from growth.plan.noise_limit import layers_of
from growth.plan.plan import Plan
from growth.plan.symmetry import AUTO


def choice_notes(plan: Plan) -> list[str]:
    """The notes, a sentence each.

    Example:
        >>> import growth
        >>> from transformers import BertConfig
        >>> config = BertConfig(num_hidden_layers=1, architectures=["BertModel"])
        >>> choice_notes(growth.plan_widening(config, rope="pairs", attention="head-dim"))
        ['rope pairs changes nothing here: the positions of this bert are not rotary']
    """
    own = plan.architecture.model_type
    other = other_family(own, plan.options.like)
    return [
        *_guessed(plan),
        *(f"{choice} changes nothing here: {why}" for choice, why in _without_effect(plan)),
        *([f"the other model is a {other}, this one a {own}; sizes of the same name were taken"] if other else []),
    ]


def other_family(model_type: str, like: OtherModel) -> str | None:
    """The ``model_type`` of the other model, whose sizes are taken, if it is another; else None."""
    return like.model_type if like.model_type not in ("", model_type) else None


def _guessed(plan: Plan) -> Iterator[str]:
    if class_is_guessed(plan.old):
        yield (
            f"the config names no model class in 'architectures', so the plain one is taken, "
            f"{plan.model_class.__name__}; name another there if the weights are of another"
        )


def _without_effect(plan: Plan) -> Iterator[tuple[str, str]]:
    """(Choice, why it has no effect), for what was chosen and is not the default."""
    options, model_type = plan.options, plan.architecture.model_type
    grown = [name for name, size in plan.new_sizes.items() if size != plan.old_sizes[name]]
    wider_rotary = bool({"head_dim", "rotary_dim"} & {name.rpartition(".")[2] for name in grown})
    sizes = plan.architecture.sizes  # where only a part of each head is rotary, the other part may grow alone
    wider_heads = wider_rotary or any(name in sizes and sizes[name].grows == "head-dim" for name in grown)
    if options.rope != CHOICES["rope"].default and not plan.architecture.rotary:
        yield f"rope {options.rope}", f"the positions of this {model_type} are not rotary"
    elif options.rope != CHOICES["rope"].default and not wider_rotary:
        part = "rotary part of the heads does" if wider_heads else "heads do"
        yield f"rope {options.rope}", f"the {part} not become wider"
    if options.attention != CHOICES["attention"].default and not wider_heads:
        yield f"attention {options.attention}", "the sizes that are named leave the heads as wide as they are"
    if options.last_hidden_state != CHOICES["last_hidden_state"].default and (why := _is_equal_anyway(plan)):
        yield f"last_hidden_state {options.last_hidden_state}", why
    if not _makes_copies(plan) and options.symmetry != _default_symmetry(plan):
        yield f"symmetry {options.symmetry}", "no copies are made, since nothing becomes wider"
    if options.seed and not (options.breaking.kind == "noise" or options.breaking.varied):
        yield f"seed {options.seed}", "nothing is drawn at random without noise or a varied split"
    if plan.extension is None or not plan.extension.stacks:
        for name in ("insert", "new_layers"):
            if (value := getattr(options, name)) != CHOICES[name].default:
                yield f"{name} {value}", "no number of layers grows"
    if options.lossy and not plan.lossy:
        yield "lossy", "this growth is exact"


def _makes_copies(plan: Plan) -> bool:
    """Whether there are copies that could differ: of coordinates, or of experts."""
    return plan.widens or (plan.extension is not None and plan.extension.copies_experts)


def _default_symmetry(plan: Plan) -> str:
    return replace(plan.options, symmetry=AUTO).at_depth(layers_of(plan.tensors, plan.new)).symmetry


def _is_equal_anyway(plan: Plan) -> str | None:
    """Why the last hidden state needs no choice to be equal, or cannot follow it; None if it does."""
    space = plan.architecture.output_space(LAST, plan.model_class.__name__)
    if space is None:
        return f"a {plan.model_class.__name__} has no last hidden state"
    if not plan.maps[space].grows:
        return "it does not grow"
    default = plan.architecture.maps(
        plan.extended.parsed, plan.extended_sizes, plan.new_sizes, plan.options.scaling, plan.options.rope, {space}
    )
    if (default[space].write == plan.maps[space].write).all():
        equal = (default[space].write == 1).all()
        return "it is equal anyway" if equal else "more than linear maps reads it, so that its law decides"
    return None
