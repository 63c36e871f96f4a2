"""What a growth takes over from another model (``like=``), and what of that model it cannot have.

A growth can take what makes the model larger: its sizes, its numbers of layers, and a head of its
own. It cannot take what changes the function or the weights it has: another vocabulary, other
positions, activations or frequencies, one matrix for two that differ, or fewer of anything. All
that differs in such a field is named at once and refused, unless the caller keeps it
(`growth.plan.keep`). Fields on which no output depends stay as they are, except for those that say
how weights are drawn when a training starts: these become the other model's.

Example: SmolLM2-135M grown like SmolLM2-360M. Taken: hidden_size 960, intermediate_size 2560, 15
heads, 5 key/value heads, 32 layers, initializer_range. The vocabulary, the positions and the rest
are equal, so nothing has to be kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from growth.errors import IllegalGrowthError, IllegalShapeError, shown
from growth.extension.extension import Extension
from growth.extension.kv_heads import KV_HEADS
from growth.extension.request import CHOSEN, EXPERT_SIZE, EXPERTS, Request, counts_layers
from growth.hf.config_comparison import alike, fields_of
from growth.hf.config_fields import is_of_initial_weights
from growth.hf.config_json import edited
from growth.hf.configs import Config
from growth.plan.beside import TIE, Beside, Difference
from growth.plan.keep import MODEL_TYPE, check_words, is_kept, to_add, words_for
from growth.plan.like import OtherModel
from growth.plan.options import KEEP, Options

T = TypeVar("T")

HEADS = ("num_attention_heads", KV_HEADS)


@dataclass(frozen=True, eq=False)
class TakenOver:
    """What is taken over from another model.

    Args:
        options: the caller's, with the numbers of layers and the untying of the other model among
            them; ``like`` holds the sizes to be widened to.
        beside: the two models; None where no other is named.
        words: what is taken that extends the model, by the words of ``keep``.
        kept: what the caller keeps although the other model differs.
        adopted: config field -> the other model's value, where no output depends on it.
        notes: what the caller should know, a sentence each.
    """

    options: Options
    beside: Beside | None = None
    words: tuple[str, ...] = ()
    kept: tuple[Difference, ...] = ()
    adopted: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def request(self) -> Request:
        """What the model is to have more of, with what the other model lists for each layer."""
        if self.beside is None or "layers" not in self.words:
            return self.options.extends
        other = self.beside.other.items()
        lists = {path: value for path, value in other if isinstance(value, list) and self.beside.follows_layers(path)}
        return replace(self.options.extends, per_layer=lists)

    def extended(self, extend: Callable[[Request], Extension | None]) -> Extension | None:
        """The extension that ``extend`` makes. What it refuses for the other model's sake can be
        kept."""
        try:
            return extend(self.request)
        except IllegalGrowthError as error:
            word = next((word for word in _parts(self) if _succeeds(extend, _without(self.request, word))), None)
            if word is None:
                raise
            reason = str(error).rpartition(". ")[0] or str(error)
            raise IllegalGrowthError(
                f"{reason}. Add {to_add([*self.options.keep, word])} to take all else of the other model."
            ) from error

    def widened(self, choose: Callable[[], T]) -> T:
        """What ``choose`` makes of the sizes. Where a law refuses one of the other model's whatever the
        others are, that can be kept."""
        try:
            return choose()
        except IllegalShapeError:
            raise
        except IllegalGrowthError as error:
            old, lent = {} if self.beside is None else self.beside.old, self.options.like.sizes
            larger = [name for name, size in lent.items() if name in old and size > old[name]]
            blamed = {name for name in old if f"({name})" in str(error)}
            refused = [name for name in larger if name in blamed]
            if any(_last(name) in (*HEADS, "queries_per_kv") for name in blamed):  # they grow together
                refused = [name for name in larger if _last(name) in HEADS]
            if not refused:
                raise
            words = [*self.options.keep, *(words_for(name)[0] for name in refused)]
            reason = str(error).rpartition(". ")[0] or str(error)
            raise IllegalGrowthError(f"{reason}. Add {to_add(words)} to take all else of the other model.") from error


def _parts(taken: TakenOver) -> list[str]:
    """The words of what is taken over and may be refused when the model is extended."""
    lent = [KV_HEADS] if any(_last(name) == KV_HEADS for name in taken.options.like.sizes) else []
    return [*taken.words, *(words_for(name)[0] for name in lent)]


def _without(request: Request, word: str) -> Request:
    """What is asked for, but for what a word keeps."""
    return replace(
        request,
        untie=request.untie and word != "ties",
        sizes={name: size for name, size in request.sizes.items() if not is_kept((word,), name)},
        like={name: size for name, size in request.like.items() if not is_kept((word,), name)},
    )


def _succeeds(extend: Callable[[Request], Extension | None], request: Request) -> bool:
    try:
        extend(request)
    except IllegalGrowthError:
        return False
    return True


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def take_over(beside: Beside) -> TakenOver:
    """What is taken over from the other model that the options name.

    Raises:
        IllegalGrowthError: naming all that cannot be taken, with what to add to keep it; for a word
            of ``keep`` that means nothing; or if there is nothing to take.

    Example:
        >>> from transformers import LlamaConfig
        >>> from growth import plan_widening
        >>> small = LlamaConfig(hidden_size=64, num_attention_heads=4, num_hidden_layers=2, vocab_size=99)
        >>> large = LlamaConfig(hidden_size=128, num_attention_heads=8, num_hidden_layers=3, vocab_size=100)
        >>> plan = plan_widening(small, like=large, keep="vocab")
        >>> plan.config_changes["num_hidden_layers"], plan.notes[1]
        ((2, 3), 'kept, though the other model differs: vocab_size 100 (99 here)')
    """
    options, other = beside.options, beside.options.like
    if not other:
        return TakenOver(options)
    check_words(options.keep, beside.names())
    kind = [] if other.model_type in ("", beside.config[MODEL_TYPE]) else [_other_kind(beside)]
    sizes, layers, ties = [*beside.sizes()], [*beside.layers()], [*beside.ties()]
    experts = [*beside.experts()]
    differences = [*kind, *sizes, *layers, *experts, *ties, *beside.fields()]
    kept = [one for one in differences if is_kept(options.keep, *one.names)]
    larger = [one for one in (*sizes, *layers) if one not in kept and one.other > one.own]
    if any(one.name == EXPERTS and one not in kept and one.other > one.own for one in experts):
        larger += [one for one in experts if one not in kept]
        larger += [one for one in sizes if one.name == beside.expert_size and one not in (*kept, *larger)]
    untied = [one for one in ties if one not in kept and one.own and beside.is_tied]
    if beyond := [one for one in differences if one not in (*kept, *larger, *untied)]:
        raise _refusal(options, beyond)
    if not (beside.lent or layers or experts or untied):
        raise IllegalGrowthError(
            f"the other model says none of the sizes of a {beside.config[MODEL_TYPE]}: "
            f"{', '.join([*beside.choosable, 'layers'])}. Name some of them."
        )
    if not (larger or untied or options.sizes or options.untie):
        but = f", but for what is kept ({', '.join(options.keep)})" if kept else ""
        raise IllegalGrowthError(
            f"the other model is no larger than this one{but}, so nothing would grow. Name a larger model, or a width."
        )
    counts = {one.name: one.other for one in (*layers, *experts) if one in larger}
    if EXPERTS in counts:  # also where as many are chosen as now, so that it is refused
        counts[CHOSEN] = beside.chosen
    if finer := [one.other for one in sizes if one in larger and one.other < one.own]:
        counts[EXPERT_SIZE] = finer[0]
    held = {one.name: KEEP for one in sizes if one in kept}
    finer_experts = {beside.expert_size} if EXPERT_SIZE in counts else set()
    lent = {name: size for name, size in beside.lent.items() if name not in {*held, *finer_experts}}
    unused = [one for one in beside.unused() if not is_kept(options.keep, *one.names)]
    return TakenOver(
        replace(
            options,
            sizes={**counts, **held, **options.sizes},
            untie=options.untie or bool(untied),
            like=OtherModel(lent, other.config),
        ),
        beside,
        (
            *(["ties"] if untied else []),
            *(["experts"] if EXPERTS in counts else []),
            *(["layers"] if any(one in larger for one in layers) else []),
        ),
        tuple(kept),
        {one.name: one.other for one in unused if _starts_training(one)},
        tuple(_said(options, differences, kept, [one for one in unused if not _starts_training(one)])),
    )


def _other_kind(beside: Beside) -> Difference:
    return Difference((MODEL_TYPE,), beside.config[MODEL_TYPE], beside.options.like.model_type)


def _starts_training(one: Difference) -> bool:
    return is_of_initial_weights(_last(one.name)) and one.other is not None


def _refusal(options: Options, beyond: Sequence[Difference]) -> IllegalGrowthError:
    words = [*options.keep, *(one.word for one in beyond)]
    return IllegalGrowthError(
        f"the other model has {', '.join(map(str, beyond))}, which a growth cannot take: it keeps the function and "
        f"shrinks nothing. Add {to_add(words)} to take all else."
    )


def _said(
    options: Options, differences: Sequence[Difference], kept: Sequence[Difference], unused: Sequence[Difference]
) -> list[str]:
    idle = [word for word in options.keep if not any(is_kept((word,), *one.names) for one in differences)]
    notes = [f"keep {word} changes nothing here: the other model does not differ in it" for word in idle]
    if kept:
        notes.append(f"kept, though the other model differs: {', '.join(map(str, kept))}")
    if unused:
        notes.append(f"not taken from the other model, as no output depends on it: {', '.join(map(str, unused))}")
    return notes


def reached(taken: TakenOver, config: Config) -> tuple[Config, tuple[str, ...]]:
    """The config of the grown model with what else the other model's says, where that changes
    nothing; and what a caller should know.

    Args:
        taken: what was taken over.
        config: of the grown model.

    Raises:
        IllegalGrowthError: if it still differs from the other model's in a field that the function
            depends on, and not since the function has to stay.
    """
    beside = taken.beside
    if beside is None:
        return config, ()
    result = edited(config, taken.adopted) if taken.adopted else config
    grown = fields_of(config.parsed)
    deeper = {path for path in grown if counts_layers(_last(path)) and grown[path] != beside.own.get(path)}
    lists = {one.field for one in beside.lists}
    as_deep = all(grown[path] == beside.other.get(path) for path in {*deeper, *lists})
    missed: list[Difference] = []
    changed: list[Difference] = []

    def beyond(path: str, wanted: Any) -> bool:
        still_tied = _last(path) == TIE and beside.is_tied and not taken.options.untie
        return still_tied or (path in beside.with_experts and not alike(beside.own.get(path), wanted))

    for path, wanted in beside.other.items():
        now = fields_of(result.parsed).get(path)
        if is_kept(taken.options.keep, path) or alike(now, wanted):
            continue
        if beside.follows_layers(path):
            found = beside.harmless(result, path, wanted) if as_deep else result
            result = found or result
            missed += [] if found else [Difference((path,), now, wanted)]
        elif beyond(path, wanted):
            missed.append(Difference((path,), now, wanted))
        elif path not in beside.aside and path in beside.own and alike(beside.own[path], wanted):
            changed.append(Difference((path,), now, wanted))
    if missed:
        raise _refusal(taken.options, missed)
    notes = [
        f"{one.name} becomes {_number(one.own)}, and is {_number(one.other)} in the other model: the function needs it"
        for one in changed
    ]
    return result, (*taken.notes, *notes)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else shown(value)
