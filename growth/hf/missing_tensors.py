"""Why a tensor that a class expects is not in the weights: the sentence of the refusal.

"Check 'architectures'" is said only where the head alone is missing. The other reasons can be told
from the names that are there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from growth.errors import FOREIGN_ERRORS
from growth.hf.configs import config_to_build


@dataclass(frozen=True)
class Absence:
    """Tensors that are not where the class expects them.

    Args:
        raw: the config as JSON.
        model_class: the class it names.
        expected: name -> shape, of the tensors of the class.
        names: of the tensors in the weights.
        missing: those of ``expected`` that the weights lack; at least one.
        canonical: how the family spells a name without its base model's prefix.
        tied: parsed config -> tied tensors of the class, name -> the name it shares its values with.
    """

    raw: Mapping[str, Any]
    model_class: type[PreTrainedModel]
    expected: Mapping[str, tuple[int, ...]]
    names: Sequence[str]
    missing: Sequence[str]
    canonical: Callable[[str], str]
    tied: Callable[[PreTrainedConfig], Mapping[str, str]]

    def sentence(self) -> str:
        """What is missing, why, and the next step."""
        reasons = (self._wrapped, self._of_another_class, self._tied, self._biases, self._layers, self._head)
        return next(filter(None, (reason() for reason in reasons)), "") or (
            f"{self._said()}. Fetch the checkpoint again: its weights are not whole."
        )

    def _said(self) -> str:
        more = f" (and {len(self.missing) - 1} more)" if len(self.missing) > 1 else ""
        return f"tensor '{self.missing[0]}' of {self.model_class.__name__} is missing{more}"

    @property
    def _unknown(self) -> list[str]:
        """Names in the weights that are not of the class."""
        own = {self.canonical(name) for name in self.expected}
        return [name for name in self.names if self.canonical(name) not in own]

    def _wrapped(self) -> str:
        known = {name.partition(".")[0] for name in self.expected} | {self.model_class.base_model_prefix}
        firsts = Counter(name.partition(".")[0] for name in self.names)
        first, count = firsts.most_common(1)[0] if firsts else ("", 0)
        bare = {self.canonical(name.removeprefix(f"{first}.")) for name in self.names}
        own = {self.canonical(name) for name in self.expected}
        rest = [name for name in self.names if self.canonical(name.removeprefix(f"{first}.")) not in own]
        misfits = [f"'{name}' is no tensor of it" for name in rest] + [f"'{name}' is missing" for name in own - bare]
        half = 2 * count > len(self.names) and 2 * len(bare & own) > len(own)
        if first in known or not half or not misfits:
            return ""
        return (
            f"{count} of {len(self.names)} tensor names begin with '{first}.', which a wrapper has put before those "
            f"of {self.model_class.__name__}, and without it not every tensor fits: {misfits[0]}. Save the state dict "
            "of the model inside the wrapper, without parameters of the wrapper's own."
        )

    def _of_another_class(self) -> str:
        here, unknown = len(self.expected) - len(self.missing), self._unknown
        if 2 * here >= len(self.expected) or not unknown:
            return ""
        return (
            f"{self._said()}: of its {len(self.expected)} tensors {here} are there, and others that it does not have, "
            f"such as '{unknown[0]}'. Check that model_type and 'architectures' in the config are those of these "
            "weights."
        )

    def _tied(self) -> str:
        config = config_to_build(self.raw)
        if getattr(config.get_text_config(), "tie_word_embeddings", True):
            return ""
        for section in {id(part): part for part in (config, config.get_text_config())}.values():
            section.tie_word_embeddings = True
        try:
            ties = self.tied(config)
        except FOREIGN_ERRORS:
            return ""
        present = {self.canonical(name) for name in self.names}
        if not all(self.canonical(ties.get(name, name)) in present for name in self.missing):
            return ""
        said = "says" if self.raw.get("tie_word_embeddings") is False else "means, since it does not say,"
        return (
            f"{self._said()}, as in a model that ties it to '{ties[self.missing[0]]}', but the config {said} "
            '"tie_word_embeddings": false. If it was trained with the two tied, set that to true in config.json.'
        )

    def _biases(self) -> str:
        present = {self.canonical(name) for name in self.names}
        weights = [self.canonical(re.sub(r"\.bias$", ".weight", name)) for name in self.missing]
        if not all(name.endswith(".bias") for name in self.missing) or not present.issuperset(weights):
            return ""
        asked = [
            name for name, value in config_to_build(self.raw).to_dict().items() if "bias" in name and value is True
        ]
        asks = f" ({', '.join(asked)})" if asked else ""
        return (
            f"{self._said()}, though its weight is there. If the model was trained without it, add it to the weights "
            f"as zeros of shape {list(self.expected[self.missing[0]])}, or correct the config if it should not ask "
            f"for it{asks}."
        )

    def _layers(self) -> str:
        held = highest(self.canonical(name) for name in self.names)
        beyond = [place for name in self.missing if (place := uncounted(self.canonical(name), held)) is not None]
        if len(beyond) < len(self.missing):
            return ""
        stack, _ = beyond[0]
        word = "expert" if "expert" in stack else "layer"
        fields = [f for f, value in counts_of(word, config_to_build(self.raw)) if value > held[stack] + 1]
        counts = f" ({', '.join(fields)})" if fields else ""
        return (
            f"{self._said()}: the weights end with '{stack}.{held[stack]}', and the config counts more{counts}. "
            "Check that number in config.json, or fetch the checkpoint again."
        )

    def _head(self) -> str:
        base = f"{self.model_class.base_model_prefix}."
        if any(name.startswith(base) for name in self.missing) or not any(n.startswith(base) for n in self.expected):
            return ""
        return f"{self._said()}. Check that 'architectures' in the config names the class that was saved."


def counts_of(word: str, config: PreTrainedConfig) -> Iterator[tuple[str, int]]:
    """(Field, value) of the numbers in a config that may count layers, or experts, those of its sections
    too; the likeliest first.

    Example:
        >>> list(counts_of("layer", GPT2Config(n_layer=3)))
        [('n_layer', 3)]
    """
    sections = [config, *(part for name in config.sub_configs if (part := getattr(config, name, None)) is not None)]
    found = [
        (field, value)
        for section in sections
        for field, value in section.to_dict().items()
        if word in field and type(value) is int
    ]
    yield from sorted(found, key=lambda pair: not pair[0].startswith(("num", "n_")))


def highest(names: Iterator[str] | Collection[str]) -> dict[str, int]:
    """Name of a numbered list of modules -> its highest number.

    Example:
        >>> highest(["layers.0.up.weight", "layers.3.up.weight", "norm.weight"])
        {'layers': 3}
    """
    found: dict[str, int] = {}
    for name in names:
        for stack, number in _numbers(name):
            found[stack] = max(number, found.get(stack, 0))
    return found


def uncounted(name: str, held: Mapping[str, int]) -> tuple[str, int] | None:
    """The numbered list, and the number in it, by which a name is beyond those that are ``held``; None
    for a name that is not.

    Example:
        >>> uncounted("layers.4.up.weight", {"layers": 3}), uncounted("heads.0.weight", {"layers": 3})
        (('layers', 4), None)
    """
    return next(((stack, number) for stack, number in _numbers(name) if number > held.get(stack, number)), None)


def _numbers(name: str) -> Iterator[tuple[str, int]]:
    """The numbered lists in a name, with the numbers before them as ``*``, and the numbers."""
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdecimal():
            yield ".".join("*" if before.isdecimal() else before for before in parts[:place]), int(part)
