"""What is asked of the inference for modules that nobody registered, and what is declared in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from growth.architectures import Architecture
from growth.hf.configs import Config
from growth.hf.own_inputs import OwnInputs
from growth.hf.own_modules import OwnWrapper
from growth.infer.infer import infer
from growth.training import own_models


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, type[OwnWrapper], OwnInputs]]:
    """What a declaration was asked for: config, class of the wrapper and inputs."""
    found: list[tuple[Any, type[OwnWrapper], OwnInputs]] = []

    def declare(raw: Mapping[str, Any], kind: type[OwnWrapper]) -> Architecture:
        found.append((Config(raw).parsed, kind, kind.inputs))
        return infer(raw, kind)

    monkeypatch.setattr(own_models, "infer", declare)
    return found


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[type, Architecture]:
    """Class -> its declaration, of those that a test declares; all else is inferred."""
    found: dict[type, Architecture] = {}
    monkeypatch.setattr(own_models, "infer", lambda raw, kind: found.get(kind.module_class) or infer(raw, kind))
    return found
