"""Config objects of any kind, read and changed field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from growth.errors import UnsupportedModelError
from growth.hf.configs import Config
from growth.hf.own_configs import changed, config_fields, own_wrapper_of


@dataclass
class Plain:
    dim: int = 8
    heads: int = 2
    betas: tuple[float, ...] = (0.9, 0.95)
    act: Any = torch.relu
    inner: int | None = None
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.inner = self.inner or 4 * self.dim
        self.size = self.dim // self.heads
        self.note = "set in __post_init__"


@dataclass(frozen=True)
class Frozen:
    dim: int = 8
    heads: int = 2


class Attributes:
    """A class that computes one attribute once and another each time."""

    kind = "a class attribute"

    def __init__(self, dim: int, heads: int) -> None:
        self.dim, self.heads, self._private = dim, heads, 1
        self.per_head = dim // heads

    @property
    def wide(self) -> int:
        return 4 * self.dim


class Tuple(NamedTuple):
    dim: int
    heads: int


@dataclass
class NotComparable:
    dim: int = 8
    heads: int = 2
    table: Any = field(default_factory=lambda: torch.arange(3))


KINDS: dict[str, Any] = {
    "a dataclass": Plain(),
    "a frozen dataclass": Frozen(),
    "a dataclass with a tensor": NotComparable(),
    "numbers of numpy": SimpleNamespace(dim=np.int64(8), heads=np.int32(2), original=3, to_own=4),
    "a namespace": SimpleNamespace(dim=8, heads=2, dtype=torch.float32, betas=(1, 2)),
    "a dictionary": {"dim": 8, "heads": 2, "act": torch.relu, 3: "a key that is no name"},
    "a mapping that cannot be changed": MappingProxyType({"dim": 8, "heads": 2}),
    "an object": Attributes(8, 2),
    "a named tuple": Tuple(8, 2),
    "a transformers config": LlamaConfig(dim=8, heads=2),
}


def value(config: Any, name: str) -> Any:
    return config[name] if isinstance(config, Mapping) else getattr(config, name)


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_an_object_of_the_same_kind_with_other_values(config: Any) -> None:
    fields = config_fields(config)
    assert fields["dim"] == 8 and fields["heads"] == 2 and "act" not in fields and "dtype" not in fields
    new = changed(config, {"dim": 16})
    assert value(new, "dim") == 16 and value(new, "heads") == 2 and value(config, "dim") == 8
    assert type(new) is (dict if isinstance(config, MappingProxyType) else type(config))
    wrapper = own_wrapper_of(config, f"own/{id(config)}", frozenset())
    assert type(wrapper().to_own()) is type(new) and value(wrapper().to_own(), "dim") == 8
    grown = wrapper(dim=24)
    assert grown.dim == 24 and value(grown.to_own(), "dim") == 24 and value(grown.to_own(), "heads") == 2
    assert wrapper.from_dict(grown.to_dict()).dim == 24


def test_what_a_dataclass_computes_is_computed_again() -> None:
    new = changed(Plain(), {"dim": 16})
    assert new.size == 8 and new.inner == 32 and new.act is torch.relu and new.note == Plain().note
    assert changed(Plain(), {"betas": [1, 2]}).betas == (1, 2)
    assert config_fields(Plain()) == {"dim": 8, "heads": 2, "betas": [0.9, 0.95], "inner": 32, "note": Plain().note}


def test_an_object_keeps_what_it_computed_once() -> None:
    new = changed(Attributes(8, 2), {"dim": 16})
    assert new.wide == 64 and new.per_head == 4 and config_fields(new)["per_head"] == 4


@pytest.mark.parametrize("config", [3, "text", None, Plain, object(), [1, 2]])
def test_what_has_no_fields(config: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="has no fields by name"):
        config_fields(config)


def test_an_object_that_refuses_a_value() -> None:
    class Fixed(SimpleNamespace):
        def __setattr__(self, name: str, new: Any) -> None:
            raise AttributeError("it is fixed")

    with pytest.raises(UnsupportedModelError, match="does not take dim=3"):
        changed(Fixed(dim=1), {"dim": 3})


def test_a_wrapper_keeps_what_the_caller_had() -> None:
    """The caller may change the object afterwards."""
    config = SimpleNamespace(dim=8)
    wrapper = own_wrapper_of(config, "own/kept", frozenset())
    config.dim = 9
    assert wrapper().dim == 8
    with pytest.raises(UnsupportedModelError):
        assert Config({"model_type": "own/kept"}).parsed  # it is not known under that name by itself
