"""Ways to shard a model of transformers over the ranks of the default process group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module


def _mesh(*shape: int) -> DeviceMesh:
    return init_device_mesh("cpu", shape, mesh_dim_names=("outer", "inner")[: len(shape)])


def _fully(model: Any, mesh: DeviceMesh, **settings: Any) -> None:
    """Layer by layer, as torch's tutorials do."""
    for layer in model.model.layers if hasattr(model, "model") else model.transformer.h:
        fully_shard(layer, mesh=mesh, **settings)
    fully_shard(model, mesh=mesh, **settings)


def _parallel(model: Any, mesh: DeviceMesh) -> None:
    """Megatron's plan: every pair of matrices by columns, then by rows."""
    columns, rows = (
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"),
        (
            "self_attn.o_proj",
            "mlp.down_proj",
        ),
    )
    plan = {**{name: ColwiseParallel() for name in columns}, **{name: RowwiseParallel() for name in rows}}
    for layer in model.model.layers:
        parallelize_module(layer, mesh, plan)


def fsdp(**settings: Any) -> Callable[[Any], None]:
    return lambda model: _fully(model, _mesh(distributed.get_world_size()), **settings)


def hsdp(outer: int = 1) -> Callable[[Any], None]:
    return lambda model: _fully(model, _mesh(outer, distributed.get_world_size() // outer))


def half(model: Any) -> nn.Module:
    """Computes in bfloat16; and returns the model."""
    fsdp(mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32))(model)
    return model


def offloaded(model: Any) -> None:
    fsdp(offload_policy=CPUOffloadPolicy(pin_memory=False))(model)


def tensor_parallel(model: Any) -> None:
    _parallel(model, _mesh(1, distributed.get_world_size())["inner"])


def vocabulary_parallel(model: Any) -> None:
    """The embedding by rows, and logits that stay spread over the ranks."""
    mesh = _mesh(1, distributed.get_world_size())["inner"]
    _parallel(model, mesh)
    head = ColwiseParallel(output_layouts=Shard(-1), use_local_output=False)
    parallelize_module(
        model, mesh, {"model.embed_tokens": RowwiseParallel(input_layouts=Replicate()), "lm_head": head}
    )


def both(outer: int = 1) -> Callable[[Any], None]:
    """Tensor parallelism inside FSDP."""

    def shard(model: Any) -> None:
        mesh = _mesh(outer, distributed.get_world_size() // outer)
        _parallel(model, mesh["inner"])
        _fully(model, mesh["outer"])

    return shard


def checkpointed(model: Any) -> None:
    """With activation checkpointing of the first layer, as torchtitan has it."""
    model.model.layers[0] = checkpoint_wrapper(model.model.layers[0])
    fsdp()(model)


def emptied(model: Any) -> None:
    """As torchtitan does, which gives room to the parameters itself."""
    fsdp()(model)
    model.to_empty(device="cpu")
