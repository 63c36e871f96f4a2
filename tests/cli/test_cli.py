"""The ``grow`` command: its help, what wrong usage and refusals return, and what it prints of plans
and architectures."""

from __future__ import annotations

import json
import resource
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import growth
from growth import architectures
from growth.cli.choices import as_typed
from growth.cli.main import grow as command
from growth.plan.choices import CHOICES
from support.command import GROW, Grow, config_of, grow, run, small
from support.refusals import snapshot

__all__ = ["grow", "small"]  # fixtures


@pytest.mark.parametrize("arguments", [("--help",), ("widen", "--help"), ("--version",)], ids=" ".join)
def test_help_is_quick(arguments: tuple[str, ...]) -> None:
    """In seconds of the processor, which other processes do not lengthen: torch alone takes two."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.code == 0 and result.err == ""
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    assert growth.__version__ in result.out if arguments == ("--version",) else "Usage: grow" in result.out


def test_help_names_every_command_and_exit_code(grow: Grow) -> None:
    text = grow("-h").out
    assert all(name in text for name in command.commands)
    assert "0 done, 1 refused or not equal, 2 wrong usage" in " ".join(text.split())
    for name in command.commands:
        assert f"grow {name} " in grow(name, "--help").out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("frobnicate",), "No such command 'frobnicate'"),
        (("plan",), "Missing argument 'SRC'"),
        (("widen", "small"), "Missing argument 'DST'"),
        (("widen", "small", "wide", "--sideways"), "No such option"),
        (("widen", "small", "wide", "--num-layers", "4"), "no such option: --num-layers. Did you mean --layers?"),
        (("plan", "small", "--num-attention-heads", "8"), "--num-attention-heads. Did you mean --heads?"),
        *(
            (
                ("widen", "small", "wide", "--width", width),
                f"width must be a number above 1 and at most 1024, not '{width}'. Use 2 to double",
            )
            for width in ("0", "1", "-1", "x", "1/0", "nan", "1e400", "1025")
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_exits_2(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.code == 2 and result.out == ""
    assert says in result.err and "Traceback" not in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--width", "0.5"),
        ("--hidden-size", "0"),
        ("--intermediate-size", "1.5"),
        ("--heads", "-4"),
        ("--kv-heads", "few"),
        ("--head-dim", ""),
        ("--size", "hidden_size"),
        ("--size", "=48"),
        ("--size", "hidden_size=wide"),
        ("--symmetry", "loud"),
        ("--symmetry", "noise:9"),
        ("--symmetry", "split:1/1"),
        ("--noise", "-1"),
        ("--noise", "nan"),
        ("--noise", "loud"),
        ("--seed", "x"),
        ("--seed", str(2**80)),
        ("--size", "num_hidden_layers=few"),
        ("--attention", "tails"),
        ("--rope", "x"),
        ("--scaling", "x"),
    ],
)
def test_wrong_choice_exits_2(grow: Grow, option: str, value: str, small: Path, tmp_path: Path) -> None:
    for result in (grow("plan", small, option, value), grow("widen", small, tmp_path / "wide", option, value)):
        assert result.code == 2 and result.out == "" and f"Invalid value for '{option}'" in result.err
    assert not list(tmp_path.iterdir())


def test_no_arguments_show_the_help(grow: Grow) -> None:
    result = grow()
    assert result.code == 2 and "Usage: " in result.err and all(name in result.err for name in command.commands)


def test_missing_folder_exits_1_with_one_line(tmp_path: Path) -> None:
    result = run("widen", tmp_path / "gone", tmp_path / "wide")
    assert (
        result.complaint
        == f"grow: no such folder: {tmp_path}/gone. Name a folder that holds config.json, or a hub id such as "
        "'org/model'."
    )
    assert result.out == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["plan", "widen", "verify"])
def test_every_command_refuses_in_one_line(grow: Grow, name: str, small: Path, tmp_path: Path) -> None:
    result = grow(name, tmp_path / "gone", *([] if name == "plan" else [tmp_path / "wide"]))
    assert "no such folder" in result.complaint and result.out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--device", "nope"), "nope"),
        (("--device", "cuda:99"), "cuda:99"),
        (("--max-shard-size", "0"), "'0'"),
        (("--max-shard-size", "big"), "'big'"),
        (("--max-shard-size", "5"), "has no unit, so it is 5 bytes. Say '5GB'"),
    ],
)
def test_widen_refuses_in_one_line(
    grow: Grow, arguments: tuple[str, ...], says: str, small: Path, tmp_path: Path
) -> None:
    assert says in grow("widen", small, tmp_path / "wide", *arguments).complaint
    assert not list(tmp_path.iterdir())


def test_refusal_says_how_to_vouch(grow: Grow, small: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source"))
    (source / "config.json").write_text(json.dumps({**config_of(small), "residual_multiplier": 2.0}))
    assert "add --vouch residual_multiplier" in grow("plan", source).complaint
    assert grow("plan", source, "--vouch", "residual_multiplier").code == 0
    assert grow("widen", source, tmp_path / "wide", "--vouch", "residual_multiplier").code == 0


def test_plan_shows_spaces_sizes_and_config(grow: Grow, small: Path) -> None:
    result = grow("plan", small, "--width", "3")
    assert result.code == 0 and result.err == ""
    assert result.out.startswith(
        "LlamaForCausalLM, width 3, attention heads, symmetry noise:2 (seed 0), scaling unit\n"
    )
    assert "\nhidden_size           24   72  x3\n" in result.out
    rows = [line.split() for line in result.out.splitlines()]
    assert ["residual", "24", "72", "RMS", "norm"] in rows and ["ffn", "40", "120", "copied"] in [
        row[:4] for row in rows
    ]
    assert "hidden_size 24 -> 72" in result.out and "intermediate_size 40 -> 120" in result.out
    assert (
        "num_attention_heads 4 -> 12; num_hidden_layers" not in result.out
        and "num_key_value_heads 2 -> 6" in result.out
    )
    assert "21 tensors, 12,216 -> " in result.out
    assert "train as one" not in result.out
    assert "model.layers.0" not in result.out


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_plan_lists_every_tensor(grow: Grow, option: str, small: Path) -> None:
    tensors = load_file(small / "model.safetensors")
    listed = {line.split()[0]: line.split()[1:3] for line in grow("plan", small, option).out.splitlines() if line}
    assert set(tensors) <= set(listed)
    for name, tensor in tensors.items():
        assert listed[name][0] == "x".join(map(str, tensor.shape))
    assert listed["model.layers.1.self_attn.k_proj.weight"] == ["12x24", "24x48"]
    assert listed["model.norm.weight"] == ["24", "48"]


def test_plan_as_json(grow: Grow, small: Path) -> None:
    plan = grow("plan", small, "--json", "--attention", "head-dim", "--noise", "1", "--seed", "7").json
    assert set(plan) >= {
        "model_type",
        "model_class",
        "options",
        "sizes",
        "why",
        "spaces",
        "config_changes",
        "bytes",
        "parameters",
        "tensors",
        "notes",
    }
    assert plan["model_type"] == "llama" and plan["model_class"] == "LlamaForCausalLM"
    assert plan["options"] == {
        "width": 2,
        "attention": "head-dim",
        "rope": "slots",
        "scaling": "unit",
        "last_hidden_state": "divided",
        "symmetry": "noise:1",
        "seed": 7,
        "lossy": False,
        "vouch": [],
        "insert": "stack",
        "new_layers": "silent",
        "untie": False,
        "sizes": {},
        "like": {},
        "towers": [],
        "keep": [],
    }
    assert plan["why"].keys() == plan["sizes"].keys() and plan["why"]["hidden_size"] == "x2"
    assert (
        plan["sizes"]["hidden_size"] == [24, 48]
        and plan["sizes"]["head_dim"] == [6, 12]
        and plan["sizes"]["num_attention_heads"] == [4, 4]
    )
    assert plan["config_changes"]["hidden_size"] == [24, 48]
    assert {row["space"] for row in plan["spaces"]} >= {"residual", "ffn"}
    tensors = load_file(small / "model.safetensors")
    assert {row["name"]: row["old"] for row in plan["tensors"]} == {
        name: list(tensor.shape) for name, tensor in tensors.items()
    }
    assert plan["parameters"][0] == sum(tensor.numel() for tensor in tensors.values())
    assert plan["notes"] == []


def test_plan_reads_no_weight(grow: Grow, small: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source"))
    tensors = {
        name: torch.full_like(tensor, float("nan")) for name, tensor in load_file(source / "model.safetensors").items()
    }
    save_file(tensors, source / "model.safetensors")
    told, expected = (grow("plan", folder).out.rpartition("\n\nnext: ") for folder in (source, small))
    assert told[0] == expected[0] and told[2] == f"grow widen {source} DST\n"


@pytest.mark.parametrize(
    "typed",
    [
        "--width 5/3 --noise 1 --seed 3",
        "--hidden-size 48 --kv-heads keep --size intermediate_size=80 --attention head-dim --lossy",
        "--symmetry split:1/2 --vouch a_field --vouch b_field --like 'a folder/config.json' --scaling orthogonal",
        "--like other --keep vocab,layers --keep ties --layers 4 --insert after:0,1 --untie",
    ],
)
def test_a_plan_ends_with_the_command_that_does_it(typed: str) -> None:
    def read(arguments: str) -> dict[str, object]:
        found = command.commands["widen"].make_context("widen", shlex.split(arguments)).params
        return {name: found[name] for name in CHOICES} | {"src": found["src"], "dst": str(found["dst"])}

    given = read(f"'my model' DST {typed}")
    sizes = {name: size for one in given["sizes"] for name, size in one.items()}  # type: ignore[attr-defined]
    again = as_typed("my model", "DST", {**given, "sizes": sizes})
    assert read(again) == given and again.startswith("'my model' DST --")


def test_architectures(grow: Grow) -> None:
    result = grow("architectures")
    assert result.code == 0 and result.err == ""
    listing, _, refused = result.out.partition("\n\n")
    rows = {line.split()[0]: line for line in listing.splitlines()[2:]}
    assert (
        "refused: head-dim under dynamic rotary scaling" in refused and max(map(len, result.out.splitlines())) <= 110
    )
    assert {"bert", "gpt2", "llama", "roberta", "t5"} <= set(rows)
    assert "CausalLM" in rows["llama"] and "rotary" in rows["llama"] and "learned" in rows["bert"]
    listed = grow("architectures", "--json").json
    assert [row["model_type"] for row in listed] == list(rows)
    printed = grow("architectures", "mixtral", "--python")
    names: dict[str, Any] = {}
    exec(printed.out, names)
    assert printed.code == 0 and names["MIXTRAL"].modules == architectures.find("mixtral").modules
    assert grow("architectures", "--python").code == 2 and grow("architectures", "nope", "--python").code == 1
    assert grow("architectures", "nope").err.startswith("grow: no architecture is declared for model_type 'nope'")


def test_the_demo_replaces_nothing(grow: Grow, small: Path, tmp_path: Path) -> None:
    """A model of the user's own under one of the demo's names."""
    own = Path(shutil.copytree(small, tmp_path / "out" / "more-heads-equal-copies"))
    before = snapshot(tmp_path)
    refused = grow("demo", "--keep", tmp_path / "out")
    assert refused.complaint == f"grow: {own} exists and was kept as it is. Name another folder: --keep FOLDER."
    assert snapshot(tmp_path) == before


def test_command_is_installed() -> None:
    assert GROW.is_file() and Path(sys.prefix) in GROW.parents
