"""One case of `coverage.py`: a tiny model on the disk, widened, loaded again and compared."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from coverage_exact import EXACT, difference, load, run
from coverage_inputs import inputs_for
from coverage_models import LARGEST, class_and_config, loud_model, parameters

import growth
from growth.architectures import known
from growth.errors import GrowthError


class OutOfTime(BaseException):
    """Not an Exception, so that nothing between here and there can take it for one of its own."""


@dataclass
class Outcome:
    """What became of one model at one width.

    Args:
        status: exact, exact on text alone, refused, WRONG, crash, out of time, or grown but not compared.
        difference: of the outputs.
        seconds: of the growth, of one processor.
        said: the message of a refusal or an error.
        kind: the class of a refusal or an error.
        by: which declaration: declared, like another one, or inferred.
        where: of a crash.
        larger: times as many parameters.
    """

    status: str
    difference: float | None = None
    seconds: float | None = None
    said: str = ""
    kind: str = ""
    by: str = ""
    where: list[str] = field(default_factory=list)
    larger: float | None = None


def case(model_type: str, name: str, widths: tuple[float, ...], limit: float) -> dict[str, Any]:
    """Grow a tiny model of a class by every width.

    Args:
        model_type: of its config.
        name: of the class.
        widths: ratios.
        limit: seconds of one processor for all of it.

    Returns:
        ``not_built`` with the reason, or ``widths``: width -> `Outcome` as a dict. JSON.
    """
    record: dict[str, Any] = {"type": model_type, "class": name, "declared": model_type in known(), "widths": {}}
    torch.set_default_dtype(torch.float32)
    folder = Path(tempfile.mkdtemp())
    begun = time.process_time()
    try:
        with _at_most(limit):
            try:
                model_class, config = class_and_config(model_type, name)
                if (many := parameters(model_class, config)) > LARGEST:
                    raise ValueError(f"even a tiny one has {many / 1e6:.0f} million parameters")
                loud_model(model_class, config).save_pretrained(folder / "small")
            except Exception as error:
                record["not_built"] = f"{type(error).__name__}: {str(error)[:300]}"
                return record
            try:
                small, missing = load(model_class, folder / "small")
                inputs, outputs, text_alone = inputs_for(small)
                record["inputs"] = sorted(inputs)
                if missing:
                    record["not_built"] = (
                        f"transformers does not read back what it wrote ({len(missing)} names differ)"
                    )
                    return record
            except Exception as error:
                record["does_not_run"] = f"{type(error).__name__}: {error}"[:900]
            for width in widths:
                outcome = _grown(folder, width)
                record["widths"][str(width)] = _written(outcome)
                if outcome.status == "grown":
                    try:
                        if "does_not_run" in record:
                            raise ValueError("the small model does not run")
                        _compare(outcome, model_class, folder / f"x{width}", missing, inputs, outputs, text_alone)
                    except Exception as error:
                        outcome.status, outcome.said = (
                            "grown but not compared",
                            f"{type(error).__name__}: {error}"[:900],
                        )
                        outcome.where = _where(error)
                    record["widths"][str(width)] = _written(outcome)
                elif outcome.status == "refused" and outcome.kind != "IllegalGrowthError":
                    break
    except OutOfTime:
        missing_width = next(
            (w for w in widths if record["widths"].get(str(w), {}).get("status") in (None, "grown")), 0
        )
        record["widths"][str(missing_width)] = _written(Outcome("out of time", seconds=limit))
    finally:
        torch.set_default_dtype(torch.float32)
        shutil.rmtree(folder, ignore_errors=True)
        record["seconds"] = round(time.process_time() - begun, 1)
    return record


def _written(outcome: Outcome) -> dict[str, Any]:
    """What there is to say of an outcome."""
    return {name: value for name, value in asdict(outcome).items() if value not in (None, "", [])}


def _grown(folder: Path, width: float) -> Outcome:
    """The result of growing what is in ``small`` into ``x{width}``."""
    torch.set_default_dtype(torch.float32)
    begun = time.process_time()
    try:
        result = growth.widen_checkpoint(folder / "small", folder / f"x{width}", width=width)
    except GrowthError as error:
        return Outcome("refused", seconds=_since(begun), said=str(error)[:1500], kind=type(error).__name__)
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:300]}"
        return Outcome("crash", seconds=_since(begun), said=said, kind=type(error).__name__, where=_where(error))
    plan = result.plan
    by = "inferred" if plan.declared.inferred else f"like {like}" if (like := plan.declared.looks_like) else "declared"
    larger = plan.parameters(new=True) / plan.parameters(new=False)
    return Outcome("grown", seconds=_since(begun), by=by, larger=round(larger, 2))


def _compare(
    outcome: Outcome,
    model_class: Any,
    folder: Path,
    missing: list[str],
    inputs: dict[str, Any],
    before: dict[str, torch.Tensor],
    text_alone: bool,
) -> None:
    """Whether the grown model computes the same."""
    wide, lacks = load(model_class, folder)
    after = run(wide, inputs)
    worst = max(difference(before[name], after[name]) for name in before if name in after)
    same = worst <= EXACT and lacks == missing
    outcome.difference = worst
    outcome.status = ("exact on text alone" if text_alone else "exact") if same else "WRONG"
    if lacks != missing:
        outcome.said = f"missing or unexpected: {lacks[:5]}"


def _since(begun: float) -> float:
    return round(time.process_time() - begun, 2)


def _where(error: BaseException) -> list[str]:
    return [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
    ][-5:]


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises `OutOfTime` after so many seconds of one processor."""

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
