"""The tables of docs/families.md that `coverage.py --report` writes: how many model types of each kind are grown, and
why the others are not."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coverage import MAPPINGS, cases, status
from coverage_reasons import NOT_HERE, NOT_YET, REASONS, reason

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
BEGIN, END = "<!-- coverage: python benchmarks/coverage.py --report -->", "<!-- end of coverage -->"

NAMES = {
    "CAUSAL_LM": "causal language models",
    "MASKED_LM": "masked language models",
    "SEQ_TO_SEQ_CAUSAL_LM": "sequence to sequence",
    "TEXT_ENCODING": "text encoders",
    "IMAGE_TEXT_TO_TEXT": "images and text",
    "IMAGE_CLASSIFICATION": "image classification",
    "SPEECH_SEQ_2_SEQ": "speech to text",
    "AUDIO_CLASSIFICATION": "audio classification",
    "CTC": "speech, by CTC",
}
BEFORE = {
    **{"CAUSAL_LM": 69, "MASKED_LM": 17, "SEQ_TO_SEQ_CAUSAL_LM": 10, "TEXT_ENCODING": 15, "IMAGE_TEXT_TO_TEXT": 0},
    **{"IMAGE_CLASSIFICATION": 8, "SPEECH_SEQ_2_SEQ": 1, "AUDIO_CLASSIFICATION": 1, "CTC": 0},
}
"""Types that could be grown by a declaration made by hand, of their own or of another type."""

Records = Mapping[tuple[str, str], Mapping[str, Any]]


def write(records: Records) -> None:
    """Put the tables into the page, between the two marks."""
    page = PAGE.read_text()
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(f"{page[:start]}\n{tables(records)}\n{page[end:]}")


def tables(records: Records) -> str:
    """Markdown: the counts, the slowest, and the refusals."""
    return "\n\n".join([_counts(records), _slowest(records), _refusals(records)])


def _of(mapping: str, records: Records) -> list[Mapping[str, Any]]:
    return [records[entry[1:]] for entry in cases([mapping]) if entry[1:] in records]


def _counts(records: Records) -> str:
    """One row for each auto mapping."""
    rows = [
        "| kind | types | before | exact | of those inferred | cannot be grown | refused so far | not run here "
        "| wrong | crashes | slowest growth, s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for mapping in sorted(MAPPINGS, key=[*NAMES].index):
        mine = _of(mapping, records)
        kinds = Counter(_kind(record) for record in mine)
        inferred = sum(_kind(record) == "exact" and _by(record) == "inferred" for record in mine)
        slow = max((_seconds(record) for record in mine), default=0.0)
        cells = [NAMES[mapping], len(mine), BEFORE[mapping], kinds["exact"], inferred, kinds["cannot be"]]
        cells += [kinds[NOT_YET], kinds[NOT_HERE], kinds["WRONG"], kinds["crash"], f"{slow:.1f}"]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def _kind(record: Mapping[str, Any]) -> str:
    """What a case counts as."""
    found = status(dict(record))
    if found in ("exact", "WRONG", "crash"):
        return found
    return reason(record, found)[0]


def _by(record: Mapping[str, Any]) -> str:
    return next((str(outcome.get("by")) for outcome in record["widths"].values() if outcome.get("by")), "")


def _seconds(record: Mapping[str, Any]) -> float:
    return max((outcome.get("seconds") or 0.0 for outcome in record["widths"].values()), default=0.0)


def _slowest(records: Records) -> str:
    """A sentence on the time that a growth takes."""
    times = {key: _seconds(record) for key, record in records.items() if _by(record) == "inferred"}
    if not times:
        return ""
    order = sorted(times, key=lambda key: -times[key])
    median = sorted(times.values())[len(times) // 2]
    named = ", ".join(f"`{key[0]}` {times[key]:.0f} s" for key in order[:5])
    return (
        f"Seconds are those of one processor for the whole growth of a tiny model, the inference and its proof "
        f"included: {median:.1f} s in the middle of the inferred ones, and the slowest {named}."
    )


def _refusals(records: Records) -> str:
    """The types that are not grown, by reason."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records.values():
        if (now := status(dict(record))) != "exact":
            kind, why = reason(record, now)
            found[kind][why].add(str(record["type"]))
    parts = []
    for kind, heading in REASONS.items():
        if kind in found:
            parts.append(f"**{heading}**")
            parts.append("\n".join(_item(why, types) for why, types in sorted(found[kind].items())))
    return "\n\n".join(parts)


def _item(why: str, types: Iterable[str]) -> str:
    return f"* {', '.join(f'`{name}`' for name in sorted(types))}: {re.sub(' +', ' ', why)}"
