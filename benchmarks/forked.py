"""``grow`` in forks of a process that has imported everything, for the campaigns of ``kills.py`` and
``disk_faults.py``: each runs the command line from its entry point on, with signal handlers and an
exit code of its own, and costs a third of a second instead of ten."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import growth
import growth.checkpoint.widen as widening
from growth.cli.main import main as grow

Kept = dict[str, str]
"""Path below a folder -> what is there, by hash."""


def make_source(folder: Path, hidden: int = 64, layers: int = 12) -> None:
    """A random Llama with a tokenizer file and a card."""
    torch.manual_seed(0)
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers, "vocab_size": 2000}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2))
    model.save_pretrained(folder, max_shard_size="1MB")
    (folder / "README.md").write_text("# A card\n")
    (folder / "tokenizer_config.json").write_text("{}\n")


def contents(folder: Path) -> Kept:
    """Everything in a folder, by hash; empty where there is no folder."""
    return {
        str(path.relative_to(folder)): "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


@dataclass
class Ended:
    """A command that has ended: its exit code (minus the number of the signal that killed it), and
    what it said."""

    code: int
    said: str


@dataclass
class Child:
    """A ``grow`` that runs in a fork of this process."""

    pid: int
    log: Path

    def wait(self, limit: float = 300) -> Ended:
        """How it ended. After ``limit`` seconds it is killed, so that ranks that wait for one that never
        came do not hold up whoever started them."""
        deadline = time.monotonic() + limit
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        while not ended:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"grow has not ended after {limit:g} seconds: {self.log.read_text()}")
            time.sleep(0.01)
            ended, status = os.waitpid(self.pid, os.WNOHANG)
        return Ended(os.waitstatus_to_exitcode(status), self.log.read_text())


def start(arguments: list[str], log: Path, prepare: Callable[[], Any] = lambda: None) -> Child:
    """Run ``grow`` in a fork.

    Args:
        arguments: of the command line.
        log: where its standard error goes.
        prepare: called in the fork first.
    """
    log.touch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which the child does not use
        pid = os.fork()
    if not pid:
        _be_grow(arguments, log, prepare)
    return Child(pid, log)


def _be_grow(arguments: list[str], log: Path, prepare: Callable[[], Any]) -> NoReturn:
    """What a fork does; it never returns into the code of the process it is a copy of."""
    code = 70
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):  # which a shell may have had ignored (nohup)
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        sys.argv = ["grow", *arguments]
        prepare()
        grow()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


@contextmanager
def remembered_twin(source: Path) -> Iterator[None]:
    """Prove each plan by twin once in this process, and not again in its forks."""
    prove = widening.prove_twin
    proof = prove(growth.plan_widening(source))
    widening.prove_twin = lambda plan, device="cpu": proof
    try:
        yield
    finally:
        widening.prove_twin = prove
