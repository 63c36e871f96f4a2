"""How far rounding alone moves a model's outputs, measured on the model itself in its own dtype.

What every module returns is disturbed by a random relative error of up to one machine epsilon, as
roundings disturb it, and the model is run. Its outputs then move by about as much as they are
uncertain anyway: where a difference of one ulp grows with depth, or makes a router choose another
expert, that shows. No copy of the weights in a wider dtype is needed.

References:
    D. S. Parker, Monte Carlo Arithmetic: exploiting randomness in floating-point arithmetic (1997).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from growth.hf.dtensors import is_spread, local, with_local
from growth.proof.outputs import Outputs, forward

ORDER = 5
"""Two outputs are equal up to rounding if they differ by at most 5 times what it moves them."""


@contextmanager
def disturbed(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Inside, what each module with parameters or without submodules returns is off by up to one
    `epsilon` of the module.

    Args:
        model: disturbed by hooks, which are removed at the end.
        seed: of the errors. Global generators are not used.
    """
    generators: dict[torch.device, torch.Generator] = {}

    def rounded(value: Any, eps: float) -> Any:
        if isinstance(value, tuple) and type(value) is tuple:
            return tuple(rounded(entry, eps) for entry in value)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        if is_spread(value):
            return with_local(value, rounded(local(value), eps))
        if value.device not in generators:
            generators[value.device] = torch.Generator(value.device).manual_seed(seed)
        eps = max(eps, torch.finfo(value.dtype).eps)
        error = torch.rand(value.shape, generator=generators[value.device], device=value.device, dtype=torch.float32)
        return value + value * (2 * eps * error - eps).to(value.dtype)

    def hook(eps: float) -> Callable[[nn.Module, Any, Any], Any]:
        return lambda module, arguments, output: rounded(output, eps)

    least = product_epsilon(model)
    handles = [
        module.register_forward_hook(hook(max(least, epsilon(module, recurse=False))))
        for module in model.modules()
        if list(module.parameters(recurse=False)) or not list(module.children())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def epsilon(module: nn.Module, *, recurse: bool = True) -> float:
    """The machine epsilon of the coarsest dtype of a module's parameters, at least that of float32,
    in which model code makes its tables."""
    dtypes = {value.dtype for value in module.parameters(recurse) if value.is_floating_point()}
    return max(torch.finfo(dtype).eps for dtype in (*dtypes, torch.float32))


def product_epsilon(module: nn.Module) -> float:
    """The machine epsilon with which products of float32 are really worked out on the devices of a
    module, by trying: settings and autocast may shorten them to TF32 or bfloat16."""
    off = 0.0
    for device in {value.device for value in module.parameters()}:
        generator = torch.Generator(device).manual_seed(0)
        values = 1 + torch.rand(128, 128, generator=generator, device=device, dtype=torch.float32)
        same = torch.eye(128, device=device, dtype=torch.float32)
        convolved = torch.conv2d(values[None, :, :, None], same[:, :, None, None])[0, :, :, 0]
        off = max(off, *(float((product - values).abs().max()) for product in (values @ same, convolved)))
    return max(off, torch.finfo(torch.float32).eps)


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal; NaN equals NaN."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())


def gaps(expected: Tensor, found: Tensor) -> Tensor:
    """How far two outputs ``[..., features]`` are apart at each position: the RMS over the features,
    ``[positions]`` in float64. Entries that are infinite or NaN must be so in both, otherwise the
    gap is infinite.

    Example:
        >>> gaps(torch.tensor([[1.0, 2.0], [3.0, torch.inf]]), torch.tensor([[1.0, 2.0], [7.0, torch.inf]]))
        tensor([0.0000, 2.8284], dtype=torch.float64)
    """
    one, other = (value.double().reshape(-1, value.shape[-1]) for value in (expected, found))
    alike = (one == other) | (one.isnan() & other.isnan())
    square = torch.where(one.isfinite() & other.isfinite(), (one - other).square(), torch.where(alike, 0.0, torch.inf))
    return square.mean(-1).sqrt()


def rounding_floor(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    outputs: Outputs,
    samples: int,
    read: Callable[[str, Tensor], Tensor] = lambda name, value: value,
) -> dict[str, float]:
    """How far rounding moves each output: the RMS over positions and features, the largest of some
    samples, and at least one ulp.

    Args:
        model: in eval mode.
        inputs: keyword arguments of its ``forward``.
        outputs: what it returns for them without disturbance, each as ``read`` gives it.
        samples: how many times the model is run.
        read: (name, output) -> what is compared of it.
    """
    eps = max(epsilon(model), product_epsilon(model))
    floor = {}
    for name, value in outputs.items():
        ordinary = value[value.abs() < torch.finfo(value.dtype).max ** 0.5].double()  # not a mask's -1e38
        floor[name] = eps * float(ordinary.square().mean().sqrt()) if ordinary.numel() else 0.0
    for seed in range(samples):
        with disturbed(model, seed):
            moved = forward(model, inputs)
        for name, value in outputs.items():
            gap = gaps(value, read(name, moved[name]))
            gap = gap[gap.isfinite()]
            floor[name] = max(floor[name], float(gap.square().mean().sqrt()) if gap.numel() else 0.0)
    return floor


def excess(gap: float, floor: float) -> float:
    """A gap in units of what rounding explains: up to 1 is equal."""
    return 0.0 if gap == 0 else gap / floor / ORDER if floor else math.inf
