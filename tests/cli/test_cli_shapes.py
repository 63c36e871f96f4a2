"""``grow`` with any target shape: the table of sizes, sizes by name, another model's, and what each
way of asking wrongly returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import growth
from growth.cli import choices
from growth.plan import target_sizes
from growth.plan.requested_sizes import RequestedSizes
from support.command import Grow, config_of, grow, logits, small

__all__ = ["grow", "small"]  # fixtures


@pytest.fixture(scope="module")
def pre_norm(small: Path) -> Path:
    """A small real GPT-2, whose layer norms take the mean."""
    torch.manual_seed(0)
    folder = small.parent / "gpt2"
    GPT2LMHeadModel(GPT2Config(n_embd=24, n_head=4, n_layer=2, vocab_size=60, n_positions=64)).save_pretrained(folder)
    return folder


def sizes(text: str) -> dict[str, tuple[int, int, str]]:
    """The table of sizes of a printed plan."""
    table = text.split("\n\n")[1].splitlines()
    assert table[0].split() == ["size", "old", "new", "why"] and set(table[1]) == {"-", " "}
    rows = [line.split(maxsplit=3) for line in table[2:]]
    return {name: (int(old.replace(",", "")), int(new.replace(",", "")), why) for name, old, new, why in rows}


def check_table(grow: Grow, small: Path) -> None:
    result = grow("plan", small, "--width", "1.5", "--kv-heads", "keep")
    assert result.code == 0 and result.err == ""
    assert result.out.startswith(
        "LlamaForCausalLM, width 1.5, num_key_value_heads keep, attention heads, symmetry noise:2 (seed 0), "
        "scaling unit\n"
    )
    assert sizes(result.out) == {
        "hidden_size": (24, 36, "x1.5"),
        "intermediate_size": (40, 60, "x1.5"),
        "num_attention_heads": (4, 6, "x1.5"),
        "num_key_value_heads": (2, 2, "kept, named"),
        "queries_per_kv": (2, 3, "follows from the others"),
        "head_dim": (6, 6, "kept (attention heads)"),
    }


def test_a_plan_shows_every_size_and_why(grow: Grow, small: Path) -> None:
    check_table(grow, small)


def test_the_table_is_that_of_the_plan(grow: Grow, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_sizes, "size_reasons", lambda model, sizes, options: dict.fromkeys(sizes, "kept"))
    with pytest.raises(AssertionError):
        check_table(grow, small)


NAMED: list[tuple[str, dict[str, int], set[str]]] = [
    (
        "--hidden-size 36",
        {"hidden_size": 36, "intermediate_size": 60, "num_attention_heads": 6, "num_key_value_heads": 3},
        {"hidden_size"},
    ),
    ("--intermediate-size 50", {"intermediate_size": 50}, {"intermediate_size"}),
    ("--size intermediate_size=50", {"intermediate_size": 50}, {"intermediate_size"}),
    ("--heads 8", {"num_attention_heads": 8, "num_key_value_heads": 4}, {"num_attention_heads"}),
    (
        "--heads 8 --kv-heads keep",
        {"num_attention_heads": 8, "queries_per_kv": 4},
        {"num_attention_heads", "num_key_value_heads"},
    ),
    ("--head-dim 12", {"head_dim": 12}, {"head_dim"}),
    (
        "--width 3 --size hidden_size=KEEP --heads keep",
        {"intermediate_size": 120},
        {"hidden_size", "num_attention_heads"},
    ),
    (
        "--width 3/2 --intermediate-size keep",
        {"hidden_size": 36, "num_attention_heads": 6, "num_key_value_heads": 3},
        {"intermediate_size"},
    ),
]


@pytest.mark.parametrize(("arguments", "grown", "named"), NAMED, ids=[row[0] for row in NAMED])
def test_sizes_by_name(grow: Grow, arguments: str, grown: dict[str, int], named: set[str], small: Path) -> None:
    plan = grow("plan", small, "--json", *arguments.split()).json
    assert {name: new for name, (old, new) in plan["sizes"].items() if new != old} == grown
    assert plan["why"].keys() == plan["sizes"].keys()
    assert {name for name, why in plan["why"].items() if "named" in why} == named


def test_the_sizes_of_another_model(grow: Grow, small: Path, pre_norm: Path, tmp_path: Path) -> None:
    wide = {"hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4}
    own = json.loads((small / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**own, **wide, "vocab_size": 999}))
    refused = grow("plan", small, "--like", tmp_path)
    assert refused.code == 1 and "vocab_size 999" in refused.err and "Add --keep vocab (in Python" in refused.err
    (tmp_path / "config.json").write_text(json.dumps({**own, **wide}))
    for like in (tmp_path, tmp_path / "config.json"):
        result = grow("plan", small, "--like", like)
        assert result.out.startswith(
            "LlamaForCausalLM, the sizes of another model, symmetry noise:2 (seed 0), scaling unit\n"
        )
        shown = sizes(result.out)
        assert {name: new for name, (_, new, why) in shown.items() if why == "as the other model"} == wide
        assert shown["head_dim"] == (6, 6, "kept, as the other model")
    plan = grow("plan", small, "--like", tmp_path, "--intermediate-size", "50", "--json").json
    assert plan["sizes"]["intermediate_size"] == [40, 50] and plan["why"]["intermediate_size"] == "named"
    other = ("--like", tmp_path, "--keep", "model_type,layers")
    shown = sizes(grow("plan", pre_norm, *other, "--intermediate-size", "keep").out)
    assert shown["hidden_size"] == (24, 48, "as the other model") and shown["intermediate_size"] == (
        96,
        96,
        "kept, named",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            "--width 2 --like other",
            "like takes all sizes from another model and leaves no room for a width. Choose one of the two.",
        ),
        ("--keep vocab,layers", "keep says what not to take from another model, and none is named: vocab,layers."),
        (
            "--noise 0.1 --symmetry split",
            "noise 0.1 and symmetry split:1/2 contradict each other. Choose one of the two.",
        ),
        ("--size heads=8 --size heads=6", "--size gives heads twice. Give it once."),
        ("--hidden-size 48 --hidden-size 96", "--hidden-size is given twice. Give it once."),
        ("--width 2 --width 2", "--width is given twice. Give it once."),
        ("--size 8", "'8' is not of the form NAME=N, such as moe_intermediate_size=2048."),
        ("--heads 1.5", "heads must be a whole number, or 'keep' to stay as it is, not '1.5'."),
        ("--symmetry noise:9", "noise must be a number from 0 to 8, not 9.0."),
        ("--symmetry split:1", "symmetry must be auto, noise:R, split:A/B, split:A/B:varied or none, not 'split:1'."),
    ],
)
def test_wrong_usage_exits_2(grow: Grow, arguments: str, says: str, small: Path, tmp_path: Path) -> None:
    for result in (
        grow("plan", small, *arguments.split()),
        grow("widen", small, tmp_path / "wide", *arguments.split()),
    ):
        assert (
            result.code == 2
            and result.out == ""
            and says in " ".join(result.err.split())
            and "Traceback" not in result.err
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--hidden-size 20", "cannot shrink hidden_size from 24 to 20"),
        ("--size vocab_size=90", "vocab_size is no size of a llama that can be chosen"),
        ("--hidden-size 48 --size hidden_size=36", "hidden_size is named twice, as 48 and as 36"),
        ("--hidden-size keep", "hidden_size 24 is what the model has already"),
        ("--heads 7", "The nearest shape that works: "),
        ("--head-dim 9", "Use a multiple of 6: 12. The nearest shape that works: "),
        ("--size layers=4", "its number of layers is num_hidden_layers. Say --layers 4 (in Python layers=4)."),
        ("--layers 2", "num_hidden_layers 2 is what the model has already, so nothing would grow"),
        ("--like no/such", "'no/such' is neither a folder here nor in the hub's cache"),
    ],
)
def test_refusals_exit_1_with_one_line(grow: Grow, arguments: str, says: str, small: Path, tmp_path: Path) -> None:
    for result in (
        grow("plan", small, *arguments.split()),
        grow("widen", small, tmp_path / "wide", *arguments.split()),
    ):
        assert says in result.complaint and result.out == ""
    assert not list(tmp_path.iterdir())


def test_both_checks_of_refusals_can_fail(grow: Grow, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the value not looked at, and with the names not looked at, the same commands pass."""
    read = choices._Value.convert

    def lenient(own: Any, value: Any, *at: Any) -> Any:
        return "keep" if value == "1.5" else read(own, value, *at)

    monkeypatch.setattr(
        choices._Value, "convert", lambda self, text, *at: "keep" if text == "1.5" else read(self, text, *at)
    )
    assert grow("plan", small, "--heads", "1.5", "--width", "2").code == 0
    monkeypatch.setattr(target_sizes, "requested_sizes", lambda *args: RequestedSizes({}))
    assert grow("plan", small, "--hidden-size", "20", "--width", "2").code == 0


@pytest.mark.parametrize(
    "arguments", ["--width 5/3", "--hidden-size 40 --kv-heads keep", "--width 1.5 --symmetry split:1/2:varied"]
)
def test_odd_shapes_are_widened_and_verified(grow: Grow, arguments: str, small: Path, tmp_path: Path) -> None:
    result = grow("widen", small, tmp_path / "wide", *arguments.split())
    assert result.code == 0 and result.err == ""
    said = json.loads((tmp_path / "wide" / "growth.json").read_text())["plan"]
    assert config_of(tmp_path / "wide")["hidden_size"] == said["sizes"]["hidden_size"][1] not in (24, 48)
    assert said["why"].keys() == said["sizes"].keys()
    assert (logits(tmp_path / "wide") - logits(small)).abs().max() < 1e-5
    assert grow("verify", small, tmp_path / "wide", "--tokens", "64", "--device", "cpu").code == 0
    again = growth.plan_widening(small, **said["options"])
    assert {name: list(pair) for name, pair in said["sizes"].items()} == {
        n: [o, again.new_sizes[n]] for n, o in again.old_sizes.items()
    }


def test_layer_norms_carry_the_mean(grow: Grow, pre_norm: Path, tmp_path: Path) -> None:
    assert grow("widen", pre_norm, tmp_path / "wide", "--width", "1.25").code == 0
    config = config_of(tmp_path / "wide")
    assert (
        config["n_embd"] == 30
        and config["n_head"] == 5
        and config["layer_norm_epsilon"] == pytest.approx(1e-5 * 24 / 30)
    )
    report: Any = grow("verify", pre_norm, tmp_path / "wide", "--tokens", "64", "--device", "cpu", "--json").json
    assert report["equal"] and report["difference"]["top1"] == 1.0
    (tmp_path / "wide" / "config.json").write_text(json.dumps({**config, "layer_norm_epsilon": 1.0}))
    assert grow("verify", pre_norm, tmp_path / "wide", "--tokens", "64", "--device", "cpu").code == 1
