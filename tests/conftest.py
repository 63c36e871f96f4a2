from __future__ import annotations

import gc
import os
import signal
import sys

import pytest

from support.shards import parsed, shards

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_configure() -> None:
    """Signals that a shell ignores for what it runs in the background would be ignored by the tests
    of signals too, which would then wait for ever."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        if sys.platform != "win32" and signal.getsignal(number := getattr(signal, name)) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", metavar="I/N", help="run the I-th of N equal parts of the tests")


def pytest_collectstart() -> None:
    """Here, since a process of pytest-xdist that only hands tests out collects none, and importing
    torch and transformers takes seconds."""
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def pytest_collection_finish() -> None:
    """What the tests import stays to the end, so that the garbage collector need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)  # of the tests that the marks leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (shard := config.getoption("--shard")) is not None:
        part, parts = parsed(shard)
        belongs = shards((item.nodeid for item in items), parts)
        config.hook.pytest_deselected(items=[item for item, its in zip(items, belongs, strict=True) if its != part])
        items[:] = [item for item, its in zip(items, belongs, strict=True) if its == part]
