"""The interface others rely on, written down: public names, signatures, and the options of
``grow``. Change it here too, on purpose."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import fields
from typing import Any, Unpack, get_type_hints

import click
import pytest

import growth
from growth import architectures
from growth.cli.main import grow as command
from growth.plan.choices import CHOICES, Choices
from growth.plan.options import Options
from growth.planner.advice import Advice, Candidate

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
    "infer_declaration",
    "plan_widening",
    "register",
    "training",
    "widen",
    "widen_checkpoint",
]

KEYWORDS = (
    "width=None, hidden_size=None, intermediate_size=None, heads=None, kv_heads=None, head_dim=None, layers=None, "
    "experts=None, experts_per_token=None, expert_size=None, insert='stack', new_layers='silent', untie=False, "
    "sizes=None, like=None, keep=(), attention='heads', rope='slots', scaling='unit', "
    "last_hidden_state='divided', symmetry='auto', noise=None, seed=0, lossy=False, towers=(), vouch=()"
)
"""What the first three take besides, each of them optional."""

SIGNATURES = {
    "plan_widening": f"(source, *, config=None, build=None, inputs=None, {KEYWORDS})",
    "infer_declaration": "(source, *, towers=('text',), config=None, build=None, inputs=None)",
    "widen": "(model, *, optimizer=None, scheduler=None, moments='preserve', hyper='preserve', allow_nonfinite=False, "
    f"verify_inputs=None, config=None, build=None, inputs=None, shard=None, {KEYWORDS})",
    "widen_checkpoint": (
        "(src, dst, *, config=None, optimizer=False, moments='preserve', hyper='keep', dtype=None, "
        "max_shard_size='5GB', overwrite=False, resume=False, jobs=None, group=None, allow_nonfinite=False, "
        f"device='cpu', progress=None, {KEYWORDS})"
    ),
    "check_equivalence": "(a, b, *, text=None, tokens=512, device=None, dtype=None, plan=None, step=None)",
}

TRAINING = {
    "advise": "(small_log, large_log=None, *, grown_log=None, grown_at=None, budget_tokens=None, budget_flops=None, "
    "cost_ratio=None, "
    "small_config=None, large_config=None, axis=None, small_is_free=False, tokens_per_step=None, context=None)",
    "staged": "(model, optimizer, step, stages, steps, *, start=0, scheduler=None, moments='preserve', "
    f"hyper='preserve', {KEYWORDS})",
    "resume": "(model, optimizer, state, scheduler=None)",
    "parameter_groups": "(model, checkpoint)",
    "fresh_warmup": "(grown, steps, rate=1.0)",
    "clip_factor": "(grown, gradients)",
    "new_coordinates": "(model, plan=None)",
    "train_new_only": "(model, plan=None)",
}
ADVICE = [
    "verdict",
    "recommendation",
    "candidates",
    "curves",
    "logs",
    "costs",
    "budget",
    "free",
    "trial",
    "grown_at",
    "notes",
]
CANDIDATE = ["kind", "model", "share", "small_tokens", "large_tokens", "loss", "advantage", "behind", "best"]
GROWN = ["model", "plan", "proof", "optimizer", "scheduler", "uneven", "born"]

OPTIONS_OF_GROWTH = [
    "--width None",
    "--hidden-size None",
    "--intermediate-size None",
    "--heads None",
    "--kv-heads None",
    "--head-dim None",
    "--layers None",
    "--experts None",
    "--experts-per-token None",
    "--expert-size None",
    "--insert stack",
    "--new-layers silent (silent, copied)",
    "--untie",
    "--size ...",
    "--like None",
    "--keep ...",
    "--attention heads (heads, head-dim)",
    "--rope slots (slots, pairs)",
    "--scaling unit (unit, orthogonal)",
    "--last-hidden-state divided (divided, equal)",
    "--symmetry auto",
    "--noise None",
    "--seed 0",
    "--lossy",
    "--towers ...",
    "--vouch ...",
]
OPTIONS = {
    "plan": ["SRC", *OPTIONS_OF_GROWTH, "--config None", "-v/--verbose", "--json"],
    "widen": [
        "SRC",
        "DST",
        *OPTIONS_OF_GROWTH,
        "--config None",
        "--optimizer",
        "--moments preserve (preserve, fresh, reset)",
        "--hyper keep (keep, preserve)",
        "--dtype None (float64, float32, float16, bfloat16)",
        "--max-shard-size 5GB",
        "--overwrite",
        "--resume",
        "--jobs None",
        "--allow-nonfinite",
        "--device cpu",
        "--json",
    ],
    "advise": [
        "SMALL_LOG",
        "--large-log ...",
        "--small-config None",
        "--large-config ...",
        "--cost-ratio ...",
        "--axis None (width, depth, both, experts)",
        "--grown-log None",
        "--grown-at None",
        "--budget-tokens None",
        "--budget-flops None",
        "--small-is-free",
        "--tokens-per-step None",
        "--context None",
        "--plot None",
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
    "architectures": ["NAME", "--json", "--markdown", "--python"],
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
    assert [field.name for field in fields(Advice)] == ADVICE
    assert [field.name for field in fields(Candidate)] == [*CANDIDATE, "gap_closure", "break_even", "drawn"]
    assert bare_signature(growth.Grown.new_coordinates) == "(self)"
    for name in ("plan_widening", "widen", "widen_checkpoint"):
        assert get_type_hints(getattr(growth, name))["choices"] == Unpack[Choices]
    assert {
        name: [described(parameter) for parameter in found.params] for name, found in command.commands.items()
    } == OPTIONS
    assert sorted(error.__name__ for error in growth.GrowthError.__subclasses__()) == ERRORS


def test_the_choices_are_stated_once() -> None:
    """What type checkers read, what is kept, and what the command line offers are the table's."""
    assert [*Choices.__annotations__] == [*CHOICES] and Choices.__optional_keys__ == CHOICES.keys()
    sizes = {name for name, choice in CHOICES.items() if choice.size}
    assert {field.name for field in fields(Options)} == CHOICES.keys() - sizes - {"noise"}
    valued = ("attention", "rope", "scaling", "last_hidden_state", "symmetry", "seed", "lossy")
    assert {name: getattr(Options(), name) for name in valued} == {name: CHOICES[name].default for name in valued}
    for name in ("plan", "widen"):
        options = {option.name: option for option in command.commands[name].params}
        assert [option for option in options if option in CHOICES] == [*CHOICES]
        assert all(options[choice].help == CHOICES[choice].help for choice in CHOICES)  # type: ignore[attr-defined]
    for function in (growth.plan_widening, growth.widen, growth.widen_checkpoint, growth.training.staged):
        shown = " ".join(inspect.getdoc(function).split())  # type: ignore[union-attr]
        assert all(f"{choice.name}: {choice.help}" in shown for choice in CHOICES.values())


def test_a_keyword_beside_the_table_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Choices.__annotations__, "depth", int)
    with pytest.raises(AssertionError):
        test_the_choices_are_stated_once()


def test_names_are_found_where_they_are_said_to_be() -> None:
    with pytest.raises(AttributeError, match="no attribute 'shrink'"):
        _ = growth.shrink
    assert growth.Plan is importlib.import_module("growth.plan").Plan


DECLARING = """
ALIBI_ATTENDED ALIBI_HEADS ALIBI_QKV ALIBI_VALUES ATTENDED Alibi Architecture Asked Axis BRANCH Constant Copied
Dual EVERY_GROWTH EXPERT EXPERT_LAWS FFN FFN_LAWS FINAL FIXED_EPSILON FIXED_FREQUENCIES Fixed FixedSize
Frequencies Gain Growth HEADS HEAD_BY_HEAD HEAD_LAWS IllegalGrowthError IllegalShapeError InSection Interleaved
Isometric KEY KEYS KEY_PASS KEY_ROTARY KV_HEADS Keeps Law LayerNorm Linear MASKED_HEADS Map Minus NORMED
Normalised Over PARTIAL_KEY PARTIAL_QUERY POOLED Picks Plus Power Product QUERIES QUERIES_PER_KV QUERY
QUERY_PASS QUERY_ROTARY RAW_HEADS RAW_KEY RAW_KV_HEADS RAW_QUERIES_PER_KV RAW_QUERY RESIDUAL RMSNorm
ROTARY_SCALING Reads Refusal Role Rule SHARED Scale Scaled Scores Sinusoids Size Sizes SmallInSection Space
TRANSFORM Times TwinContext TwinFields UnitLength UnsupportedModelError VALUE VALUES Variant Writes alibi_laws
as_python attention attention_laws attention_scale clamped_attention conv1d convolution embedding experts
feed_forward find keeps_frequencies known linear mlm_transform no_scale norm quotient raw_laws rotary_sizes
shared_epsilon small_head_dim stack_sizes standard_sizes tower tower_constant under within
"""
"""The vocabulary for declaring a family. A name that goes or changes breaks declarations outside this
repository."""


def test_the_vocabulary_for_declaring() -> None:
    assert sorted(architectures.__all__) == DECLARING.split()
    groups = str(architectures.__doc__).split("The vocabulary:")[1].split("`growth.architectures.families` holds")[0]
    assert sorted(re.findall(r"`(\w+)`", groups.replace("``", ""))) == DECLARING.split()
