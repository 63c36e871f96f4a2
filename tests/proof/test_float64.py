"""`exact_arithmetic`: everything runs in float64, and a correct growth is exact to 1e-13 there but not
in a model after ``.double()``."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import growth
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.outputs import forward, largest_difference
from support.families import LANGUAGE_MODELS, VOCABULARY, build, difference


class Watch(TorchDispatchMode):
    """Collects the dtypes of all floating-point results."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.dtypes.add(result.dtype)
        return result


@pytest.mark.parametrize("case", LANGUAGE_MODELS, ids=str)
def test_everything_runs_in_float64(case) -> None:  # type: ignore[no-untyped-def]
    with exact_arithmetic():
        model = build(case)
        with Watch() as watch:
            forward(model, random_inputs(model, VOCABULARY))
        assert all(buffer.dtype == torch.float64 for buffer in model.buffers() if buffer.is_floating_point())
    assert watch.dtypes == {torch.float64}


def test_a_plain_double_model_is_fourteen_orders_worse() -> None:
    case = next(case for case in LANGUAGE_MODELS if case.model_type == "llama")
    choice = {"width": 3, "attention": "head-dim", "scaling": "orthogonal"}
    with exact_arithmetic():
        small = build(case)
        result = growth.widen(small, **choice)  # type: ignore[arg-type]
        inside = difference(small, result.model, result.plan)
    small = build(case)
    result = growth.widen(small, **choice)  # type: ignore[arg-type]
    assert inside < 1e-13
    # No padding here: a fully masked row is not a number once the mask's float64 minimum is cast to
    # float32.
    ids = {"input_ids": random_inputs(small, VOCABULARY)["input_ids"]}
    assert 1e-9 < largest_difference(forward(small, ids), forward(result.model, ids), result.plan) < 1e-3


def test_casts_and_factories_are_redirected_and_the_default_comes_back() -> None:
    with exact_arithmetic():
        x = torch.ones(2, dtype=torch.float32)
        assert {
            t.dtype
            for t in (
                x,
                x.float(),
                x.half(),
                x.to(torch.bfloat16),
                x.type(torch.float32),
                torch.tensor(1.0, dtype=torch.float16),
            )
        } == {torch.float64}
        assert torch.softmax(x, 0, dtype=torch.float32).dtype == torch.float64
        assert torch.arange(3).dtype == torch.int64
    assert torch.get_default_dtype() == torch.float32
    assert torch.ones(1).dtype == torch.float32
