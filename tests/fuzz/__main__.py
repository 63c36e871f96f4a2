"""Run many cases and count: ``make fuzz CASES=50000 SEED=0``, or one of them: ``make fuzz CASE=17``."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

from fuzz.cases import KINDS, Case, run_case
from fuzz.guard import Found
from fuzz.outcome import remembered_twins

Findings = dict[tuple[str, str], list[tuple[int, Found]]]
"""(kind, place) -> the number of each case that found it, and what it found."""
SPARE = 6_000_000_000
"""Bytes of address space that a run may take beyond what it has once everything is imported."""


def main() -> int:
    arguments = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    arguments.add_argument("--cases", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--case", type=int, help="run this one and say what it was")
    arguments.add_argument("--start", type=int, default=0)
    arguments.add_argument("--kind", choices=list(KINDS), help="cases of this kind alone")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, resource.RLIM_INFINITY))
    numbers = [given.case] if given.case is not None else range(given.start, given.start + given.cases)
    kinds = {given.kind: 1} if given.kind else KINDS
    ended: Counter[tuple[str, str]] = Counter()
    spent: Counter[str] = Counter()
    findings: Findings = {}
    cpu = time.process_time()
    memory = Path("/dev/shm")
    with remembered_twins(), TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        for done, number in enumerate(numbers):
            if done and done % 1000 == 0:
                rate, so_far = done / (time.process_time() - cpu), sum(map(len, findings.values()))
                print(f"{done} cases, {rate:.0f} per CPU second, {so_far} findings", file=sys.stderr, flush=True)
            began = time.process_time()
            try:
                outcome = run_case(given.seed, number, Path(root), kinds)
                ended[outcome.kind, outcome.ended] += 1
                if given.case is not None:
                    print(f"{outcome.kind}: {outcome.ended}. {outcome.detail}")
            except Found as found:
                if given.case is not None:
                    raise
                those = findings.setdefault((found.kind, found.where or found.detail[:60]), [])
                those.append((number, found))
                if len(those) == 1:
                    print(f"CASE={number} {found}"[:600], *found.__notes__, file=sys.stderr, flush=True)
            spent[Case(given.seed, number, Path(root), kinds).kind] += time.process_time() - began
    seconds = time.process_time() - cpu
    print(_table(ended, spent))
    for (kind, where), those in sorted(findings.items(), key=lambda item: (item[0][0], -len(item[1]))):
        cases = " ".join(str(number) for number, _ in those[:5])
        print(f"FOUND {kind}, {len(those)} times, SEED={given.seed} CASE={cases}: {where}: {those[0][1].detail[:500]}")
    print(_summary(given.seed, ended, findings, seconds))
    return 1 if findings else 0


NAMED = {
    "foreign": "foreign exceptions",
    "hang": "hangs",
    "memory": "jumps in memory",
    "left outside": "changes outside DST",
    "source changed": "changed sources",
    "leaked": "leaks",
    "control character": "control characters printed",
    "silently wrong": "wrong functions",
}
"""Kind of finding -> what the summary calls it."""


def _summary(seed: int, ended: Counter[tuple[str, str]], findings: Findings, seconds: float) -> str:
    """One line: how many cases, what became of them, and how often each kind of finding was made."""
    found = Counter(kind for (kind, _), those in findings.items() for _ in those)
    ways: Counter[str] = Counter()
    for (_, how), count in ended.items():
        ways["refused" if how.endswith("Error") or how in ("exit 1", "exit 2") else "accepted"] += count
        ways["compared"] += count if "compared" in how else 0
    named = ", ".join(f"{found[kind]} {words}" for kind, words in NAMED.items())
    others = sum(count for kind, count in found.items() if kind not in NAMED)
    return (
        f"{sum(ended.values()) + sum(found.values())} cases of seed {seed} in {seconds:.0f} CPU seconds: "
        f"{ways['refused']} refused, {ways['accepted']} accepted, {ways['compared']} of these compared as functions; "
        f"{named}, {others} other findings"
    )


def _table(ended: Counter[tuple[str, str]], spent: Counter[str]) -> str:
    lines = []
    for kind in KINDS:
        parts = ", ".join(
            f"{how} {count}" for (of, how), count in sorted(ended.items(), key=lambda item: -item[1]) if of == kind
        )
        lines.append(
            f"{kind:10} {sum(count for (of, _), count in ended.items() if of == kind):6} {spent[kind]:5.0f} s: {parts}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
