"""The sizes of one model before growth: what they are, which of them can be chosen, and how the
others follow.

Example: the config of a GPT-2 holds ``n_embd`` and ``n_head``, and its class computes head_dim =
n_embd / n_head. hidden_size, heads and head_dim can each be chosen, but a combination in which
hidden_size is not heads * head_dim does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from growth.architectures.choosable import choosable_sizes, has_field
from growth.architectures.sizes import Size, Sizes
from growth.errors import IllegalShapeError, UnsupportedModelError


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of a model, and how they depend on each other.

    Args:
        table: the sizes by name, each after those it follows from.
        config: the parsed config.
        old: their values.
        written: the sizes that config.json writes down; the class derives the others.

    Example:
        >>> from transformers import GPT2Config
        >>> from growth import architectures
        >>> config = GPT2Config(n_embd=96, n_head=6)
        >>> gpt2 = architectures.find("gpt2").at(config)
        >>> model = ModelSizes(gpt2.sizes, config, gpt2.read_sizes(config))
        >>> list(model.choosable)
        ['hidden_size', 'intermediate_size', 'num_attention_heads', 'head_dim']
        >>> model.completed({"hidden_size": 128, "num_attention_heads": 8})["head_dim"]
        16
        >>> model.misfit({"hidden_size": 120, "num_attention_heads": 8})
        'head_dim would shrink from 16 to 15.'
    """

    table: Mapping[str, Size]
    config: Any
    old: Sizes
    written: frozenset[str] = frozenset()

    @cached_property
    def choosable(self) -> dict[str, Size]:
        """The sizes that can be chosen (`choosable_sizes`)."""
        return choosable_sizes(self.table, self.config)

    @cached_property
    def always_derived(self) -> frozenset[str]:
        """The sizes for which the config has no field: a value chosen for one of these has to be
        the one that follows."""
        return frozenset(
            name for name, size in self.table.items() if size.follows is not None and not has_field(self.config, size)
        )

    def completed(self, picked: Mapping[str, int | None]) -> dict[str, int]:
        """All sizes, of which some are picked.

        Args:
            picked: size name -> its value, None to derive it; names left out are derived as well.

        Raises:
            IllegalShapeError: if a division leaves a remainder, a picked value is not the one that
                follows, a size would shrink or none would grow.
        """
        sizes: dict[str, int] = {}
        for name in self.table:
            value = picked.get(name)
            if value is None or name in self.always_derived:
                derived = self._derived(name, sizes)
                if value not in (None, derived):
                    raise IllegalShapeError(f"{name} {value} does not fit: it follows from the others as {derived}.")
                value = derived
            sizes[name] = value
        for name, value in sizes.items():
            if value < self.old[name]:
                raise IllegalShapeError(f"{name} would shrink from {self.old[name]} to {value}.")
        if sizes == self.old:
            raise IllegalShapeError("nothing would grow.")
        return sizes

    def misfit(self, picked: Mapping[str, int | None]) -> str:
        """Why some sizes do not fit together (`completed`); empty if they do."""
        try:
            self.completed(picked)
            return ""
        except IllegalShapeError as error:
            return str(error)

    def is_as_derived(self, sizes: Sizes, name: str) -> bool:
        """Whether a size has the value that it would have if the config did not say it."""
        try:
            return self.table[name].follows is not None and self._derived(name, sizes) == sizes[name]
        except IllegalShapeError:
            return False

    def _derived(self, name: str, sizes: Sizes) -> int:
        follows = self.table[name].follows
        if follows is None:
            raise IllegalShapeError(f"{name} does not follow from other sizes.")
        try:
            return follows(self.config, sizes)
        except UnsupportedModelError as error:
            raise IllegalShapeError(str(error).removesuffix(" Check config.json.")) from error
