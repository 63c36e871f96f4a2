"""`growth.widen` of a model whose weights are spread over the ranks of a process group (FSDP2's
``fully_shard``, tensor parallelism): each rank holds a part of every weight.

The wider model is built without weights, sharded by the caller's function, given room for this rank's
parts, and filled one parameter at a time:

    gather the old one (collective) -> grow it -> write this rank's part -> gather that, compare

So a rank never holds more than its parts of the two models and one whole parameter: old and grown, or
grown twice. Every rank grows every tensor, by the same arithmetic as a single process.

Inside the context every module has the class that `fully_shard` replaced
(`growth.training.wrappers.own_classes`), so that a sharded model is like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from growth.errors import FOREIGN_ERRORS, ProofError, UnsupportedModelError
from growth.hf.custom_modules import inner_module
from growth.hf.dtensors import checksum, hollow, is_sharded, is_spread, put, whole
from growth.hf.inner_names import buffers_of, parameters_of, wrapped
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.plan import Plan
from growth.proof.rounding import same_values
from growth.proof.undisturbed import generators_kept
from growth.training.ranks import Elsewhere, Ranks
from growth.training.rebuild import load, rebuild, without_ties
from growth.training.unsharded import Unsharded
from growth.training.wrappers import own_classes, uncompiled
from growth.weights.fold import Fold
from growth.weights.model_weights import growing_tensors
from growth.weights.workers import working_on

Shard = Callable[[nn.Module], nn.Module | None]
"""A function that shards a model in place: ``fully_shard``, ``parallelize_module``."""


class Sharded(Unsharded):
    """The weights of a model that are, or will be, spread over ranks.

    Args:
        model: that grows.
        shard: shards a model of its class in place.
    """

    def __init__(self, model: nn.Module, shard: Shard) -> None:
        self._model, self._shard, self._ranks = model, shard, Ranks()
        self._taken = ExitStack()
        self._gathered: tuple[str, dict[str, Tensor]] = "", {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gathered = "", {}
        self._taken.close()
        try:
            if isinstance(error, Elsewhere):
                raise self._ranks.report(error) from None
            if error is None or isinstance(error, Exception):
                self._ranks.meet("the end", error)
        except Elsewhere as other:
            raise self._ranks.report(other) from None
        finally:
            self._ranks.close()

    def start(self, request: str) -> None:
        self._ranks.meet(request)
        self._take(self._model, "the model")

    def any_rank(self, failed: str) -> str:
        return self._ranks.meet("compare what the runs showed", failed=failed)

    def building(self) -> AbstractContextManager[None]:
        return _parameters_without_data()

    def state(self, stock: PreTrainedModel, in_memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return to_disk(stock, {name: hollow(value) for name, value in in_memory.items()})

    def read(self, value: Tensor, name: str) -> Tensor:
        every = "" if is_spread(value) else f", of which every rank has all (checksum {checksum(value)})"
        self._ranks.meet(f"gather {name} {list(value.shape)}{every}")
        return whole(value)

    def shared(self, same: PreTrainedModel, stock: PreTrainedModel) -> PreTrainedModel:
        """The class built anew, sharded like the model; where a weight is placed as the model's, it is that."""
        if not is_sharded(stock):
            self._take(inner_module(same), "the model built anew")
            return super().shared(same, stock)
        held, ties = without_ties(stock)
        load(same, {}, ties)
        trained = {name: value.requires_grad for name, value in parameters_of(stock).items()}
        for name, value in parameters_of(same).items():
            value.requires_grad_(trained.get(name, True))
        self._sharded(same, stock, ties, "the model built anew")
        if (now := wrapped(same)) != (was := wrapped(stock)):
            raise UnsupportedModelError(
                f"activation checkpointing wraps {_listed(was)} of this {type(stock).__name__}, and shard(model) "
                f"wraps {_listed(now)}. Wrap the same modules (checkpoint_wrapper) in shard."
            )
        parameters = parameters_of(same, remove_duplicate=False)
        alike = {
            name: value for name, value in held.items() if name not in parameters or _alike(value, parameters[name])
        }
        load(same, alike, ties)
        _allocate(same, ties, held)
        for name in (name for name in held if name not in alike):
            put(same.get_parameter(name), self.read(held[name].detach(), name))
        return same

    def grown(
        self,
        stock: PreTrainedModel,
        in_memory: Mapping[str, Tensor],
        plan: Plan,
        ties: dict[str, str],
        tables: torch.dtype,
        fold: Fold,
        allow_nonfinite: bool,
    ) -> PreTrainedModel:
        on_meta = {name: hollow(value) for name, value in in_memory.items()}
        source = {part: name for name, value in on_meta.items() for part in to_disk(stock, {name: value})}
        planned = {
            name: torch.empty(tensor.new_shape, dtype=plan.dtypes[name], device="meta")
            for name, tensor in plan.tensors.items()
        }
        with self.building():
            new = rebuild(stock, plan, planned, ties, tables)
        state, shared = without_ties(new)
        parts = {name: list(to_disk(new, {name: hollow(value)})) for name, value in state.items()}
        _check_parts(stock, plan, source, parts)
        trained = {name: value.requires_grad for name, value in parameters_of(new).items()}
        self._sharded(new, stock, shared, "the grown model")
        _allocate(new, shared, in_memory)
        tensors = {**parameters_of(new), **buffers_of(new)}
        read = plan.reading(lambda part: self._disk_tensor(stock, in_memory, source[part], part))
        with working_on(plan, in_memory.values()) as each:
            for name, held in parts.items():
                growing = growing_tensors(plan, held, read, plan.dtypes, fold, allow_nonfinite=allow_nonfinite)
                value = from_disk(new, {tensor.name: tensor.whole(each) for tensor in growing})[name]
                self._gathered = "", {}
                put(tensors[name], value)
                self._read_back(name, tensors[name], value)
        for name, trains in trained.items():
            new.get_parameter(name).requires_grad_(trains)
        return new

    def _disk_tensor(self, stock: PreTrainedModel, in_memory: Mapping[str, Tensor], name: str, part: str) -> Tensor:
        """A tensor by its name on disk, of the parameter in memory that holds it. The last one gathered is
        kept: a parameter may be several tensors on disk."""
        if self._gathered[0] != name:
            self._gathered = "", {}
            self._gathered = name, to_disk(stock, {name: self.read(in_memory[name].detach(), name)})
        return self._gathered[1][part]

    def _read_back(self, name: str, placed: Tensor, value: Tensor) -> None:
        """Refuse a parameter whose parts are not the grown one."""
        back = self.read(placed.detach(), name)
        if not same_values(back, value.to(back.device)):
            raise ProofError(
                f"the parts of '{name}' on all ranks are not the grown tensor, so nothing was kept. Please report "
                "this."
            )

    def _sharded(self, new: PreTrainedModel, stock: PreTrainedModel, ties: Mapping[str, str], what: str) -> None:
        """Shard a model by the caller's function.

        Raises:
            UnsupportedModelError: if that fails, or does something else.
        """
        module, buffers = inner_module(new), {name: value.clone() for name, value in buffers_of(new).items()}
        self._ranks.meet(f"shard {what}")
        try:
            with generators_kept(self._model):
                returned = self._shard(module)
        except FOREIGN_ERRORS as error:
            raise UnsupportedModelError(
                f"shard(model) failed on {what} ({type(error).__name__}: {str(error)[:300]}). It gets a model whose "
                "parameters have no data yet (device meta), and shards it in place, as fully_shard and "
                "parallelize_module do."
            ) from error
        if returned is not None and (not isinstance(returned, nn.Module) or uncompiled(returned) is not module):
            raise UnsupportedModelError(
                f"shard(model) returned another object ({type(returned).__name__}). It must shard the model in place "
                "(fully_shard, parallelize_module), and return it or nothing; wrap the grown model afterwards."
            )
        if not is_sharded(new):
            raise UnsupportedModelError(
                "shard(model) left every parameter as it was. It must shard the model in place (fully_shard, "
                "parallelize_module); leave it out for a model that is not sharded."
            )
        for name, tied in ties.items():
            if new.get_parameter(name) is not new.get_parameter(tied):
                raise UnsupportedModelError(
                    f"shard(model) parts '{name}' and '{tied}', which are tied in this {type(stock).__name__}. Shard "
                    "them together (fully_shard([one, other, ...])), or untie them before growing."
                )
        for name, value in buffers_of(new).items():  # shard may have emptied them (model.to_empty)
            if (held := buffers.get(name)) is not None and not held.is_meta:
                put(value, held) if is_spread(value) else value.copy_(held)
        self._take(inner_module(new), what)

    def _take(self, model: nn.Module, what: str) -> None:
        """Have a model's modules with their own classes and sharded weights, and let the ranks meet
        before it runs."""

        def before(module: nn.Module, arguments: Any, keywords: Any) -> None:
            asked = sorted(name for name, value in keywords.items() if value is not None and value is not False)
            self._ranks.meet(f"run {what} on {', '.join(asked)}")

        reshard = self._taken.enter_context(own_classes(model))
        # Without a backward pass the root stays gathered after a run, and whatever an error left gathered.
        for handle in (
            model.register_forward_pre_hook(before, prepend=True, with_kwargs=True),
            model.register_forward_hook(lambda *_: reshard(), always_call=True),
        ):
            self._taken.callback(handle.remove)


@contextmanager
def _parameters_without_data() -> Iterator[None]:
    """Inside, modules are built with parameters on the meta device, and with real buffers: tables
    that a constructor works out are in no checkpoint."""
    register = nn.Module.register_parameter

    def registered(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(hollow(param), param.requires_grad)
        register(self, name, param)

    nn.Module.register_parameter = registered  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _alike(value: Tensor, other: Tensor) -> bool:
    """Whether two tensors are spread in the same way."""
    if not isinstance(value, DTensor) or not isinstance(other, DTensor):
        return not is_spread(value) and not is_spread(other)
    return value.device_mesh == other.device_mesh and value.placements == other.placements


def _allocate(new: PreTrainedModel, ties: dict[str, str], old: Mapping[str, Tensor]) -> None:
    """Room for this rank's parts of what has no data: where the old model has its parts, or on the
    device of the mesh if that is not spread."""
    first = next(iter(old.values())).device
    made = {}
    for name, value in (parameters_of(new) | buffers_of(new)).items():
        if value.device.type == "meta":
            was = old.get(name)
            device = first if was is None else was.device
            if isinstance(value, DTensor) and not (was is not None and is_spread(was)):
                device = torch.device(value.device_mesh.device_type)
            made[name] = torch.empty_like(value, device=device)
    load(new, made, ties)


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:3]) + (" ..." if len(names) > 3 else "") or "nothing"


def _check_parts(
    stock: PreTrainedModel, plan: Plan, source: Mapping[str, str], parts: Mapping[str, list[str]]
) -> None:
    """Refuse a model whose parameters cannot be taken one by one."""
    sources = {plan.part(part).source for held in parts.values() for part in held if part in plan.tensors}
    strange = [name for name, held in parts.items() if any(part not in plan.tensors for part in held)]
    if strange or (lost := sources - source.keys()):
        raise UnsupportedModelError(
            f"'{(strange or sorted(lost))[0]}' of this {type(stock).__name__} does not grow by itself (a table that "
            "the model computes, or a part of a larger tensor on disk), so it cannot while the model is sharded. Save "
            "a full checkpoint, grow that (grow widen SRC DST), and shard the model you load from it."
        )
