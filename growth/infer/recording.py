"""The operations of a forward pass, and those of two models side by side.

Two runs of one class at two sizes do the same operations in the same order, on other shapes. What does not depend on
any parameter (masks, positions, rotary tables) is left out: those tensors are constants, and looked at where they meet
something that does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from growth.infer.errors import Differs


@dataclass(eq=False)
class Call:
    """One operation of one run.

    Args:
        op: of torch's dispatcher (``aten.mm.default``).
        arguments: by name, defaults included.
        out: what it returned.
        module: name of the module that called it.
    """

    op: Any
    arguments: dict[str, Any]
    out: Any
    module: str

    def tensors(self) -> Iterator[Tensor]:
        """The tensors among the arguments and the results."""
        yield from tensors_in(self.arguments.values())
        yield from tensors_in([self.out])


@dataclass(eq=False)
class Recording:
    """One run.

    Args:
        calls: its operations, in order.
        outputs: what the model returned, by name; tensors inside tuples are numbered (``hidden_states.2``).
        held: name -> parameter or stored buffer.
    """

    calls: list[Call]
    outputs: Mapping[str, Tensor]
    held: Mapping[str, Tensor]
    varying: set[int] = field(default_factory=set)
    """Addresses of the storages whose contents depend on what the model holds."""

    def __post_init__(self) -> None:
        self.varying = {_storage(value) for value in self.held.values()}
        for _ in range(2):  # twice: a buffer may be filled with a varying value after a view of it was taken
            for call in self.calls:
                if any(_storage(t) in self.varying for t in tensors_in(call.arguments.values())):
                    self.varying.update(_storage(t) for t in tensors_in([call.out]))
                    self.varying.update(_storage(t) for t in _written(call))

    def depending(self) -> list[Call]:
        """The calls that what the model holds has a part in."""
        return [call for call in self.calls if any(_storage(t) in self.varying for t in call.tensors())]


TURNED = ("transpose_", "t_", "squeeze_", "unsqueeze_", "swapaxes_", "swapdims_")
"""Operations that change the shape of a tensor in place."""


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.modules: list[str] = [""]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = _by_name(func, args, kwargs or {})
        if func._schema.name.partition("::")[2] in TURNED:
            named["self"] = self._as_it_was(args[0])
        out = func(*args, **(kwargs or {}))
        self.calls.append(Call(func, named, out, self.modules[-1]))
        return out

    def _as_it_was(self, value: Tensor) -> Tensor:
        """A tensor whose shape is about to change, in its old shape: it stands for it in all calls so far."""
        old = value.detach()
        for call in self.calls:
            call.arguments = {name: _replaced(argument, value, old) for name, argument in call.arguments.items()}
            call.out = _replaced(call.out, value, old)
        return old


def record(model: nn.Module, inputs: Mapping[str, Any], held: Mapping[str, Tensor]) -> Recording:
    """Run a model and record its operations.

    Args:
        model: in float64, in eval mode; under `growth.proof.float64.exact_arithmetic`.
        inputs: keyword arguments of its ``forward``.
        held: its parameters and stored buffers by name.

    Example:
        >>> layer = nn.Linear(3, 4, bias=False)
        >>> run = record(layer, {"input": torch.ones(2, 3)}, {"weight": layer.weight})
        >>> [short(call) for call in run.calls], [*run.outputs]
        (['t', 'mm'], ['0'])
    """
    recorder = _Recorder()
    handles = []

    def enter(name: str) -> Any:
        return lambda *_: recorder.modules.append(name)

    def leave(*_: Any) -> None:
        recorder.modules.pop()

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        with torch.no_grad(), recorder:
            out = model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return Recording(recorder.calls, dict(_named(out)), held)


def side_by_side(small: Recording, wide: Recording) -> list[tuple[Call, Call | None]]:
    """The calls of two runs in pairs; a copy may be in the first run alone.

    Raises:
        Unexplained: if they do not do the same operations.

    Example:
        >>> x = torch.ones(2, 3)
        >>> runs = [nn.Linear(3, width, bias=False) for width in (4, 8)]
        >>> one, other = (record(layer, {"input": x}, {"weight": layer.weight}) for layer in runs)
        >>> [short(call) for call, _ in side_by_side(one, other)]
        ['t', 'mm']
    """
    pairs: list[tuple[Call, Call | None]] = []
    first, second = small.depending(), wide.depending()
    i = j = 0
    while i < len(first) or j < len(second):
        one, other = first[i] if i < len(first) else None, second[j] if j < len(second) else None
        if one is not None and other is not None and _same(one, other):
            pairs.append((one, other))
            i, j = i + 1, j + 1
        elif one is not None and short(one) in COPIES:
            pairs.append((one, None))
            i += 1
        elif other is not None and short(other) in COPIES:
            j += 1
        elif one is not None and other is not None:
            raise Differs(
                f"module '{one.module or 'the model'}': after the same operations the small model does "
                f"'{short(one)}' and a wider one '{short(other)}', as where every head has a module of its own"
            )
        else:
            raise Differs("the model does a number of operations that depends on its width")
    return pairs


def _same(one: Call, other: Call) -> bool:
    return one.op is other.op or {short(one), short(other)} <= VIEWS


VIEWS = {"view", "_unsafe_view", "reshape"}
"""Operations that do the same."""


COPIES = ("clone", "_to_copy", "detach", "alias")
"""Operations that a run may have one more of: whether `reshape` must copy depends on sizes."""


def short(call: Call) -> str:
    """The name of its operation: ``mm``.

    Example:
        >>> layer = nn.Linear(3, 4, bias=False)
        >>> short(record(layer, {"input": torch.ones(2, 3)}, {}).calls[-1])
        'mm'
    """
    return str(call.op._schema.name.partition("::")[2])


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and mappings.

    Example:
        >>> len([*tensors_in([1, [torch.ones(2), torch.ones(3)]])])
        2
    """
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
        elif isinstance(value, Mapping):
            yield from tensors_in(value.values())


def _by_name(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for position, argument in enumerate(func._schema.arguments):
        if position < len(args):
            named[argument.name] = args[position]
        else:
            named[argument.name] = kwargs.get(argument.name, argument.default_value)
    return named


def _replaced(value: Any, old: Tensor, new: Tensor) -> Any:
    if value is old:
        return new
    if type(value) in (list, tuple):
        return type(value)(_replaced(entry, old, new) for entry in value)
    return value


def _written(call: Call) -> Iterator[Tensor]:
    for argument in call.op._schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors_in([call.arguments[argument.name]])


def _storage(value: Tensor) -> int:
    return int(value.untyped_storage()._cdata)


def _named(out: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(out, Tensor):
        yield name or "0", out
    elif isinstance(out, Mapping):
        for key, value in out.items():
            yield from _named(value, f"{name}.{key}".lstrip("."))
    elif isinstance(out, (tuple, list)):
        for number, value in enumerate(out):
            yield from _named(value, f"{name}.{number}".lstrip("."))
