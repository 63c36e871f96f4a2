"""Control characters, escape sequences and marks that reverse text, in whatever somebody else may
have named or written: none reaches the terminal as it is."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from growth import errors, text
from growth.errors import GrowthError, printable, shown
from growth.text import Table, as_html, as_text
from support.command import Grow, Result, grow, run
from support.small_models import llama

__all__ = ["grow"]  # a fixture

POISON = "\x1b]0;x\x07\u202e\x7f\x9b31m\u200b\u2066\r\x00\ud800"
NAMED = POISON.replace("\x00", "").replace("\ud800", "")
"""As a file may be called."""


def raw(text: str) -> list[str]:
    """The characters of an output that a terminal may obey, line breaks aside."""
    return [char for char in text.replace("\n", "") if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / f"small{NAMED}"
    llama().save_pretrained(folder)
    return folder


def poisoned(value: Any) -> Any:
    """A JSON value with every string in it poisoned."""
    if isinstance(value, dict):
        return {name: poisoned(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner) for inner in value] or [POISON]
    return value + POISON if isinstance(value, str) else value


def configs(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The config with poison in one field, in every place it could be in."""
    yield poisoned(config)
    for name in config:
        yield {**config, name: poisoned(config[name]) if isinstance(config[name], (str, list)) else POISON}
    yield {**config, f"field{POISON}": POISON, "_name_or_path": POISON, "note": {POISON: POISON}}
    yield {**config, "id2label": {POISON: POISON}, "_name_or_path": POISON}
    yield {**config, "model_type": "gpt2", "architectures": [f"GPT2{POISON}"]}


def check(result: Result, *, refuses: bool | None = None) -> None:
    assert not raw(result.out + result.err), (result.out + result.err).encode("unicode_escape")
    if refuses is not None:
        assert (result.code != 0) is refuses, result.err


def test_in_a_config(folder: Path, grow: Grow, tmp_path: Path) -> None:
    source = Path(shutil.copytree(folder, tmp_path / f"source{NAMED}"))
    for config in configs(json.loads((folder / "config.json").read_text())):
        (source / "config.json").write_text(json.dumps(config))
        check(grow("plan", source))
    check(grow("plan", source, "-v"))
    check(grow("plan", source, "--json"))
    check(grow("plan", folder, "--like", source / "config.json"))
    check(grow("plan", folder, "-v"), refuses=False)


@pytest.mark.slow
def test_what_transformers_logs_stays_off_the_screen(folder: Path, tmp_path: Path) -> None:
    """Its errors too, one of which quotes the whole config. In a process of its own, whose stderr is
    the one that the logger was given."""
    source = Path(shutil.copytree(folder, tmp_path / "source"))
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "use_return_dict": True}))
    assert "Traceback" not in run("plan", source).complaint


def test_in_files_tensors_and_results(folder: Path, grow: Grow, tmp_path: Path) -> None:
    source = Path(shutil.copytree(folder, tmp_path / "source"))
    (source / f"notes{NAMED}.bin").write_text("")
    (source / "README.md").write_text(f"---\nlicense: {POISON[:-1]}\n---\n# {POISON[:-1]}\n")
    wide = tmp_path / f"wide{NAMED}"
    check(grow("widen", source, wide), refuses=False)
    check(grow("widen", source, wide), refuses=True)
    check(grow("widen", source, tmp_path / f"json{NAMED}", "--json"), refuses=False)
    check(grow("verify", source, wide, "--tokens", 8), refuses=False)
    check(grow("verify", wide, source, "--tokens", 8))
    tensors = load_file(source / "model.safetensors")
    save_file({**tensors, f"t{NAMED}": tensors["lm_head.weight"].clone()}, source / "model.safetensors")
    check(grow("plan", source), refuses=True)
    (source / "model.safetensors").rename(source / "other.safetensors")
    for weight_map in ({POISON: POISON}, {"lm_head.weight": f"other{POISON}"}, {f"x{POISON}": "other.safetensors"}):
        index = json.dumps({"weight_map": weight_map})
        (source / "model.safetensors.index.json").write_text(index)
        check(grow("plan", source), refuses=True)


def test_in_what_is_typed(folder: Path, grow: Grow) -> None:
    typed = NAMED
    for arguments in (
        *(("plan", typed), ("plan", f"org/{typed}"), ("plan", f"./{typed}"), ("verify", typed, typed)),
        *((typed,), (f"--{typed}",), ("plan", folder, typed), ("plan", folder, f"--{typed}")),
        *(("plan", folder, f"--{name}", typed) for name in ("width", "heads", "size", "like", "vouch", "symmetry")),
        ("plan", folder, "--size", f"{typed}=5"),
        *(("plan", folder, "--attention", typed), ("widen", folder, "wide", "--device", typed)),
        *(("widen", folder, "wide", "--dtype", typed), ("widen", folder, "wide", "--max-shard-size", typed)),
        *(("architectures", typed), ("verify", folder, folder, "--text", typed)),
    ):
        check(grow(*arguments), refuses=True)


def test_in_python() -> None:
    for said in (str(GrowthError(f"a {POISON}")), shown(POISON), printable(POISON), as_text([POISON])):
        assert not raw(said)
    table = Table((POISON, "b"), [(POISON, 1), ("a\nb", 2)])
    for said in (str(table), as_text([table]), as_html([table, POISON])):
        assert not raw(said)
    assert len(str(table).splitlines()) == 4  # a line break in a cell makes no new row
    assert printable("Größe 日本") == "Größe 日本"


def test_the_check_can_fail(folder: Path, grow: Grow, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (errors, text):
        monkeypatch.setattr(module, "printable", lambda text: text)
    with pytest.raises(AssertionError):
        check(grow("plan", f"./{NAMED}"))
    with pytest.raises(AssertionError):
        test_in_python()
