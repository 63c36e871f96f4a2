"""Which outputs of two models of different depth are the same: the last hidden state is that of the
last layer, whatever its number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from growth.plan.plan import Plan
from growth.proof.outputs import of_old_layers


def entries_of(before: Iterable[str], after: Iterable[str], plan: Plan | None) -> dict[str, str]:
    """Output of the source -> the output of the grown model that is to be compared with it.

    A plan says which layer is which. Without one, where the models differ in their number of layers,
    only the last hidden states have a partner, and router logits have none.

    Args:
        before, after: names of the outputs, as `growth.proof.outputs.forward` gives them.
        plan: how the one model grew into the other, if that is known.

    Example:
        >>> entries_of(["logits", "hidden_states.0", "hidden_states.1"], ["logits", *three_hidden_states], None)
        {'logits': 'logits', 'hidden_states.1': 'hidden_states.2'}
    """
    old, new = {name: name for name in before}, {name: name for name in after}
    if plan is not None:
        old, new = of_old_layers(old, plan, renumber=False), of_old_layers(new, plan)
        return {name: new[name] for name in old if name in new}
    counts, others = _counts(old), _counts(new)
    found: dict[str, str] = {}
    for name in old:
        base, number = _entry(name)
        if number is None or counts[base] == others.get(base):
            found |= {name: name} if name in new else {}
        elif "hidden_states" in base and number == counts[base] - 1 and base in others:
            found[name] = f"{base}.{others[base] - 1}"
    return found


def _entry(name: str) -> tuple[str, int | None]:
    """The output field and the number of an entry; None where the output is one tensor."""
    base, _, number = name.rpartition(".")
    return (base, int(number)) if number.isdigit() else (name, None)


def _counts(names: Mapping[str, str]) -> dict[str, int]:
    """Output field -> one more than the highest number of its entries."""
    counts: dict[str, int] = {}
    for base, number in map(_entry, names):
        if number is not None:
            counts[base] = max(counts.get(base, 0), number + 1)
    return counts
