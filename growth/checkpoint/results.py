"""What widening and comparing checkpoints give back, and how it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from growth.hf.companion_names import is_weights
from growth.hf.fsdp_folder import FULL_OPTIMIZER, SHARDED_OPTIMIZER
from growth.plan.plan import Plan
from growth.plan.text import grown_table, note_parts
from growth.proof.proof import Proof
from growth.text import Part, Shown, Table, as_argument, as_command, readable


@dataclass(frozen=True, repr=False)
class WidenedCheckpoint(Shown):
    """A checkpoint that was written: where, how, what was proved, what of the source stayed behind,
    what the record says of its training state, if that grew, and the source and the destination as
    the caller named them."""

    path: Path
    plan: Plan
    proof: Proof
    files: tuple[str, ...]
    left_behind: tuple[str, ...]
    bytes_before: int
    bytes_after: int
    training: Mapping[str, Any] | None = None
    source: str = ""
    destination: str = ""

    def _parts(self) -> Sequence[Part]:
        sizes = ("bytes", readable(self.bytes_before), readable(self.bytes_after))
        parts: list[Part] = [grown_table(self.plan, sizes), str(self.proof)]
        if told := self.training:
            step = "of a step that is not counted" if told["global_step"] is None else f"step {told['global_step']}"
            resumes = "accelerator.load_state(...)" if told.get("saved_by") == "accelerate" else _RESUMES
            parts.append(
                f"training state: {step}, {told['optimizer']}, moments: {told['moments']}; to go "
                f"on, build the model from {self.path if self._whole else f'the config in {self.path}'} and call "
                f"{resumes} with it"
            )
        if self.left_behind:
            parts.append(_left_behind(self.left_behind))
        parts += note_parts(self.plan)
        ahead = as_command(["grow", "verify", as_argument(self.source), as_argument(self.destination)])
        if not self._whole:
            ahead = (
                "train on under FSDP; for from_pretrained and grow verify, load it and save_pretrained (docs/fsdp.md)"
            )
        return [*parts, f"written: {self.path}\nnext: {ahead}"]

    @property
    def _whole(self) -> bool:
        """Whether it has weights that ``from_pretrained`` reads."""
        return any(is_weights(name) for name in self.files)

    def __repr__(self) -> str:
        return f"WidenedCheckpoint({str(self.path)!r}, {self.plan!r})"


_RESUMES = "Trainer.train(resume_from_checkpoint=...)"


def _left_behind(names: Sequence[str]) -> str:
    """Which files were not copied, and why."""
    saved = {
        "trainer_state.json": "a Trainer checkpoint",
        **dict.fromkeys((SHARDED_OPTIMIZER, FULL_OPTIMIZER), "a state that accelerate saved"),
    }
    kinds = [what for name, what in saved.items() if name in names]
    if not kinds:
        return f"not copied, since nothing says whether they suit the new sizes: {', '.join(names)}"
    return (
        f"this is {kinds[0]}; --optimizer (optimizer=True) grows its training state as well. Not copied "
        f"without it: {', '.join(names)}"
    )


@dataclass(frozen=True)
class Distance:
    """How far one output of two runs is apart.

    Args:
        largest, mean: of ``|difference|`` over all entries, in the units of the output.
        kl: mean KL divergence in nats per position; None where the output is not logits.
        top1: share of positions with the same argmax, 0 to 1; None where the output is not logits.
    """

    largest: float
    mean: float
    kl: float | None
    top1: float | None

    def cells(self) -> tuple[str, ...]:
        """The four figures, for a table."""
        kl = "-" if self.kl is None else f"{self.kl:.2e}"
        return f"{self.largest:.2e}", f"{self.mean:.2e}", kl, "-" if self.top1 is None else f"{100 * self.top1:.2f} %"


@dataclass(frozen=True)
class Cosines:
    """Cosines between the last hidden states of some tokens, in the grown model and in the source.

    Args:
        output: the hidden state, as `growth.proof.outputs.forward` names it.
        difference: how far they move, the largest and the mean over all pairs.
        floor: how far rounding moves them: the source in two dtypes, or what its weights' dtype
            explains.
        length: the length of the grown hidden states over that of the source's.
    """

    output: str
    difference: Distance
    floor: Distance
    length: float

    def __str__(self) -> str:
        moved, floor = self.difference, self.floor
        return (
            f"cosines between last hidden states move by up to {moved.largest:.1e}, on average {moved.mean:.1e} "
            f"(floor {floor.largest:.1e}, {floor.mean:.1e}); their lengths are {self.length:.4g} times the source's"
        )


@dataclass(frozen=True)
class ModulesBehind:
    """What became of the modules behind a transformer.

    Args:
        same: those whose weights are, bit for bit, what growth makes of the source's.
        other: those whose weights are not.
        unknown: why they could not be compared; empty if they could.
    """

    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    unknown: str = ""

    def __str__(self) -> str:
        if self.unknown:
            return f"modules behind the transformer were NOT COMPARED: {self.unknown}"
        said = [f"{', '.join(self.same)}: as growth makes them of the source's, bit for bit"] if self.same else []
        said += [f"{', '.join(self.other)}: OTHER WEIGHTS than growth makes of the source's"] if self.other else []
        return f"modules behind the transformer: {'; '.join(said)}"


@dataclass(frozen=True, repr=False)
class EquivalenceReport(Shown):
    """The result of `check_equivalence`.

    Args:
        equal: whether every output differs by no more than the rounding floor explains, and by
            little beside how much it varies (``variation``).
        output: the output that ``difference`` and ``floor`` are of: the one furthest off if any is,
            otherwise the logits.
        outputs: all outputs that were compared.
        tokens: number of tokens; 0 for images and sound.
        text: whether the tokens are text. Without a tokenizer they are random, and then there is no
            perplexity.
        dtype: that the models ran in.
        floor_dtype: the wider one that gives the floor.
        weights_dtype: the coarser of the two models' weight dtypes. The floor of a finer ``dtype``
            does not contain the rounding of such weights.
        device: that the models ran on.
        difference: grown model against source, both in ``dtype``.
        floor: source in ``dtype`` against source in ``floor_dtype``; at least one ulp of
            the output.
        perplexity: of source and grown model on the text; None where the model predicts no tokens.
        diverges_at: the first hidden state that differs by more than its floor explains; None if
            none does, or none can be compared.
        grown_from: where the models are not equal and ``growth.json`` shows that b was grown from
            another model than a, the name of that model; None otherwise.
        cosines: how far the cosines between last hidden states move; None if the models return none.
        turned: whether that is further than rounding explains, so that the grown model's hidden
            states are other embeddings, whatever the other outputs are.
        variation: how much the outputs of the source vary over the features, on average
            (`growth.checkpoint.distance.variation`): unrelated models are about 1.4 times as far
            apart as that.
        resolved: False where rounding alone explains a difference that is not small beside
            ``variation``. Unrelated models would pass there, so that ``equal`` is False as well;
            a finer ``dtype`` decides.
        modules: of a sentence-transformers model, what became of the modules behind the
            transformer; ``equal`` is False where they have other weights. None where there are none.
    """

    equal: bool
    output: str
    outputs: tuple[str, ...]
    tokens: int
    text: bool
    dtype: str
    floor_dtype: str
    weights_dtype: str
    device: str
    difference: Distance
    floor: Distance
    perplexity: tuple[float, float] | None
    diverges_at: str | None
    grown_from: str | None = None
    cosines: Cosines | None = None
    turned: bool = False
    variation: float = 0.0
    resolved: bool = True
    modules: ModulesBehind | None = None

    def _parts(self) -> Sequence[Part]:
        what = "tokens of text" if self.text else "random tokens (no tokenizer)" if self.tokens else ""
        head = (f"{self.output}, {self.dtype}", "max |d|", "mean |d|", "KL (nats)", "same top-1")
        rows = [
            ("grown - source", *self.difference.cells()),
            (f"floor: source - {self.floor_dtype}", *self.floor.cells()),
        ]
        lines = [
            f"on {f'{self.tokens} {what}' if what else 'random inputs'}; outputs compared: {', '.join(self.outputs)}",
        ]
        if self.perplexity:
            source, grown = self.perplexity
            moved = "" if self.equal else f"; loss {math.log(grown / source):+.4f} nats per token"
            lines.append(f"perplexity: source {source:.6g}, grown {grown:.6g}{moved}")
        if self.cosines:
            lines.append(f"{self.cosines}{': THEY CHANGE, do not take them for embeddings' if self.turned else ''}")
        if self.modules:
            lines.append(str(self.modules))
        if self.diverges_at:
            lines.append(f"hidden states diverge first at {self.diverges_at}")
        return [Table(head, rows, right=(1, 2, 3, 4)), "\n".join([*lines, _verdict(self)])]

    def __repr__(self) -> str:
        verdict = "equal" if self.equal else "NOT EQUAL" if self.resolved else "NOT RESOLVED"
        return (
            f"EquivalenceReport({verdict}: {self.output} in {self.dtype} differ by {self.difference.largest:.2e}, "
            f"floor {self.floor.largest:.2e})"
        )

    def to_json(self) -> dict[str, Any]:
        """All fields; NaN and infinity as None."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: it has no NaN and no infinity."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _verdict(report: EquivalenceReport) -> str:
    if report.equal:
        return f"equal: within the order of the rounding floor (on {report.device})"
    if not report.resolved:
        finer = "" if report.floor_dtype == report.dtype else f": try --dtype {report.floor_dtype}"
        return (
            f"NOT RESOLVED: {report.output} differ by {report.difference.mean:.2e} on average, which rounding in "
            f"{report.dtype} alone explains, but they vary by {report.variation:.2e} themselves, so that unrelated "
            f"models would pass{finer} (on {report.device})"
        )
    if report.modules is not None and report.modules.other:
        return f"NOT EQUAL: {', '.join(report.modules.other)} behind the transformer has other weights"
    verdict = "NOT EQUAL: further apart than rounding explains"
    if report.weights_dtype != report.dtype:
        held = report.weights_dtype
        verdict += f"; but weights are held in {held}, whose own rounding this floor lacks: try --dtype {held}"
    if report.grown_from is not None:
        verdict += f"; by its growth.json, the second was grown from another model ('{report.grown_from}')"
    return f"{verdict} (on {report.device})"
