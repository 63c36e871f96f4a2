"""The log of a training run, as points of tokens and loss at a constant learning rate."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from growth.arguments import real_number
from growth.errors import CheckpointError, IllegalGrowthError, shown
from growth.hf.config_json import read_json
from growth.hf.paths import local_path

Numbers = NDArray[np.float64]
Log = str | os.PathLike[str] | Mapping[str, Sequence[float]] | Sequence[Sequence[float]] | Numbers
"""A log as callers give it: a file, columns by name, or pairs of tokens and loss."""

FEWEST = 5
"""Points that a curve needs."""
STATE = "trainer_state.json"
WARM, DECAYED, SETTLED = 0.98, 0.9, 0.15
"""Points are left out before the learning rate first reaches `WARM` of its peak, after it last falls below `DECAYED`
of it, and in the first `SETTLED` of a log's tokens, where a run has not settled on its power law."""
COLUMNS = {
    "tokens": ("tokens", "num_input_tokens_seen", "tokens_seen", "num_tokens", "train_tokens"),
    "step": ("step", "steps", "global_step", "iteration"),
    "loss": ("loss", "train_loss", "training_loss", "train/loss"),
    "held out": ("eval_loss", "val_loss", "valid_loss", "validation_loss", "held_out_loss", "eval/loss", "val/loss"),
    "rate": ("learning_rate", "lr", "train/learning_rate"),
}
"""What a column holds -> what it may be called, in lower case."""


class TooFewPoints(CheckpointError):
    """A log has fewer than `FEWEST` points of a kind at a constant rate."""


@dataclass(frozen=True)
class TrainingLog:
    """Points of a run at a constant learning rate.

    Args:
        name: of the file, for messages.
        tokens: after which the loss was measured, rising.
        loss: in nats.
        held_out: whether it is the loss on held-out text, and not on the batches trained on.
        seen: tokens of the whole run, the points that were left out included.
        notes: what was left out, and why.
    """

    name: str
    tokens: Numbers
    loss: Numbers
    held_out: bool = True
    seen: float = 0.0
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class _Points:
    """All points of a log of one kind."""

    tokens: Numbers
    loss: Numbers
    rate: Numbers | None
    seen: float = 0.0


def read_logs(logs: Mapping[str, Log], tokens_per_step: float | None = None) -> dict[str, TrainingLog]:
    """Read logs to be compared: held-out losses if every one has enough of them at a constant rate, else training
    losses.

    Args:
        logs: a name each -> a ``trainer_state.json``, the folder of a run or of a checkpoint of
            `transformers.Trainer`, a CSV file with a column of tokens (or steps) and one of losses; a dictionary of
            such columns; or pairs of tokens and loss.
        tokens_per_step: where a log counts steps only.

    Raises:
        CheckpointError: for a log that cannot be read, or has fewer than `FEWEST` points at a constant rate.
        IllegalGrowthError: for ``tokens_per_step`` that is no number above 0.

    Example:
        >>> read_logs({"small": "out/checkpoint-500"}, tokens_per_step=32768)["small"].loss[-1]
        3.2
    """
    if tokens_per_step is not None and not 0 < (real_number(tokens_per_step) or 0) < float("inf"):
        raise IllegalGrowthError(
            f"tokens_per_step must be a number above 0, not {shown(tokens_per_step)}. Use batch size times sequence "
            "length: 32768, for example."
        )
    found = {name: _kinds(name, log, tokens_per_step) for name, log in logs.items()}
    trained = all("loss" in kinds for kinds in found.values())
    if all("held out" in kinds for kinds in found.values()):
        try:
            return {
                name: _constant_part(_called(name, logs[name]), kinds["held out"], True)
                for name, kinds in found.items()
            }
        except TooFewPoints:
            if not any("loss" in kinds for kinds in found.values()):
                raise
    if not trained:
        name = next(name for name, kinds in found.items() if "loss" not in kinds)
        raise CheckpointError(
            f"{_called(name, logs[name])} has held-out losses alone, and another log has none or too few of them, so "
            "that the two cannot be compared. Log the same loss in both runs."
        )
    return {name: _constant_part(_called(name, logs[name]), kinds["loss"], False) for name, kinds in found.items()}


def _called(name: str, log: Log) -> str:
    return str(log) if isinstance(log, (str, os.PathLike)) else f"the log '{name}'"


def _kinds(name: str, log: Log, tokens_per_step: float | None) -> dict[str, _Points]:
    """Kind of loss -> its points."""
    called, averaged = _called(name, log), False
    if isinstance(log, (str, os.PathLike)):
        path = _file_of(local_path(log))
        averaged = path.suffix == ".json"
        rows = _rows_of_state(path) if averaged else _rows_of_csv(path)
    elif isinstance(log, Mapping):
        rows = _rows_of_columns(called, log)
    else:
        rows = _rows_of_pairs(called, log)
    kinds = {kind: _points(called, rows, kind, tokens_per_step, averaged) for kind in ("loss", "held out")}
    found = {kind: points for kind, points in kinds.items() if len(points.tokens)}
    if not found:
        raise CheckpointError(
            f"{called} has no losses. Give a trainer_state.json, or a CSV file whose first line names its columns: "
            "tokens,loss."
        )
    return found


def _file_of(path: Path) -> Path:
    """The file itself, of a run or a checkpoint the latest state."""
    if path.is_dir():
        states = [path / STATE, *path.glob(f"checkpoint-*/{STATE}")]
        there = [state for state in states if state.is_file()]
        if not there:
            raise CheckpointError(f"{path} holds no {STATE}. Name a checkpoint of a Trainer run, or a CSV file.")
        path = max(there, key=lambda state: (state.parent == path, _step_of(state)))
    if not path.is_file():
        raise CheckpointError(f"no such log: {path}. Give a trainer_state.json, or a CSV file of tokens and loss.")
    return path


def _rows_of_state(path: Path) -> list[dict[str, float]]:
    """What a log says, entry by entry: what it is -> the number. Trainer's closing entry, whose ``train_loss`` is the
    mean over the whole run, is left out."""
    content = read_json(path)
    history = content.get("log_history") if isinstance(content, dict) else None
    if not isinstance(history, list):
        raise CheckpointError(f"{path} has no 'log_history'. Give the trainer_state.json of a Trainer run.")
    return [_row(entry) for entry in history if isinstance(entry, dict) and "total_flos" not in entry]


def _step_of(state: Path) -> int:
    number = state.parent.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _rows_of_csv(path: Path) -> list[dict[str, float]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is no text. Give a CSV file of tokens and loss.") from error
    try:
        dialect: Any = csv.Sniffer().sniff(text[:4096], delimiters=",;\t ")
    except csv.Error:
        dialect = csv.excel
    lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines(), dialect) if any(line)]
    if not lines:
        raise CheckpointError(f"{path} is empty. Give a CSV file of tokens and loss.")
    header = lines[0]
    if all(_number(cell) is not None for cell in header):
        if len(header) != 2:
            raise CheckpointError(
                f"{path} has {len(header)} columns and no line that names them. Write 'tokens,loss' above them, in "
                "their order."
            )
        header = ["tokens", "loss"]
    else:
        lines = lines[1:]
    return [_row(dict(zip(header, line, strict=False))) for line in lines]


def _rows_of_columns(called: str, columns: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise CheckpointError(f"the columns of {called} have different lengths, {sorted(lengths)}. Make them alike.")
    return [_row(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _rows_of_pairs(called: str, pairs: Any) -> list[dict[str, float]]:
    try:
        return [{"tokens": float(tokens), "loss": float(loss)} for tokens, loss in pairs]
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{called} is {shown(pairs)}, which is no log. Give a file, a dictionary of columns, or pairs of tokens "
            "and loss."
        ) from error


def _row(entry: Mapping[Any, Any]) -> dict[str, float]:
    """The columns that matter of one entry, by what they hold."""
    lower = {str(name).strip().lower(): value for name, value in entry.items()}
    named = ((kind, next((lower[name] for name in names if name in lower), None)) for kind, names in COLUMNS.items())
    return {kind: number for kind, value in named if (number := _number(value)) is not None}


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _points(
    called: str, rows: Sequence[Mapping[str, float]], kind: str, tokens_per_step: float | None, averaged: bool
) -> _Points:
    """The points with a loss of one kind. A learning rate counts until the next one. Trainer logs the average of the
    training loss since it last did, which belongs to the middle of that time (``averaged``)."""
    tokens: list[float] = []
    loss: list[float] = []
    rates: list[float] = []
    ends: list[float] = []
    rate, before = np.nan, 0.0
    counted = any(row.get("tokens") for row in rows)  # Trainer may write 0 throughout
    for row in rows:
        rate = row.get("rate", rate)
        if kind not in row:
            continue
        at = row.get("tokens")
        if not counted:
            at = row["step"] * tokens_per_step if tokens_per_step and "step" in row else None
        if at is None:
            raise CheckpointError(
                f"{called} does not say after how many tokens a loss was measured. Give --tokens-per-step N "
                "(tokens_per_step=N), or train with include_num_input_tokens_seen=True."
            )
        tokens.append((before + at) / 2 if averaged and kind == "loss" and before < at else at)
        loss.append(row[kind])
        rates.append(rate)
        before = at
        ends.append(at)
    known = np.asarray(rates)
    rate_known = known if np.isfinite(known).any() else None
    return _Points(np.asarray(tokens), np.asarray(loss), rate_known, max([0.0, *filter(np.isfinite, ends)]))


def _constant_part(called: str, points: _Points, held_out: bool) -> TrainingLog:
    """The points at a constant rate, sorted."""
    notes: list[str] = []
    good = np.isfinite(points.loss) & (points.loss > 0) & np.isfinite(points.tokens) & (points.tokens > 0)
    if not good.all():
        if good.mean() < 0.5:
            raise CheckpointError(
                f"{len(good) - good.sum()} of {len(good)} {'held-out' if held_out else 'training'} losses of {called} "
                "are not finite numbers above 0. Check whether the run diverged."
            )
        notes.append(f"{len(good) - good.sum()} points that are not finite numbers above 0 are left out")
    tokens, loss = points.tokens[good], points.loss[good]
    rate = None if points.rate is None else points.rate[good]
    if (np.diff(tokens) < 0).any():
        notes.append("the points are not in the order of their tokens and were sorted, the later of two being kept")
    latest = {float(at): number for number, at in enumerate(tokens)}  # of two at one place, the later
    order = np.array([latest[at] for at in sorted(latest)], dtype=np.intp)
    tokens, loss = tokens[order], loss[order]
    kept = tokens >= SETTLED * points.seen
    if rate is None:
        notes.append(
            "it has no learning rates: all of it is taken to be at a constant one; cut off a decay at its end"
        )
    else:
        rate = np.nan_to_num(rate[order], nan=0.0)
        peak = rate.max()
        first, steady = int(np.argmax(rate >= WARM * peak)), np.flatnonzero(rate >= DECAYED * peak)
        kept &= (np.arange(len(rate)) >= first) & (np.arange(len(rate)) <= steady[-1])
        if steady[-1] < len(rate) - 1:
            notes.append(
                f"its learning rate falls after {tokens[steady[-1]]:.3g} tokens, and points behind that are left out"
            )
    if kept.sum() < FEWEST:
        raise TooFewPoints(
            f"{called} has {int(kept.sum())} points at a constant learning rate, warm-up and decay left out, and "
            f"{FEWEST} are needed. Log more often, or train at a constant rate "
            "(lr_scheduler_type='constant_with_warmup')."
        )
    return TrainingLog(called, tokens[kept], loss[kept], held_out, float(points.seen), tuple(notes))
