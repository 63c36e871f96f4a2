"""The errors a user can meet. Each message is one sentence that says what, with which values and why, and then the next step."""

from __future__ import annotations


class GrowthError(Exception):
    """Base of every error this library raises on purpose."""


class UnsupportedModelError(GrowthError):
    """A model type, a config field or a tensor that no declaration vouches for."""


class IllegalGrowthError(GrowthError):
    """Sizes or choices that no law of the architecture allows."""


class CheckpointError(GrowthError):
    """A source that cannot be read whole, or a destination that cannot be written whole."""


class ProofError(GrowthError):
    """A growth that was computed but is not exact. Nothing was kept."""
