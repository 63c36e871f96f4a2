"""Code that comes with a checkpoint (in a pickle, beside the config, beside the tokenizer) is never
run."""

from __future__ import annotations

import json
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import growth
from growth import CheckpointError, GrowthError, UnsupportedModelError
from support.damage import binary, config, pickled
from support.refusals import Sources, offline, refused, sources

__all__ = ["offline", "sources"]  # fixtures, the first for every test here


class RunsCode:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:.*pickle protocol:UserWarning")
def test_pickle_that_runs_code_is_not_read(zipped: bool, sources: Sources, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    pickled(lambda state: {**state, "x": RunsCode(marker)}, zipped)(source)
    refused(
        source,
        tmp_path / "wide",
        CheckpointError,
        "pytorch_model.bin",
        "full unpickling, which runs code",
        step="safetensors",
    )
    assert not marker.exists()
    with pytest.raises(CheckpointError, match="full unpickling"):
        growth.check_equivalence(source, sources["llama"], tokens=8)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:.*pickle protocol:UserWarning")
def test_plain_pickle_that_runs_code_is_not_read(sources: Sources, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    binary(pickle.dumps(RunsCode(marker)))(source)
    refused(
        source,
        tmp_path / "wide",
        CheckpointError,
        "pytorch_model.bin",
        "full unpickling, which runs code",
        step="safetensors",
    )
    assert not marker.exists()
    pickle.loads((source / "pytorch_model.bin").read_bytes())
    assert marker.exists()


def test_code_beside_the_config_is_never_executed(sources: Sources, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    for name in ("configuration_evil", "modeling_evil"):
        (source / f"{name}.py").write_text(
            f"import pathlib\n\npathlib.Path({str(marker)!r}).touch()\n\n\nclass Evil:\n    pass\n"
        )
    config(auto_map={"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"})(source)
    refused(source, tmp_path / "wide", UnsupportedModelError, "'auto_map'", "never executed", step="Remove 'auto_map'")
    with suppress(GrowthError):
        growth.check_equivalence(source, sources["llama"], tokens=8)
    assert not marker.exists()


def test_code_beside_the_tokenizer_is_never_executed(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def yes(question: str = "") -> str:
        asked.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", yes)  # who is asked may well say yes
    marker = tmp_path / "ran"
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    (source / "evil.py").write_text(
        f"import pathlib\n\npathlib.Path({str(marker)!r}).touch()\n\n\nclass Evil:\n    pass\n"
    )
    (source / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"})
    )
    (source / "vocab.json").write_text("{}")
    grown = growth.widen_checkpoint(source, tmp_path / "wide")
    assert growth.check_equivalence(source, grown.path, tokens=8).equal
    assert "evil.py" in grown.left_behind and not (grown.path / "evil.py").exists()
    assert not marker.exists() and not asked
