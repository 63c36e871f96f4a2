"""Everything a caller may choose about a growth, said once.

`CHOICES` is the table. From it follow the keywords that ``help(growth.widen)`` lists and a notebook
completes (`takes_choices`), the options of ``grow plan`` and ``grow widen``, and the range that
Python and the command line check a value against. The class `Choices` says the same to type
checkers, who read no table; a test holds the two together.

Importing this takes no torch: ``grow --help`` is to be quick."""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ForwardRef, Literal, TypeAlias, TypedDict, TypeVar

from growth.plan.choice_checks import (
    check_insert,
    check_keep,
    check_like,
    check_lossy,
    check_noise,
    check_seed,
    check_sizes,
    check_symmetry,
    check_towers,
    check_untie,
    check_vouch,
    check_width,
    one_of,
    read_decimal,
    read_named_size,
    read_whole,
    size_check,
)
from growth.plan.symmetry import AUTO

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Like: TypeAlias = "str | os.PathLike[str] | PreTrainedConfig | Mapping[str, Any]"


class Choices(TypedDict, total=False):
    """How to grow. Nothing named: twice as wide."""

    width: float | str | Fraction | None
    hidden_size: int | str | None
    intermediate_size: int | str | None
    heads: int | str | None
    kv_heads: int | str | None
    head_dim: int | str | None
    layers: int | str | None
    experts: int | str | None
    experts_per_token: int | str | None
    expert_size: int | str | None
    insert: str
    new_layers: Literal["silent", "copied"]
    untie: bool
    sizes: Mapping[str, int | str] | None
    like: Like | None
    keep: Sequence[str]
    attention: Literal["heads", "head-dim"]
    rope: Literal["slots", "pairs"]
    scaling: Literal["unit", "orthogonal"]
    last_hidden_state: Literal["divided", "equal"]
    symmetry: str
    noise: float | None
    seed: int
    lossy: bool
    towers: Sequence[str]
    vouch: Sequence[str]


@dataclass(frozen=True)
class Choice:
    """One row of the table.

    Args:
        name: the keyword in Python; ``hidden_size`` is ``--hidden-size`` on the command line.
        help: what it does, in words that serve both.
        check: a value -> the value as it is kept. Raises IllegalGrowthError outside its range.
        default: what holds where the caller says nothing.
        values: all it may be, where that is a short list.
        takes: what stands for its value in ``grow plan --help``.
        parse: a text of the command line -> what ``check`` looks at.
        size: the standard name of the size it sets, if it sets one.
        option: the option's name, where it is not the keyword's.
        many: whether the option may be given several times.
    """

    name: str
    help: str
    check: Callable[[Any], Any]
    default: Any = None
    values: tuple[str, ...] = ()
    takes: str = ""
    parse: Callable[[str], Any] = str.strip
    size: str = ""
    option: str = ""
    many: bool = False

    @property
    def flag(self) -> str:
        """``--hidden-size``."""
        return f"--{(self.option or self.name).replace('_', '-')}"


def _kept_size(keyword: str, standard: str, help: str) -> Choice:
    return Choice(keyword, help, size_check(keyword), takes="N", parse=read_whole, size=standard)


def _listed(name: str, values: tuple[str, ...], help: str) -> Choice:
    return Choice(name, help, one_of(name, values), default=values[0], values=values)


CHOICES: Mapping[str, Choice] = {
    choice.name: choice
    for choice in (
        Choice(
            "width",
            "Factor on hidden and feed-forward size, and on heads or head_dim: 2, 1.5, 5/3. Default: 2, unless sizes "
            "are named.",
            check_width,
            takes="K",
        ),
        _kept_size(
            "hidden_size",
            "hidden_size",
            "Width of the residual stream; what you do not name grows in the same ratio. As every size, a number or "
            "'keep'.",
        ),
        _kept_size("intermediate_size", "intermediate_size", "Width of the feed-forward layers."),
        _kept_size("heads", "num_attention_heads", "Number of attention (query) heads."),
        _kept_size(
            "kv_heads",
            "num_key_value_heads",
            "Number of key/value heads, up to one for each head; 'keep' grows the queries alone, and no KV cache.",
        ),
        _kept_size("head_dim", "head_dim", "Width of each head. Rotary heads grow to whole multiples only."),
        _kept_size(
            "layers",
            "num_hidden_layers",
            "Number of layers. New ones change nothing at first: what they would add is silent, the rest a copy of an "
            "old one. Of two stacks, name one by --size decoder.num_hidden_layers=N.",
        ),
        _kept_size("experts", "num_experts", "Number of experts: a multiple of it. As many more are chosen."),
        _kept_size("experts_per_token", "num_experts_per_tok", "Experts that a token takes. Follows from experts."),
        _kept_size("expert_size", "expert_size", "Width of an expert. With more of them, a part of what it is."),
        Choice(
            "insert",
            "Where new layers go: stack (behind the last one, copies of all old ones in order), even, end, start, or "
            "after:0,3 (behind the first and the fourth).",
            check_insert,
            default="stack",
            takes="stack|even|end|start|after:LIST",
        ),
        _listed(
            "new_layers", ("silent", "copied"), "What new layers do at first: nothing; or as those they copy (lossy)."
        ),
        Choice(
            "untie",
            "Give the head its own matrix, a copy of the embedding's, where the two are tied.",
            check_untie,
            default=False,
        ),
        Choice(
            "sizes",
            "Any other size, by its name in the plan or in config.json, such as moe_intermediate_size.",
            check_sizes,
            takes="NAME=N",
            parse=read_named_size,
            option="size",
            many=True,
        ),
        Choice(
            "like",
            "Become like another model: a folder, a hub id or a config.json. Takes its layers, widths, heads and "
            "ties. What you name yourself overrides it.",
            check_like,
            takes="CONFIG",
        ),
        Choice(
            "keep",
            "What not to take from it, such as vocab,layers: words (vocab, positions, layers, heads, ties, rope) or "
            "config fields.",
            check_keep,
            default=(),
            takes="LIST",
            many=True,
        ),
        _listed(
            "attention",
            ("heads", "head-dim"),
            "What grows with the width. heads: more heads of the same size. head-dim: the same heads, each wider.",
        ),
        _listed(
            "rope",
            ("slots", "pairs"),
            "For rotary models whose heads become wider. slots: each old pair moves to the slot that keeps its "
            "frequency. pairs: each pair is repeated, and its frequency written into the config.",
        ),
        _listed(
            "scaling",
            ("unit", "orthogonal"),
            "unit: activations are copied. orthogonal: copied and divided by sqrt(copies), as in the original "
            "derivation.",
        ),
        _listed(
            "last_hidden_state",
            ("divided", "equal"),
            "How the last hidden state of a decoder comes out. divided: by the number of copies, as a head needs it "
            "that is tied to the embedding; cosines stay. equal: each copy is the small model's, for models that are "
            "used for their embeddings; not with a tied head.",
        ),
        Choice(
            "symmetry",
            "How copies are made to differ, so that they can learn different things; the function stays. noise:R adds "
            "noise that no layer sees, of R times the weights' RMS as far as small weights hold it; auto is noise:2, "
            "or less in a deep model. split:A/B reads the copies in uneven shares, split:1/2:varied in shares that "
            "vary by weight. none: equal copies, which train as one; for proofs, tests and exact trajectories.",
            check_symmetry,
            default=AUTO,
            takes="auto|noise:R|split:A/B|none",
        ),
        Choice(
            "noise",
            "Short for symmetry noise:R; 0 is symmetry none. (0.1 parts the copies slowly.)",
            check_noise,
            takes="R",
            parse=read_decimal,
        ),
        Choice("seed", "Seed of noise and varied splits.", check_seed, default=0, takes="N", parse=read_whole),
        Choice(
            "lossy",
            "Accept copied layers, or rope pairs where the config cannot hold the frequencies; shows what moves.",
            check_lossy,
            default=False,
        ),
        Choice(
            "towers",
            "Of a model of several (text and images, say), what grows: text, vision, audio, or sections of the "
            "config. The others stay as they are. By default the text and what writes into it, where nobody declared "
            "the model, and else everything.",
            check_towers,
            default=(),
            takes="LIST",
            many=True,
        ),
        Choice(
            "vouch",
            "Accept a config field that the declaration does not support. Everything is proved all the same.",
            check_vouch,
            default=(),
            takes="FIELD",
            many=True,
        ),
    )
}
"""Keyword -> what it is, in the order they are listed."""


def keyword_lines(width: int = 96) -> str:
    """The table as a section of a docstring."""
    lines = []
    for choice in CHOICES.values():
        default = "" if choice.default in (None, False, ()) else f" Default: {choice.default!r}."
        said = f"{choice.name}: {choice.help}{default}"
        lines += textwrap.wrap(said, width, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(lines)


F = TypeVar("F", bound=Callable[..., Any])


def takes_choices(function: F) -> F:
    """Show the keywords of the table in the signature and the docstring of a function that takes
    them as ``**choices``. What it does, and what a type checker sees, stays as it is."""
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    hints = {
        name: hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint
        for name, hint in Choices.__annotations__.items()
    }
    shown = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=choice.default, annotation=hints[name])
        for name, choice in CHOICES.items()
    ]
    described: Any = function
    described.__signature__ = signature.replace(parameters=[*own, *shown])
    described.__doc__ = (
        f"{inspect.cleandoc(function.__doc__ or '')}\n\nHow to grow (nothing named: twice as wide):\n{keyword_lines()}"
    )
    return function


Choices.__doc__ = f"{Choices.__doc__}\n\nArgs:\n{keyword_lines()}"
