"""Why a model type is not grown, in plain English: from what was said where that is enough, else by the type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

CANNOT_BE, NOT_HERE, NOT_YET = "cannot be", "not here", "not yet"

REASONS = {
    CANNOT_BE: "Cannot be grown exactly: the function itself depends on the width",
    NOT_HERE: "Could not be built or run here",
    NOT_YET: "Refused so far",
}
"""Kind -> heading, in the order of the page."""

_SINUSOIDS = (
    "the code adds sinusoids whose frequencies follow from the width to the residual stream: a wider model adds others"
)

BY_TYPE: dict[str, tuple[str, str]] = {}
"""Model type -> kind and reason, where what is said does not name it."""

BY_WORDS = (
    (r"a table that the model computes is another one in a wider model", CANNOT_BE, _SINUSOIDS),
    (r"_fft_", CANNOT_BE, "a Fourier transform over the features mixes every coordinate with every other"),
    (r"requires the (\w+) library", NOT_HERE, r"needs the library \1"),
    (r"No module named '(\w+)'", NOT_HERE, r"needs the library \1"),
    (r"even a tiny one has (\d+) million parameters", NOT_HERE, r"even a small config has \1 million parameters"),
)
"""Pattern -> kind and reason."""


def reason(record: Mapping[str, Any], status: str) -> tuple[str, str]:
    """Kind and reason for a case that is not exact.

    Args:
        record: of `coverage_case.case`.
        status: of it.
    """
    outcomes = list(record["widths"].values())
    said = record.get("not_built") or next((outcome["said"] for outcome in outcomes if outcome.get("said")), status)
    if (known := BY_TYPE.get(str(record["type"]))) is not None:
        return known
    for pattern, kind, why in BY_WORDS:
        if match := re.search(pattern, said):
            return kind, match.expand(why)
    if record.get("not_built"):
        return NOT_HERE, f"its config cannot be made small by the benchmark's tables ({_short(said)})"
    if status == "out of time":
        return NOT_YET, "takes longer than the limit"
    if status == "exact on text alone":
        return NOT_YET, "grown, but the benchmark has no images or sounds for it: exact on text alone"
    if record.get("does_not_run"):
        return NOT_HERE, f"its small model does not run on the benchmark's inputs ({_short(record['does_not_run'])})"
    return NOT_YET, _short(said)


def _short(said: str) -> str:
    """The part of a message that tells something, on one line."""
    said = " ".join(said.split())
    for start in (r".*no declaration could be inferred for this \w+: ", r"Unexplained: ", r"Differs: "):
        said = re.sub(f"^{start}", "", said)
    said = re.sub(r" ?(Declare the model with growth\.register.*|If you wrote the declaration.*)$", "", said)
    return said[:150].rstrip(" .") + ("..." if len(said) > 150 else "")
