"""The text of `payoff.py`: bytes of three authors, whole books held out, batches without replacement."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

BOOKS = {
    "austen": {
        "choose": [("Persuasion\n\n\nby", "PRIDE AND PREJUDICE\n\nBy Jane")],
        "report": [("NORTHANGER ABBEY\n", "A NOTE ON THE TEXT\n")],
    },
    "kjv": {
        "choose": [  # Judges, Daniel, Galatians
            ("Now after the death of Joshua it came to pass", "Now it came to pass in the days when the judges"),
            ("In the third year of the reign of Jehoiakim", "The word of the LORD that came unto Hosea"),
            (
                "Paul, an apostle, (not of men",
                "Paul, an apostle of Jesus Christ by the will of God, to the saints which are",
            ),
        ],
        "report": [  # Esther, Ecclesiastes, Hosea, Acts
            ("Now it came to pass in the days of Ahasuerus", "There was a man in the land of Uz"),
            ("The words of the Preacher", "The song of songs"),
            ("The word of the LORD that came unto Hosea", "The word of the LORD that came to Joel"),
            ("The former treatise have I made", "Paul, a servant of Jesus Christ, called"),
        ],
    },
    "jargon": {
        "choose": [("\nE\n\nEaster egg\n", "\nF\n\nface time\n"), ("\nN\n\nnadger\n", "\nO\n\nOb-\n")],
        "report": [("\nD\n\ndaemon\n", "\nE\n\nEaster egg\n"), ("\nT\n\ntail recursion\n", "\nU\n\nu-\n")],
    },
}
"""Author -> half -> how each held-out book begins, and how the next one does. Books that tell what another
one tells (Kings and Chronicles, the first three gospels) are in no half."""

SYMBOLS = 96
"""The most frequent bytes of the training text have a symbol each, all others share the last."""


@dataclass(frozen=True)
class Corpus:
    """Symbols to train on ``[bytes]``, and held-out windows ``[windows, context + 1]``: those that choose learning
    rates and those that are reported, as many of each author. ``digests``: file -> SHA-256."""

    train: Tensor
    choose: Tensor
    report: Tensor
    digests: dict[str, str]


def read_corpus(folder: Path, context: int, choose: int, report: int) -> Corpus:
    """The books in ``folder``; ``choose`` and ``report`` are numbers of windows of each author."""
    train, held, digests = [], {"choose": [], "report": []}, {}
    for author, halves in BOOKS.items():
        path = folder / f"{author}.txt"
        if not path.is_file():
            raise SystemExit(f"{path} is missing. Put austen.txt, kjv.txt and jargon.txt into one folder.")
        content = path.read_bytes()
        digests[path.name] = hashlib.sha256(content).hexdigest()
        rest, books = _without(content, halves, path)
        train.append(rest)
        for half in held:
            held[half].append(books[half])
    numbers = _symbols(b"".join(train))
    windows = {
        half: torch.cat([_windows(numbers[_tensor(text)], context, count) for text in held[half]])
        for half, count in (("choose", choose), ("report", report))
    }
    return Corpus(numbers[_tensor(b"".join(train))], windows["choose"], windows["report"], digests)


def _without(content: bytes, halves: dict[str, list[tuple[str, str]]], path: Path) -> tuple[bytes, dict[str, bytes]]:
    """The text without its held-out books, and those. A beginning that a table of contents has too is found where it
    comes last."""
    cuts = []
    for half, books in halves.items():
        for begin, end in books:
            first, last = content.rfind(begin.encode()), content.rfind(end.encode())
            if not 0 <= first < last:
                raise SystemExit(
                    f"{path} has no book from {begin!r} to {end!r}. Use the text that docs/payoff.md names."
                )
            cuts.append((first, last, half))
    rest, taken, at = b"", {half: b"" for half in halves}, 0
    for first, last, half in sorted(cuts):
        rest += content[at:first]
        taken[half] += content[first:last]
        at = last
    return rest + content[at:], taken


def _tensor(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def _symbols(text: bytes) -> Tensor:
    """Byte value -> symbol."""
    counts = torch.bincount(_tensor(text), minlength=256)
    frequent = counts.sort(descending=True, stable=True).indices[: SYMBOLS - 1]
    numbers = torch.full((256,), SYMBOLS - 1)
    numbers[frequent] = torch.arange(SYMBOLS - 1)
    return numbers


def _windows(text: Tensor, context: int, count: int) -> Tensor:
    """``count`` windows, evenly spread."""
    every = text.unfold(0, context + 1, context)
    return every[torch.linspace(0, len(every) - 1, count).long()].contiguous()


@dataclass
class Batches:
    """What each run of a stack trains on: windows in random order, none twice in an epoch. The batch of a step
    follows from the run's seed and the step alone, so every arm of a seed sees the same ones."""

    train: Tensor
    seeds: Sequence[int]
    context: int
    batch: int

    @cached_property
    def _orders(self) -> dict[tuple[int, int], tuple[int, Tensor]]:
        return {}

    @property
    def epoch(self) -> int:
        """Windows in an epoch."""
        return (len(self.train) - self.context - 1) // self.context

    def at(self, step: int) -> Tensor:
        """``[runs, batch, context + 1]``."""
        return torch.stack([self._rows(seed, step) for seed in self.seeds])

    def _rows(self, seed: int, step: int) -> Tensor:
        starts = []
        for number in range(step * self.batch, (step + 1) * self.batch):
            offset, order = self._order(seed, number // self.epoch)
            starts.append(offset + self.context * int(order[number % self.epoch]))
        return self.train[torch.tensor(starts).unsqueeze(1) + torch.arange(self.context + 1)]

    def _order(self, seed: int, epoch: int) -> tuple[int, Tensor]:
        if (seed, epoch) not in self._orders:
            self._orders.pop((seed, epoch - 2), None)
            generator = torch.Generator().manual_seed(1_000_000 * (epoch + 1) + seed)
            offset = int(torch.randint(self.context, (1,), generator=generator))
            self._orders[seed, epoch] = offset, torch.randperm(self.epoch, generator=generator)
        return self._orders[seed, epoch]
