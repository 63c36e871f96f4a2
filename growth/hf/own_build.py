"""How a module of the caller's is built from its config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from growth.errors import FOREIGN_ERRORS, UnsupportedModelError
from growth.hf.own_configs import all_fields, changed


@dataclass(frozen=True)
class Built:
    """How a module is built from its config: its class is called with it, or with its fields.

    Args:
        kind: the class.
        by_fields: whether the class takes the fields as keywords instead of the config.
    """

    kind: type[nn.Module]
    by_fields: bool = False

    def __call__(self, config: Any) -> nn.Module:
        return self.kind(**all_fields(config)) if self.by_fields else self.kind(config)


def builder(module: nn.Module, config: Any) -> Callable[[Any], nn.Module]:
    """How a module is built from its config: ``type(module)(config)``, or with the config's fields as
    keywords.

    Raises:
        UnsupportedModelError: if neither gives a module with its parameters.
    """
    kind = type(module)
    said = []
    for build in (Built(kind), Built(kind, by_fields=True)):
        try:
            wrong = difference(module, without_values(build, config))
        except FOREIGN_ERRORS as error:
            wrong = f"{type(error).__name__}: {str(error)[:150]}"
        if not wrong:
            return build
        said.append(f"{kind.__name__}({'**fields' if build.by_fields else 'config'}): {wrong}")
    raise UnsupportedModelError(
        f"this {kind.__name__} cannot be built from its config ({'; '.join(said)}). Say how: growth.widen(module, "
        "config=..., build=lambda config: ...)."
    )


def without_values(build: Callable[[Any], nn.Module], config: Any) -> nn.Module:
    """A module on the meta device; on the CPU, if its constructor reads the value of a tensor.
    Raises what the constructor does."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return build(changed(config, {}))
        except RuntimeError:
            return build(changed(config, {}))


def difference(module: nn.Module, built: nn.Module) -> str:
    """In what a module that was built from the config is not like the caller's; empty for nothing."""
    if type(built) is not type(module):
        return f"it makes a {type(built).__name__}"
    wanted, found = ({name: tuple(v.shape) for name, v in each.state_dict().items()} for each in (module, built))
    if lacking := next((name for name in wanted if name not in found), None):
        return f"it makes no '{lacking}'"
    if extra := next((name for name in found if name not in wanted), None):
        return f"it makes '{extra}', which this module has not"
    other = next((name for name, shape in wanted.items() if found[name] != shape), None)
    return "" if other is None else f"'{other}' has shape {list(found[other])}, not {list(wanted[other])}"
