"""The interface others rely on, written down: public names, signatures, and the options of
``grow``. Change it here too, on purpose."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields
from typing import Any, Unpack, get_type_hints

import click
import pytest

import growth
from growth.cli.main import grow as command
from growth.plan.options import Choices

PUBLIC = [
    "Architecture",
    "CheckpointError",
    "EquivalenceReport",
    "Grown",
    "GrowthError",
    "IllegalGrowthError",
    "Plan",
    "ProofError",
    "UnsupportedModelError",
    "WidenedCheckpoint",
    "__version__",
    "check_equivalence",
    "plan_widening",
    "register",
    "training",
    "widen",
    "widen_checkpoint",
]

SIGNATURES = {
    "plan_widening": "(source, **choices)",
    "widen": "(model, *, optimizer=None, scheduler=None, moments='preserve', hyper='preserve', allow_nonfinite=False, "
    "**choices)",
    "widen_checkpoint": (
        "(src, dst, *, optimizer=False, moments='preserve', dtype=None, max_shard_size='5GB', overwrite=False, "
        "allow_nonfinite=False, "
        "device='cpu', progress=None, **choices)"
    ),
    "check_equivalence": "(a, b, *, text=None, tokens=512, device=None, dtype=None, plan=None, step=None)",
}

TRAINING = {
    "staged": "(model, optimizer, step, stages, steps, *, start=0, scheduler=None, moments='preserve', "
    "hyper='preserve', **common)",
    "resume": "(model, optimizer, state, scheduler=None)",
    "fresh_warmup": "(grown, steps)",
    "clip_factor": "(grown, gradients)",
}
GROWN = ["model", "plan", "proof", "optimizer", "scheduler", "uneven", "born"]

KEYWORDS = [
    *("width", "hidden_size", "intermediate_size", "heads", "kv_heads", "head_dim", "sizes", "like"),
    *("attention", "rope", "scaling", "symmetry", "noise", "seed", "lossy", "vouch"),
]
"""What the first three take besides, each of them optional."""

CHOICES = [
    "--width None",
    "--hidden-size None",
    "--intermediate-size None",
    "--heads None",
    "--kv-heads None",
    "--head-dim None",
    "--size ...",
    "--like None",
    "--attention heads (heads, head-dim)",
    "--rope slots (slots, pairs)",
    "--scaling unit (unit, orthogonal)",
    "--symmetry none",
    "--noise 0.0",
    "--seed 0",
    "--lossy",
    "--vouch ...",
]
OPTIONS = {
    "plan": ["SRC", *CHOICES, "-v/--verbose", "--json"],
    "widen": [
        "SRC",
        "DST",
        *CHOICES,
        "--optimizer",
        "--moments preserve (preserve, fresh, reset)",
        "--dtype None (float64, float32, float16, bfloat16)",
        "--max-shard-size 5GB",
        "--overwrite",
        "--allow-nonfinite",
        "--device cpu",
        "--json",
    ],
    "verify": [
        "SRC",
        "DST",
        "--text None",
        "--tokens 512",
        "--device None",
        "--dtype None (float64, float32, float16, bfloat16)",
        "--json",
    ],
    "architectures": ["NAME", "--json", "--markdown"],
    "demo": ["--keep None"],
}

ERRORS = ["CheckpointError", "IllegalGrowthError", "ProofError", "UnsupportedModelError"]


def described(parameter: click.Parameter) -> str:
    if not isinstance(parameter, click.Option):
        return str(parameter.name).upper()
    name = "/".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return name
    if parameter.multiple:
        return f"{name} ..."
    default = parameter.default if isinstance(parameter.default, (str, int, float)) else None
    choices = f" ({', '.join(parameter.type.choices)})" if isinstance(parameter.type, click.Choice) else ""
    return f"{name} {default}{choices}"


def bare_signature(function: Any) -> str:
    """A signature without annotations."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def test_frozen() -> None:
    assert sorted(growth.__all__) == PUBLIC == dir(growth)
    assert all(hasattr(growth, name) for name in PUBLIC)
    assert {name: bare_signature(getattr(growth, name)) for name in SIGNATURES} == SIGNATURES
    assert {name: bare_signature(getattr(growth.training, name)) for name in TRAINING} == TRAINING
    assert [field.name for field in fields(growth.Grown)] == GROWN
    assert [*Choices.__annotations__] == KEYWORDS and Choices.__optional_keys__ == {*KEYWORDS}
    for name in ("plan_widening", "widen", "widen_checkpoint"):
        assert get_type_hints(getattr(growth, name))["choices"] == Unpack[Choices]
    assert {
        name: [described(parameter) for parameter in found.params] for name, found in command.commands.items()
    } == OPTIONS
    assert sorted(error.__name__ for error in growth.GrowthError.__subclasses__()) == ERRORS


def test_names_are_found_where_they_are_said_to_be() -> None:
    with pytest.raises(AttributeError, match="no attribute 'shrink'"):
        _ = growth.shrink
    assert growth.Plan is importlib.import_module("growth.plan").Plan
