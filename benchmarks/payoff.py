"""Does growing pay? Small models grown in mid-training against large ones from scratch and small ones trained on.

    python benchmarks/payoff.py --text FOLDER [--preset cpu|gpu] [--schedule wsd|cosine] [--out FILE] [--work FOLDER]

``--preset cpu`` takes 2.8 CPU hours, half of that on two cores; ``--preset gpu`` is sized for eight minutes of a GPU.
FOLDER holds austen.txt, kjv.txt and jargon.txt (docs/payoff.md says what they are). Each job, a stack of eight runs in
one program, is appended to FILE when it is done: the same command goes on where an interrupted one stopped. ``--work``
keeps the trunks, runs at a constant learning rate that arms branch from.

Arms are listed in ``payoff_presets.py``, before anything is run and in order of priority. At equal FLOPs (the small
phase counted), with equal shares of FLOPs in which the learning rate falls: the large model from scratch, the small
one trained on, and the small one grown. Rates come from sweeps with seeds of their own, on held-out books that are
not the reported ones."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from payoff_jobs import Branch, Record, Trunk, corpus_of, execute, ready
from payoff_plan import Arm, Setting
from payoff_presets import PRESETS
from payoff_results import read

import growth

RESULTS = {"cpu": Path(__file__).parent / "payoff.jsonl", "gpu": Path(__file__).parent / "payoff_gpu.jsonl"}


def header(preset: str, setting: Setting, text: Path) -> Record:
    corpus = corpus_of(text, setting)
    machine = (
        f"{os.cpu_count()}-core {platform.machine()} CPU" if setting.device == "cpu" else torch.cuda.get_device_name()
    )
    return {
        "preset": preset,
        "setting": {**asdict(setting), "unit": str(setting.unit)},
        "trained_bytes": len(corpus.train),
        "held_out_windows": {"choose": len(corpus.choose), "report": len(corpus.report)},
        "texts": corpus.digests,
        "versions": {
            "growth": growth.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "machine": machine,
    }


def run(plan: list[Arm], setting: Setting, text: Path, out: Path, work: Path, workers: int, first: Record) -> None:
    """All jobs of the plan that the file does not have yet; without workers one after the other in this process."""
    known, records = read(out)
    if known is None:
        store(out, [first])
    elif differ := [key for key in ("setting", "texts") if known[key] != first[key]]:
        raise SystemExit(f"{out} was made with another {differ[0]}. Name another file with --out.")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) if workers else None
    running: dict[Future[list[Record]], Trunk | Branch] = {}
    with pool or nullcontext():
        while True:
            names = [job.job for job in running.values()]
            for job in ready(plan, records, setting, work, names)[: max(1, workers) - len(running)]:
                running[started(pool, job, setting, text, work)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                keep(job, future.result(), records, out)


def started(pool: ProcessPoolExecutor | None, job: Trunk | Branch, *common: Any) -> Future[list[Record]]:
    if pool:
        return pool.submit(execute, job, *common)
    done = Future[list[Record]]()
    done.set_result(execute(job, *common))
    return done


def store(out: Path, records: list[Record]) -> None:
    """Add lines to the file, all of them or, where this is interrupted, none."""
    before = out.read_text(encoding="utf-8") if out.exists() else ""
    partial = out.with_suffix(".partial")
    partial.write_text(before + "".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    partial.replace(out)


def keep(job: Trunk | Branch, new: list[Record], records: list[Record], out: Path) -> None:
    """Keep what a job found, and say so. A trunk may be made again for later arms; it is written once."""
    if job.job not in {record["job"] for record in records}:
        records += new
        store(out, new)
    losses = [record["report"] for record in new]
    mean, seconds = sum(losses) / len(losses), sum(record["cpu_seconds"] for record in new)
    print(f"{time.strftime('%H:%M:%S')} {job.job}: {mean:.4f}, {seconds:.0f} s", flush=True)


def end_with_parent() -> None:
    """A worker whose parent was stopped would go on for nothing."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait_for_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()


def scheduled(plan: list[Arm], schedule: str | None) -> list[Arm]:
    """The arms of one schedule, or of all, and the sweeps that their rates come from."""
    return [arm for arm in plan if arm.sweep or schedule in (None, arm.schedule)]


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder of austen.txt, kjv.txt and jargon.txt")
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    parser.add_argument(
        "--schedule",
        choices=["wsd", "cosine"],
        help="the arms of one schedule alone, and the sweeps; default: all",
    )
    parser.add_argument("--out", type=Path, help="result file; default: beside this program")
    parser.add_argument("--work", type=Path, help="folder for trunks; default: beside the result file")
    parser.add_argument("--workers", type=int, help="processes; default: 2, on a GPU this one alone")
    return parser.parse_args(given)


def main() -> None:
    args: Any = arguments()
    setting, plan = PRESETS[args.preset]
    if setting.device != "cpu" and not torch.cuda.is_available():
        raise SystemExit("--preset gpu needs a GPU that PyTorch reaches as cuda. Use --preset cpu.")
    out = args.out or RESULTS[args.preset]
    work = args.work or out.with_suffix(".trunks")
    workers = args.workers if args.workers is not None else 2 if setting.device == "cpu" else 0
    run(
        scheduled(plan(), args.schedule),
        setting,
        args.text,
        out,
        work,
        workers,
        header(args.preset, setting, args.text),
    )


if __name__ == "__main__":
    sys.exit(main())
