"""Which of the model types of transformers can be grown, and whether they then compute the same.

    python benchmarks/coverage.py [--mapping CAUSAL_LM ...] [--only TYPE ...] [--out FILE] [--redo]
                                  [--widths 2 3] [--limit 90] [--report]

For every model type of the auto mappings: a tiny model with random weights that matter, on the disk, widened by
`growth.widen_checkpoint`, loaded again and compared in exact arithmetic, on inputs with images or sounds where the
class takes some. Outputs must agree to 1e-9, and must change with every input.

What was measured goes into FILE, one line of JSON for each class, and is not measured again (``--redo`` does). With
``--report`` the tables of docs/families.md are written from it; ``python benchmarks/coverage.py --report --only``
measures nothing."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

RESULTS = Path(__file__).parent / "coverage.jsonl"
MAPPINGS = (
    *("CAUSAL_LM", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "IMAGE_CLASSIFICATION"),
    *("SPEECH_SEQ_2_SEQ", "AUDIO_CLASSIFICATION", "CTC", "TEXT_ENCODING"),
)
FRESH = 25
"""Cases after which a process is replaced."""


def cases(mappings: list[str]) -> Iterator[tuple[str, str, str]]:
    """(mapping, model type, class), those of undeclared types first."""
    from transformers.models.auto import modeling_auto

    from growth.architectures import known

    found = []
    for mapping in mappings:
        for model_type, names in getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES").items():
            found.append((mapping, model_type, names if isinstance(names, str) else names[0]))
    yield from sorted(found, key=lambda entry: entry[1] in known())


def measured(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(model type, class) -> what was measured last."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {(record["type"], record["class"]): record for record in map(json.loads, lines)}


def status(record: dict[str, Any]) -> str:
    """One word or a few for a case: the worst of its widths, an illegal one apart."""
    if record.get("not_built"):
        return "not built"
    all_of_them = [outcome["status"] for outcome in record["widths"].values()]
    order = ("WRONG", "crash", "out of time", "grown but not compared", "refused", "exact on text alone", "exact")
    return next(word for word in order if word in all_of_them)


def measure(model_type: str, name: str, widths: tuple[float, ...], limit: float) -> dict[str, Any]:
    """A case, in a process of its own."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    disable_progress_bar()
    from coverage_case import case

    return case(model_type, name, widths, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mapping", nargs="*", default=list(MAPPINGS), choices=MAPPINGS)
    parser.add_argument("--only", nargs="*", help="model types")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--redo", action="store_true")
    parser.add_argument("--widths", type=float, nargs="*", default=[2, 3])
    parser.add_argument("--limit", type=float, default=90, help="seconds of one processor for a case")
    parser.add_argument("--report", action="store_true", help="write the tables of docs/families.md")
    given = parser.parse_args()
    done = {} if given.redo else measured(given.out)
    todo = {
        (model_type, name): mapping
        for mapping, model_type, name in reversed([*cases(given.mapping)])
        if (given.only is None or model_type in given.only) and (model_type, name) not in done
    }
    todo = dict(reversed(todo.items()))
    widths = tuple(int(width) if width == int(width) else width for width in given.widths)
    pool = None
    for number, ((model_type, name), mapping) in enumerate(todo.items()):
        if pool is None or number % FRESH == 0:
            if pool is not None:
                pool.shutdown()
            pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        begun = time.time()
        try:
            record = pool.submit(measure, model_type, name, widths, given.limit).result()
        except BrokenProcessPool:
            pool = None
            outcome = {"status": "crash", "said": "the process died", "kind": "died", "seconds": None}
            record = {"type": model_type, "class": name, "widths": {str(widths[0]): outcome}}
        with given.out.open("a") as file:
            file.write(json.dumps(record) + "\n")
        last = [*record["widths"].values()][-1] if record["widths"] else {"said": record["not_built"]}
        print(
            f"{mapping} {model_type} {name}: {status(record)} "
            f"{[outcome.get('difference') for outcome in record['widths'].values()]} {last.get('said', '')[:220]} "
            f"({time.time() - begun:.0f} s)",
            flush=True,
        )
    if pool is not None:
        pool.shutdown()
    now = measured(given.out)
    counts = Counter(status(now[entry[1:]]) for entry in cases(given.mapping) if entry[1:] in now)
    print(", ".join(f"{many} {word}" for word, many in counts.most_common()))
    if given.report:
        from coverage_report import write

        write(now)
    sys.exit(bool(counts["WRONG"] or counts["crash"]))


if __name__ == "__main__":
    main()
