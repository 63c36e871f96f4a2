"""Files that are no config, and JSON that parsers would read differently, are refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import growth
from growth.hf.config_json import read_json
from support.refusals import check_message
from support.small_models import llama

BAD_FILES: dict[str, tuple[bytes, str]] = {
    "byte-order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "UTF-16": ('{"model_type": "llama"}'.encode("utf-16"), "utf-8"),
    "a key twice": (b'{"hidden_size": 48, "a": {"b": 1, "b": 1}}', "the key 'b' twice"),
    "deep": (b'{"a":' * 60 + b"1" + b"}" * 60, "nested more than 50 deep"),
    "deeper": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "recursion"),
    "deep lists": (b'{"a":' + b"[" * 60 + b"]" * 60 + b"}", "nested more than 50 deep"),
    "a list": (b"[1]", "does not hold a JSON object"),
    "empty": (b"", "not readable JSON"),
    "long number": (b'{"a": ' + b"9" * 5000 + b"}", "not readable JSON"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_config_file_that_is_no_config_is_refused(case: str, tmp_path: Path) -> None:
    content, said = BAD_FILES[case]
    (tmp_path / "config.json").write_bytes(content)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(growth.CheckpointError, match=said) as caught:
        growth.plan_widening(tmp_path, width=2)
    check_message(str(caught.value), ())


def test_a_file_too_large_for_json_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(growth.CheckpointError, match="more than 268,435,456 bytes"):
        read_json(path)


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "config.json"
    os.mkfifo(pipe)
    for endless in (Path("/dev/zero"), pipe):
        with pytest.raises(growth.CheckpointError, match="it is no file"):
            read_json(endless)


@pytest.mark.parametrize(
    "name",
    ["model.safetensors.index.json", "modules.json", "trainer_state.json", "adapter_config.json", "tokenizer.json"],
)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(name: str, tmp_path: Path) -> None:
    """It is refused, or left where it is and named: nothing opens it, which would never return."""
    llama().save_pretrained(tmp_path / "small")
    if name == "model.safetensors.index.json":
        (tmp_path / "small" / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "small" / name)
    try:
        said = str(
            growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", optimizer=name == "trainer_state.json")
        )
    except growth.CheckpointError as error:
        said = str(error)
    assert name in said
