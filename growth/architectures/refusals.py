"""What a declaration refuses, as data.

Where no exact growth exists, a law or a rule raises: the message says which tensor, which sizes and
what to do instead. A `Refusal` says the same of the family as a whole, before anything is grown, for
the table of architectures and for tests: ``tests/architectures/test_refusals.py`` holds that a growth
is refused if and only if a `Refusal` of its declaration applies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from growth.architectures.sizes import value_at
from growth.rules.rotary import keeps_frequencies

NEGLIGIBLE_EPSILON = 1e-12
"""A norm's epsilon that may be off by a factor: BERT's, beside which the variances of activations
are large. That is not certain, so a plan that relies on it says so (`growth.plan.norm_epsilon`)."""


@dataclass(frozen=True)
class Asked:
    """A growth, as far as a refusal depends on it.

    Args:
        config: the parsed config of the small model.
        model_class: name of its class.
        attention: ``heads`` or ``head-dim``.
        scaling: ``unit`` or ``orthogonal``.
        rope: ``slots`` or ``pairs``.
        width: new over old hidden_size.
        grown: names of the sizes that are asked for one by one, and grow.
    """

    config: Any
    model_class: str
    attention: str = "heads"
    scaling: str = "unit"
    rope: str = "slots"
    width: float = 2.0
    grown: frozenset[str] = frozenset()

    @property
    def wider_heads(self) -> bool:
        """Whether heads grow in width, not in number."""
        return self.attention == "head-dim"

    @property
    def orthogonal(self) -> bool:
        """Whether copies keep the length of vectors."""
        return self.scaling == "orthogonal"


@dataclass(frozen=True)
class Refusal:
    """Growths that a declaration refuses for a mathematical reason.

    Args:
        what: which growths, in the words of the options.
        why: why none of them is exact.
        applies: whether a growth is one of them.

    Example:
        >>> refusal = Refusal("orthogonal", "epsilon is fixed", lambda asked: asked.orthogonal)
        >>> str(refusal)
        'orthogonal (epsilon is fixed)'
        >>> refusal.applies(Asked(config=None, model_class="", scaling="unit"))
        False
    """

    what: str
    why: str
    applies: Callable[[Asked], bool]

    def __str__(self) -> str:
        return f"{self.what} ({self.why})"

    def unless(self, condition: str, holds: Callable[[Asked], bool]) -> Refusal:
        """The same refusal with an exception.

        Example:
            >>> str(FIXED_EPSILON.unless("there is no norm", lambda asked: False))
            "orthogonal, unless there is no norm (the code fixes the norms' epsilon)"
        """
        word = " or " if ", unless " in self.what else ", unless "
        return replace(
            self, what=f"{self.what}{word}{condition}", applies=lambda asked: self.applies(asked) and not holds(asked)
        )


def _ropes(config: Any) -> list[Mapping[str, Any]]:
    """The rotary parameters of a config, once per kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    return [*parameters.values()] if _by_kind(parameters) else [parameters]


def _by_kind(parameters: Mapping[str, Any]) -> bool:
    return bool(parameters) and all(isinstance(value, Mapping) for value in parameters.values())


ROTARY_SCALING = Refusal(
    "head-dim under dynamic rotary scaling, or yarn unless `truncate` is false",
    "the frequencies depend on head_dim",
    lambda asked: asked.wider_heads and not all(map(keeps_frequencies, _ropes(asked.config))),
)

FIXED_FREQUENCIES = Refusal(
    "head-dim with pairs",
    "the code fixes the rotary frequencies",
    lambda asked: asked.wider_heads and asked.rope == "pairs",
)

FIXED_EPSILON = Refusal("orthogonal", "the code fixes the norms' epsilon", lambda asked: asked.orthogonal)

EVERY_GROWTH = Refusal(
    "every growth", "sinusoids that depend on the width are added to the residual stream", lambda asked: True
)


MASKED_HEADS = ("ForMaskedLM", "ForPreTraining", "LMHeadModel", "ForCausalLM")
"""How the names of classes end that have BERT's transform before the head."""


def shared_epsilon(head: str, classes: tuple[str, ...], field: str = "layer_norm_eps") -> Refusal:
    """The refusal of a family whose config has one epsilon for two norms that need different ones.

    Orthogonal copies change the energy of the residual stream, and so its norm's epsilon. The
    transform in a head passes through an elementwise function, so its copies stay at scale 1 and
    the norm behind it keeps its epsilon.

    Args:
        head: the head with a transform, as the table calls it.
        classes: how the names of the model classes end that have it.
        field: config field of the epsilon.
    """

    refusal = Refusal(
        f"orthogonal with {head}",
        "two norms share it and need two values",
        lambda asked: asked.orthogonal and asked.model_class.endswith(classes),
    )
    return refusal.unless(
        f"{field} is negligible", lambda asked: bool(value_at(asked.config, field) <= NEGLIGIBLE_EPSILON)
    )


def clamped_attention(field: str) -> Refusal:
    """The refusal of a family that clamps queries and keys where a config field says so."""
    return Refusal(
        "head-dim under clip_qkv",
        "wider heads need queries and keys beyond it",
        lambda asked: asked.wider_heads and value_at(asked.config, field) is not None,
    )
