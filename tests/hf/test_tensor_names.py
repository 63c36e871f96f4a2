"""`to_disk` against the files that ``save_pretrained`` writes, `from_disk` against the models that
``from_pretrained`` makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from growth.errors import CheckpointError
from growth.hf.tensor_names import from_disk, to_disk
from growth.proof.float64 import exact_arithmetic
from support.tensor_name_cases import BERT, CASES, QWEN_VL_MOE

every_case = pytest.mark.parametrize(("model_class", "config", "on_disk"), CASES, ids=[name for name, _, _ in CASES])


def build(model_class: str, config: Mapping[str, Any]) -> PreTrainedModel:
    torch.manual_seed(3)
    cls = getattr(transformers, model_class)
    model: PreTrainedModel = cls(cls.config_class(**config)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data)  # no two parameters are equal, not even biases
    return model


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def assert_same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype and tensor.device == right[name].device, name
        assert torch.equal(tensor, right[name]), name


def assert_written(model: PreTrainedModel, file: Path) -> None:
    """The file has exactly the tensors of `to_disk`, except that a tied tensor may be left out."""
    written = load_file(file)
    disk = to_disk(model, model.state_dict())
    assert (
        disk.keys() - written.keys()
        <= to_disk(model, {name: model.state_dict()[name] for name in model.all_tied_weights_keys}).keys()
    )
    assert_same(written, {name: disk[name] for name in written})


@every_case
def test_round_trip_keeps_every_bit(
    model_class: str, config: dict[str, Any], on_disk: dict[str, tuple[int, ...]]
) -> None:
    model = build(model_class, config)
    dtypes = itertools.cycle([torch.bfloat16, torch.float16, torch.float64, torch.float32])
    chosen = {block: next(dtypes) for block in sorted({name.rsplit(".", 2)[0] for name in model.state_dict()})}
    state = {name: tensor.to(chosen[name.rsplit(".", 2)[0]]) for name, tensor in model.state_dict().items()}
    assert_same(from_disk(model, to_disk(model, state)), state)
    with exact_arithmetic():
        disk = to_disk(model, state)
        assert {tensor.dtype for tensor in disk.values()} == set(chosen.values())
        assert_same(from_disk(model, disk), state)


@every_case
def test_disk_is_what_is_written_and_read(
    model_class: str, config: dict[str, Any], on_disk: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    model = build(model_class, config)
    model.save_pretrained(tmp_path / "first")
    assert_written(model, tmp_path / "first" / "model.safetensors")
    loaded = type(model).from_pretrained(tmp_path / "first")
    assert_same(loaded.state_dict(), model.state_dict())
    assert_written(loaded, tmp_path / "first" / "model.safetensors")
    read = from_disk(loaded, load_file(tmp_path / "first" / "model.safetensors"))
    assert loaded.state_dict().keys() - read.keys() <= loaded.all_tied_weights_keys.keys()
    assert_same(read, {name: loaded.state_dict()[name] for name in read})
    loaded.save_pretrained(tmp_path / "second")
    assert_written(loaded, tmp_path / "second" / "model.safetensors")


@every_case
def test_meta_tensors_show_names_and_shapes(
    model_class: str, config: dict[str, Any], on_disk: dict[str, tuple[int, ...]]
) -> None:
    model = build(model_class, config)
    state, disk = model.state_dict(), to_disk(model, model.state_dict())
    with torch.device("meta"):
        meta = build(model_class, config).to("meta")  # XLNet ignores the default device
    for owner in (model, meta):
        shown = to_disk(owner, meta.state_dict())
        assert shapes(shown) == shapes(disk)
        assert shapes(from_disk(owner, shown)) == shapes(state)
        assert all(tensor.is_meta for tensor in shown.values())
    assert_same(from_disk(meta, to_disk(meta, state)), state)


@every_case
def test_names_on_disk(model_class: str, config: dict[str, Any], on_disk: dict[str, tuple[int, ...]]) -> None:
    model = build(model_class, config)
    state, disk = model.state_dict(), to_disk(model, model.state_dict())
    assert bool(on_disk) == (disk.keys() != state.keys())
    assert not on_disk.keys() & state.keys() and on_disk.items() <= shapes(disk).items()
    assert_same(from_disk(model, state), state)  # names that are already those in memory


def test_experts_are_in_order() -> None:
    model = build("MixtralForCausalLM", CASES[0][1])
    gate_up = model.state_dict()["model.layers.0.mlp.experts.gate_up_proj"]
    disk = to_disk(model, model.state_dict())
    for expert in range(12):
        for name, half in (("w1", slice(12)), ("w3", slice(12, 24))):
            assert torch.equal(
                disk[f"model.layers.0.block_sparse_moe.experts.{expert}.{name}.weight"], gate_up[expert, half]
            )


def test_experts_that_published_checkpoints_store_transposed_are_transposed() -> None:
    model = build("Qwen3VLMoeForConditionalGeneration", QWEN_VL_MOE)
    state = model.state_dict()
    published = {name: tensor.transpose(1, 2) if ".experts." in name else tensor for name, tensor in state.items()}
    assert shapes(published) != shapes(state)
    assert_same(from_disk(model, published), state)


def test_the_checkpoint_a_model_came_from_does_not_matter(tmp_path: Path) -> None:
    for model_class, old in (
        (
            "BertModel",
            lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ),
        ),
        ("CLIPTextModel", lambda name: f"text_model.{name}"),
    ):
        model = build(model_class, BERT)
        model.save_pretrained(tmp_path / model_class)
        save_file(
            {old(name): tensor for name, tensor in model.state_dict().items()},
            tmp_path / model_class / "model.safetensors",
        )
        loaded = type(model).from_pretrained(tmp_path / model_class)
        assert_same(loaded.state_dict(), model.state_dict())
        before = list(loaded._weight_conversions)
        assert before  # save_pretrained would write the old names again
        assert_same(to_disk(loaded, loaded.state_dict()), model.state_dict())
        assert loaded._weight_conversions == before
        assert "_weight_conversions" not in vars(model)


def test_unknown_names_pass() -> None:
    model = build("MixtralForCausalLM", CASES[0][1])
    stray = {"model.layers.0.mlp.stray": torch.ones(2), "stray.weight": torch.ones(3, dtype=torch.int64)}
    assert_same(from_disk(model, stray), stray)


def test_parts_that_do_not_fit_together() -> None:
    model = build("MixtralForCausalLM", CASES[0][1])
    disk = to_disk(model, model.state_dict())
    part = "model.layers.1.block_sparse_moe.experts.4.w1.weight"
    with pytest.raises(
        CheckpointError, match=r"gate_up_proj' is stored in parts of dtypes torch\.bfloat16, torch\.float32"
    ):
        from_disk(model, {**disk, part: disk[part].bfloat16()})
    for broken in ({**disk, part: disk[part][:3]}, {name: tensor for name, tensor in disk.items() if name != part}):
        with pytest.raises(
            CheckpointError, match=r"layers\.1\.mlp\.experts\.gate_up_proj' cannot be built from its .* stored parts"
        ):
            from_disk(model, broken)
