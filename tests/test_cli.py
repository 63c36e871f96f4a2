"""The ``grow`` command: what it prints, what it returns and what it is frozen to."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, get_type_hints

import click
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

import growth
from growth.choices import Choices
from growth.cli.main import grow as command
from growth.cli.main import main

GROW = Path(sysconfig.get_path("scripts")) / "grow"
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 60, "max_position_embeddings": 64}
TOKENS = torch.arange(2, 50).reshape(2, 24)


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr."""
        (line,) = self.err.splitlines()
        assert line.startswith("grow: ") and self.code == 1
        return line

    @property
    def json(self) -> Any:
        """All of stdout as JSON by the standard, which knows no NaN and no Infinity."""

        def unknown(constant: str) -> None:
            raise AssertionError(f"stdout holds {constant}")

        assert self.err == ""
        return json.loads(self.out, parse_constant=unknown)


class Grow:
    """Calls ``grow`` in this process, as its entry point does."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: object) -> Result:
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["grow", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        written = self.capsys.readouterr()
        assert stop.value.code is None or isinstance(stop.value.code, int)
        return Result(stop.value.code or 0, written.out, written.err)


@pytest.fixture
def grow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Grow:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return Grow(capsys, monkeypatch)


def run(*arguments: object) -> Result:
    """Calls the installed ``grow``."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([GROW, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real Llama; tests only read it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("cli") / "small"
    LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **SIZES)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wide(small: Path) -> Path:
    """Grown from it; tests only read it."""
    return growth.widen_checkpoint(small, small.parent / "wide").path


@pytest.fixture(scope="module")
def encoder(small: Path) -> Path:
    torch.manual_seed(0)
    folder = small.parent / "encoder"
    BertForMaskedLM(BertConfig(num_attention_heads=4, **SIZES)).save_pretrained(folder)
    return folder


def logits(folder: Path) -> torch.Tensor:
    model: PreTrainedModel = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.no_grad():
        result: torch.Tensor = model(TOKENS).logits
    return result


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


@pytest.mark.parametrize("arguments", [("--help",), ("widen", "--help"), ("--version",)], ids=" ".join)
def test_help_is_quick(arguments: tuple[str, ...]) -> None:
    seconds = []
    for _ in range(3):
        begun = time.monotonic()
        result = run(*arguments)
        seconds.append(time.monotonic() - begun)
        assert result.code == 0 and result.err == ""
        if min(seconds) < 0.5:
            break
    assert min(seconds) < 0.5
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
        *(
            (("widen", "small", "wide", "--width", width), f"'{width}' is not a number above 1 and at most 1024. Use --width 2")
            for width in ("0", "1", "-1", "x", "1/0", "nan", "1e400", "1025")
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("--symmetry", "noise:2"),
        ("--symmetry", "split:1/1"),
        ("--noise", "-1"),
        ("--noise", "nan"),
        ("--noise", "loud"),
        ("--seed", "x"),
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
        result.complaint == f"grow: no such folder: {tmp_path}/gone. Name a folder that holds config.json, or a hub id such as 'org/model'."
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
        (("--seed", str(2**80)), str(2**80)),
    ],
)
def test_widen_refuses_in_one_line(grow: Grow, arguments: tuple[str, ...], says: str, small: Path, tmp_path: Path) -> None:
    assert says in grow("widen", small, tmp_path / "wide", *arguments).complaint
    assert not list(tmp_path.iterdir())


def test_refusal_says_how_to_vouch(grow: Grow, small: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source"))
    (source / "config.json").write_text(json.dumps({**config_of(small), "residual_multiplier": 2.0}))
    assert "say --vouch residual_multiplier" in grow("plan", source).complaint
    assert grow("plan", source, "--vouch", "residual_multiplier").code == 0
    assert grow("widen", source, tmp_path / "wide", "--vouch", "residual_multiplier").code == 0


def test_plan_shows_spaces_sizes_and_config(grow: Grow, small: Path) -> None:
    result = grow("plan", small, "--width", "3")
    assert result.code == 0 and result.err == ""
    assert result.out.startswith("LlamaForCausalLM, width 3, attention heads, scaling unit\n")
    assert "\nhidden_size           24   72  x3\n" in result.out
    rows = [line.split() for line in result.out.splitlines()]
    assert ["residual", "24", "72", "RMS", "norm"] in rows and ["ffn", "40", "120", "copied"] in [row[:4] for row in rows]
    assert "hidden_size 24 -> 72" in result.out and "intermediate_size 40 -> 120" in result.out
    assert "num_attention_heads 4 -> 12; num_hidden_layers" not in result.out and "num_key_value_heads 2 -> 6" in result.out
    assert "21 tensors, 12,216 -> " in result.out
    assert "identical copies never separate" in result.out
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
    plan = grow("plan", small, "--json", "--attention", "head-dim", "--noise", "0.1", "--seed", "7").json
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
        "symmetry": "noise:0.1",
        "seed": 7,
        "lossy": False,
        "vouch": [],
        "sizes": {},
        "like": {},
    }
    assert plan["why"].keys() == plan["sizes"].keys() and plan["why"]["hidden_size"] == "x2"
    assert (
        plan["sizes"]["hidden_size"] == [24, 48] and plan["sizes"]["head_dim"] == [6, 12] and plan["sizes"]["num_attention_heads"] == [4, 4]
    )
    assert plan["config_changes"]["hidden_size"] == [24, 48]
    assert {row["space"] for row in plan["spaces"]} >= {"residual", "ffn"}
    tensors = load_file(small / "model.safetensors")
    assert {row["name"]: row["old"] for row in plan["tensors"]} == {name: list(tensor.shape) for name, tensor in tensors.items()}
    assert plan["parameters"][0] == sum(tensor.numel() for tensor in tensors.values())
    assert plan["notes"] == []


def test_plan_reads_no_weight(grow: Grow, small: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source"))
    tensors = {name: torch.full_like(tensor, float("nan")) for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(tensors, source / "model.safetensors")
    assert grow("plan", source).out == grow("plan", small).out


@pytest.mark.parametrize(("noise", "told"), [("0", True), ("0.1", False)])
def test_widen_says_what_it_proved(grow: Grow, noise: str, told: bool, small: Path, tmp_path: Path) -> None:
    result = grow("widen", small, tmp_path / "wide", "--noise", noise)
    assert result.code == 0 and result.err == ""
    lines = result.out.splitlines()
    rows = [line.split() for line in lines]
    assert ["hidden_size", "24", "48"] in rows and ["parameters", "12,216", "42,864"] in rows
    (twin,) = (line for line in lines if line.startswith("twin: "))
    (fold,) = (line for line in lines if line.startswith("fold: "))
    assert "in exact arithmetic, tolerance 1e-10" in twin
    assert fold.startswith("fold: 21 tensors read back bit for bit")
    assert any(line.startswith("note: ") and "identical copies never separate" in line for line in lines) == told
    assert lines[-2:] == [f"written: {tmp_path / 'wide'}", f"next: grow verify {small} {tmp_path / 'wide'}"]
    assert (logits(tmp_path / "wide") - logits(small)).abs().max() < 1e-5


def test_widen_as_json(grow: Grow, small: Path, tmp_path: Path) -> None:
    record = grow("widen", small, tmp_path / "wide", "--json").json
    assert set(record) == {"source", "dtype", "proof", "versions", "plan"}
    assert record == json.loads((tmp_path / "wide" / "growth.json").read_text())
    assert record["proof"]["twin"]["difference"] <= record["proof"]["twin"]["tolerance"] == 1e-10
    assert record["proof"]["fold"]["tensors"] == 21 and record["proof"]["fold"]["exact"]
    assert set(record["source"]["sha256"]) == {"config.json", "model.safetensors"}


def test_overwrite_replaces_a_model(grow: Grow, small: Path, encoder: Path, tmp_path: Path) -> None:
    target = Path(shutil.copytree(encoder, tmp_path / "wide"))
    (target / "notes.txt").write_text("of the old model")
    assert "exists and was kept as it is" in grow("widen", small, target).complaint
    assert config_of(target) == config_of(encoder) and (target / "notes.txt").exists()
    assert grow("widen", small, target, "--overwrite").code == 0
    assert config_of(target)["hidden_size"] == 48 and not (target / "notes.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["wide"]


def test_dtype_is_that_of_weights_and_config(grow: Grow, small: Path, tmp_path: Path) -> None:
    assert grow("widen", small, tmp_path / "wide", "--dtype", "bfloat16").code == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "wide" / "model.safetensors").values()} == {torch.bfloat16}
    assert config_of(tmp_path / "wide")["dtype"] == "bfloat16"
    assert LlamaForCausalLM.from_pretrained(tmp_path / "wide").dtype == torch.bfloat16


def test_small_shards_load(grow: Grow, small: Path, wide: Path, tmp_path: Path) -> None:
    target = tmp_path / "wide"
    assert grow("widen", small, target, "--max-shard-size", "100KB").code == 0
    index = json.loads((target / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in target.glob("*.safetensors"))
    assert len(shards) > 1 and shards == sorted(set(index["weight_map"].values()))
    assert shards == [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    loaded = {shard: load_file(target / shard) for shard in shards}
    assert all(sum(tensor.nbytes for tensor in tensors.values()) <= 100_000 for tensors in loaded.values())
    assert {name: shard for shard, tensors in loaded.items() for name in tensors} == index["weight_map"]
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensors in loaded.values() for tensor in tensors.values())
    assert torch.equal(logits(target), logits(wide))


def test_nonfinite_weights_pass_on_request(grow: Grow, small: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(small, tmp_path / "source"))
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"][3, 4] = float("nan")
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    assert "'lm_head.weight' holds NaN or infinity" in grow("widen", source, tmp_path / "wide").complaint
    assert grow("widen", source, tmp_path / "wide", "--allow-nonfinite").code == 0
    assert grow("widen", source, tmp_path / "other", "--allow-nonfinite", "--json").json["proof"]["twin"]["difference"] <= 1e-10


def changed(folder: Path, target: Path, name: str, factor: float) -> Path:
    """A copy of a checkpoint with one tensor scaled."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    tensors[name] = tensors[name] * factor
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_verify_a_good_pair(grow: Grow, small: Path, wide: Path) -> None:
    result = grow("verify", small, wide)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].startswith("logits, float32") and lines[2].startswith("grown - source") and lines[3].startswith("floor: ")
    assert "random tokens (no tokenizer); outputs compared: logits" in lines[4]
    assert not any(line.startswith("perplexity") for line in lines)  # of random tokens it would say nothing
    assert lines[-1] == "equal: within the order of the rounding floor (on cpu)" or "cuda" in lines[-1]
    assert "diverge" not in result.out


def test_verify_a_good_pair_as_json(grow: Grow, small: Path, wide: Path) -> None:
    result = grow("verify", small, wide, "--json", "--tokens", "32", "--device", "cpu")
    assert result.code == 0
    report = result.json
    assert report["equal"] is True and report["output"] == "logits" and report["tokens"] == 32 and report["diverges_at"] is None
    assert report["dtype"] == "float32" and report["floor_dtype"] == "float64" and report["device"] == "cpu"
    assert report["difference"]["largest"] <= 10 * report["floor"]["largest"] and report["difference"]["top1"] == 1.0


def test_verify_in_another_dtype(grow: Grow, small: Path, wide: Path) -> None:
    report = grow("verify", small, wide, "--json", "--dtype", "bfloat16", "--tokens", "64").json
    assert report["equal"] and (report["dtype"], report["floor_dtype"]) == ("bfloat16", "float32")


@pytest.mark.parametrize("layer", [0, 1])
def test_verify_names_where_a_changed_pair_diverges(grow: Grow, layer: int, small: Path, wide: Path, tmp_path: Path) -> None:
    other = changed(wide, tmp_path / "changed", f"model.layers.{layer}.mlp.down_proj.weight", 2.0)
    result = grow("verify", small, other, "--tokens", "64", "--device", "cpu")
    assert result.code == 1
    assert f"\nhidden states diverge first at hidden_states.{layer + 1} " in result.out
    assert result.out.endswith("\nNOT EQUAL: further apart than rounding explains (on cpu)\n")
    report = grow("verify", small, other, "--tokens", "64", "--device", "cpu", "--json")
    assert report.code == 1 and report.json["equal"] is False
    assert report.json["diverges_at"].startswith(f"hidden_states.{layer + 1} ")


def test_verify_a_pair_with_nan(grow: Grow, small: Path, wide: Path, tmp_path: Path) -> None:
    other = changed(wide, tmp_path / "changed", "model.layers.0.mlp.down_proj.weight", float("nan"))
    result = grow("verify", small, other, "--tokens", "32", "--json")
    assert result.code == 1 and result.json["equal"] is False


@pytest.mark.parametrize("options", [("--tokens", "1"), ("--text", "gone.txt"), ("--dtype", "int8")])
def test_verify_wrong_usage(grow: Grow, options: tuple[str, str], small: Path, wide: Path) -> None:
    result = grow("verify", small, wide, *options)
    assert result.code == 2 and options[0] in result.err


def test_verify_refuses_in_one_line(grow: Grow, small: Path, wide: Path, encoder: Path, tmp_path: Path) -> None:
    assert "LlamaForCausalLM" in grow("verify", small, encoder).complaint
    assert "nope" in grow("verify", small, wide, "--device", "nope").complaint
    other = Path(shutil.copytree(wide, tmp_path / "other"))
    tensors = load_file(other / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    assert "'model.norm.weight'" in grow("verify", small, other).complaint


def test_architectures(grow: Grow) -> None:
    result = grow("architectures")
    assert result.code == 0 and result.err == ""
    listing, _, refused = result.out.partition("\n\n")
    rows = {line.split()[0]: line for line in listing.splitlines()[2:]}
    assert "refused: head-dim under dynamic rotary scaling" in refused and max(map(len, result.out.splitlines())) <= 110
    assert {"bert", "gpt2", "llama", "roberta", "t5"} <= set(rows)
    assert "CausalLM" in rows["llama"] and "rotary" in rows["llama"] and "learned" in rows["bert"]
    listed = grow("architectures", "--json").json
    assert [row["model_type"] for row in listed] == list(rows)
    assert grow("architectures", "nope").err.startswith("grow: no architecture is declared for model_type 'nope'")


# What follows is the interface others rely on, written down: change it here too, on purpose.

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
    "widen",
    "widen_checkpoint",
]

SIGNATURES = {
    "plan_widening": "(source, **choices)",
    "widen": "(model, *, optimizer=None, scheduler=None, moments='preserve', hyper='preserve', allow_nonfinite=False, **choices)",
    "widen_checkpoint": (
        "(src, dst, *, optimizer=False, moments='preserve', dtype=None, max_shard_size='5GB', overwrite=False, allow_nonfinite=False, "
        "device='cpu', progress=None, **choices)"
    ),
    "check_equivalence": "(a, b, *, text=None, tokens=512, device=None, dtype=None, plan=None, step=None)",
}

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
    assert [*Choices.__annotations__] == KEYWORDS and Choices.__optional_keys__ == {*KEYWORDS}
    for name in ("plan_widening", "widen", "widen_checkpoint"):
        assert get_type_hints(getattr(growth, name))["choices"] == Unpack[Choices]
    assert {name: [described(parameter) for parameter in found.params] for name, found in command.commands.items()} == OPTIONS
    assert sorted(error.__name__ for error in growth.GrowthError.__subclasses__()) == ERRORS


def test_names_are_found_where_they_are_said_to_be() -> None:
    with pytest.raises(AttributeError, match="no attribute 'shrink'"):
        _ = growth.shrink
    assert growth.Plan is importlib.import_module("growth.plan").Plan


def test_command_is_installed() -> None:
    assert GROW.is_file() and Path(sys.prefix) in GROW.parents
