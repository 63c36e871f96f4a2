"""Why a model type is not grown, in plain English: from what was said where that is enough, else by the type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

CANNOT_BE, NOT_HERE, NOT_YET = "cannot be", "not here", "not yet"

REASONS = {
    CANNOT_BE: "Cannot be grown exactly, whatever the weights",
    NOT_HERE: "Could not be built or run here",
    NOT_YET: "Refused so far",
}
"""Kind -> heading, in the order of the page."""

_SINUSOIDS = (
    "sinusoids whose frequencies follow from the width are added to the residual stream, and a wider model adds others"
)
_RELATIVE = "a table of relative sinusoids as wide as the model is read by a learned matrix, which is not inferred"
_SCALED = (
    "the same embedding is read times the root of the width and without it, and both enter one sum, so that no scale "
    "of its copies serves both"
)
_HASHES = "its hashing draws random directions for every head, and a wider model draws others"
_CACHE = "reads the keys and values of another model, without which it cannot be built"
_STAGES = "widths are listed by stage, and no stage alone may grow"

BY_TYPE: dict[str, tuple[str, str]] = {
    "gemma4": (CANNOT_BE, _SCALED),
    "gemma4_assistant": (NOT_HERE, _CACHE),
    "gemma4_unified_assistant": (NOT_HERE, _CACHE),
    "reformer": (CANNOT_BE, _HASHES),
    "pi0": (NOT_HERE, "takes the state of a robot, for which the benchmark has no inputs"),
}
"""Model type -> kind and reason, where what is said does not name it."""

BY_WORDS = (
    (r"'b?mm' in module '[^']*(linear_pos|relative_k_proj|attention|rel)[^']*': a table", NOT_YET, _RELATIVE),
    (
        r"'(mul|sub)' in module '[^']*attn[^']*': a table",
        NOT_YET,
        "its rotary frequencies would follow from the width",
    ),
    (r"a table that the model computes|code adds sinusoids", CANNOT_BE, _SINUSOIDS),
    (r"_fft_", CANNOT_BE, "a Fourier transform over the features mixes every coordinate with every other"),
    (
        r"no parameter on the way to it is free",
        CANNOT_BE,
        "a tied head reads copies that nothing before it can divide",
    ),
    (r"requires the (\w+) library", NOT_HERE, r"needs the library \1"),
    (r"No module named '(\w+)'", NOT_HERE, r"needs the library \1"),
    (r"even a tiny one has \d+ million parameters", NOT_HERE, "even a small config has too many parameters"),
    (r"(transformers does not read back what it wrote)", NOT_HERE, r"\1: the names of the tensors differ"),
    (r"no field of its config grows", NOT_YET, _STAGES),
    (r"layers of this \w+ differ in (.*?) \(", NOT_YET, r"layers differ in sizes that would have to grow (\1)"),
    (r"no inputs with images or sounds were found", NOT_YET, "no inputs with images or sounds were found for it"),
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
    found = next(((kind, match.expand(why)) for p, kind, why in BY_WORDS if (match := re.search(p, said))), None)
    if record.get("does_not_run") and not record.get("not_built") and (found is None or found[0] != CANNOT_BE):
        return NOT_HERE, "its small model runs on none of the benchmark's inputs"
    if found is not None:
        return found
    if record.get("not_built"):
        return NOT_HERE, f"the benchmark's tables do not make its config small ({_short(said)})"
    if status == "out of time":
        return NOT_YET, "takes longer than the limit"
    if status == "exact on text alone":
        return NOT_YET, "grown, but the benchmark has no images or sounds for it: exact on text alone"
    return NOT_YET, _short(said)


def _short(said: str) -> str:
    """The part of a message that tells something, on one line."""
    said = " ".join(said.split())
    for start in (r".*no declaration could be inferred for this \w+: ", r".*no miniature of \w+ runs: "):
        said = re.sub(f"^{start}", "", said)
    said = re.sub(r"^(\w+): (?=\w+(Error)?: )", "", said)
    said = re.sub(r" ?(Declare the model with growth\.register.*|If you wrote the declaration.*)$", "", said)
    return said[:150].rstrip(" .") + ("..." if len(said) > 150 else "")
