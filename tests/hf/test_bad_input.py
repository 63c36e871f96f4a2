"""What a damaged source gets: a named one-line error with the next step, before anything is
written, and a source that is as it was."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import growth
from growth import CheckpointError, GrowthError, UnsupportedModelError
from support.damage import (
    INDEX,
    QUERY,
    SHARD,
    Case,
    added,
    binary,
    both,
    config,
    dropped,
    file,
    gone,
    indexed,
    pickled,
    rejected,
    replaced,
    tensors,
    truncated_pickle,
    unvouched,
    weights,
    without,
)
from support.refusals import Sources, offline, refused, sources
from support.small_models import llama

__all__ = ["offline", "sources"]  # fixtures, the first for every test here

CONFIGS = [
    Case("no config", gone("config.json"), CheckpointError, ("has no config.json",)),
    Case(
        "config is cut short",
        file("config.json", b'{"model_type": "llama",\n'),
        CheckpointError,
        ("config.json", "not readable JSON"),
    ),
    Case(
        "config is not text",
        file("config.json", b"\xff\xfe\x00"),
        CheckpointError,
        ("config.json", "not readable JSON"),
    ),
    Case("config is a list", file("config.json", b"[]"), CheckpointError, ("config.json", "JSON object")),
    Case(
        "config is nested too deep",
        file("config.json", b"[" * 100_000),
        CheckpointError,
        ("config.json", "not readable JSON"),
    ),
    Case("no model_type", without("model_type"), UnsupportedModelError, ("'model_type'",)),
    Case("null model_type", config(model_type=None), UnsupportedModelError, ("'model_type'",)),
    rejected("unknown model_type", ("'nonsense'",), model_type="nonsense"),
    Case(
        "undeclared model_type",
        config(model_type="mamba", architectures=["MambaForCausalLM"]),
        UnsupportedModelError,
        ("'mamba'", "the file's tensors are not those of a MambaForCausalLM", "a rule in 'llama'"),
        step="Correct 'model_type' and 'architectures'",
    ),
    rejected("model_type is a list", ("model_type",), model_type=["llama"]),
    rejected("model_type is a number", ("model_type",), model_type=5),
    unvouched("residual_multiplier", 2.0),
    unvouched("note", "two\nlines"),
    unvouched("rope_interleaved", True),
    unvouched("logit_scale", 2.0),
    unvouched("pruned_heads", {"0": [1]}),
    unvouched("position_embedding_type", "relative_key", "bert"),
    unvouched("add_cross_attention", True, "bert"),
    rejected("hidden_size is text", ("hidden_size",), hidden_size="24"),
    rejected("hidden_size is zero", ("hidden_size", "0"), hidden_size=0),
    rejected("hidden_size does not divide", ("25", "4"), hidden_size=25),
    rejected("no heads", num_attention_heads=0),
    rejected("no key/value heads", ("0",), num_key_value_heads=0),
    rejected("negative key/value heads", ("-2",), num_key_value_heads=-2),
    rejected("key/value heads do not divide", ("4 heads", "3 key/value heads"), num_key_value_heads=3),
    rejected("head_dim is zero", ("head_dim",), head_dim=0),
    rejected("head_dim is negative", ("head_dim", "-6"), head_dim=-6),
    rejected("intermediate_size is negative", ("intermediate_size", "-1"), intermediate_size=-1),
    rejected("architectures names nothing", ("'Nope'", "'architectures'"), architectures=["Nope"]),
    rejected("architectures is text", ("architectures",), architectures="LlamaForCausalLM"),
    rejected("architectures holds a number", ("architectures",), architectures=[5]),
    rejected("architectures of another family", ("BertForMaskedLM",), architectures=["BertForMaskedLM"]),
    rejected("architectures is abstract", ("LlamaPreTrainedModel",), architectures=["LlamaPreTrainedModel"]),
    rejected("unknown activation", ("nonsense",), hidden_act="nonsense"),
    rejected("unknown activation of bert", ("nonsense",), base="bert", hidden_act="nonsense"),
    rejected("unknown rotary kind", ("nonsense",), rope_parameters={"rope_type": "nonsense", "rope_theta": 1e4}),
    rejected("rotary base is text", rope_parameters={"rope_type": "default", "rope_theta": "x"}),
    rejected("rotary factor missing", ("factor",), rope_parameters={"rope_type": "linear", "rope_theta": 1e4}),
    rejected("epsilon is text", ("rms_norm_eps",), rms_norm_eps="x"),
    rejected("gptq", ("gptq",), quantization_config={"quant_method": "gptq", "bits": 4}),
    rejected("awq", ("awq",), quantization_config={"quant_method": "awq", "bits": 4}),
    rejected("fp8 config", ("fp8",), quantization_config={"quant_method": "fp8"}),
]

TENSORS = [
    Case("no weights", gone("model.safetensors"), CheckpointError, ("has no weights", "model.safetensors")),
    Case(
        "unknown tensor",
        added("model.layers.0.adapter.weight", torch.zeros(3, 3)),
        UnsupportedModelError,
        ("layers.0.adapter.weight", "no rule"),
    ),
    Case(
        "unknown tensor over two lines", added("model.ada\npter", torch.zeros(3)), UnsupportedModelError, ("no rule",)
    ),
    Case(
        "bias of the wrong size",
        added("model.layers.0.mlp.up_proj.bias", torch.zeros(41)),
        CheckpointError,
        ("model.layers.0.mlp.up_proj.bias", "41", "40"),
    ),
    Case("missing matrix", dropped(QUERY), CheckpointError, ("layers.1.self_attn.q_proj.weight", "missing")),
    Case(
        "missing embedding", dropped("model.embed_tokens.weight"), CheckpointError, ("embed_tokens.weight", "missing")
    ),
    Case("missing head", dropped("lm_head.weight"), CheckpointError, ("lm_head.weight", "missing")),
    Case(
        "missing bias",
        dropped("cls.predictions.bias"),
        CheckpointError,
        ("cls.predictions.bias", "missing"),
        base="bert",
    ),
    Case(
        "class that was not saved",
        config(architectures=["LlamaForSequenceClassification"]),
        CheckpointError,
        ("score.weight", "LlamaForSequenceClassification", "missing"),
    ),
    Case("more layers than tensors", config(num_hidden_layers=3), CheckpointError, ("layers.2.", "missing")),
    Case(
        "wrong shape", replaced(QUERY, lambda old: old[:23].clone()), CheckpointError, (QUERY, "[23, 24]", "[24, 24]")
    ),
    Case(
        "too many dimensions",
        replaced(QUERY, lambda old: old[None].clone()),
        CheckpointError,
        (QUERY, "[1, 24, 24]", "[24, 24]"),
    ),
    Case(
        "scalar",
        replaced("model.norm.weight", lambda old: old[0].clone()),
        CheckpointError,
        ("model.norm.weight", "[]", "[24]"),
    ),
    Case("no rows", replaced(QUERY, lambda old: old[:0].clone()), CheckpointError, (QUERY, "[0, 24]", "[24, 24]")),
    Case("config of another size", config(hidden_size=48, head_dim=6), CheckpointError, ("[60, 24]", "[60, 48]")),
    *(
        Case(f"dtype {dtype}", replaced(QUERY, lambda old, dtype=dtype: old.to(dtype)), CheckpointError, (QUERY, said))  # type: ignore[misc]
        for dtype, said in (
            (torch.int8, "I8"),
            (torch.int16, "I16"),
            (torch.int32, "I32"),
            (torch.float8_e4m3fn, "F8_E4M3"),
            (torch.float8_e5m2, "F8_E5M2"),
            (torch.complex64, "C64"),
        )
    ),
    *(
        Case(
            f"dtype {dtype}",
            replaced(QUERY, lambda old, dtype=dtype: old.to(dtype)),  # type: ignore[misc]
            CheckpointError,
            (QUERY, str(dtype)),
            planned=False,
        )
        for dtype in (torch.uint8, torch.int64, torch.bool)
    ),
    *(
        Case(
            f"holds {value}",
            replaced(QUERY, lambda old, value=value: old.index_fill(0, torch.tensor([3]), value)),  # type: ignore[misc]
            CheckpointError,
            (QUERY, "NaN or infinity", "--allow-nonfinite"),
            planned=False,
        )
        for value in (float("nan"), float("inf"), float("-inf"))
    ),
    Case(
        "NaN in the last tensor",
        replaced("model.norm.weight", lambda old: old * float("nan")),
        CheckpointError,
        ("model.norm.weight",),
        planned=False,
        options={"max_shard_size": "50KB"},
    ),
    Case(
        "too large for float16",
        replaced(QUERY, lambda old: old * 1e7),
        GrowthError,
        (QUERY, "float16"),
        step=r"^(?!.*report).*(--dtype|[Uu]se|[Cc]hoose)",
        planned=False,
        options={"dtype": "float16"},
    ),
    Case(
        "too large for float16, though non-finite weights may pass",
        replaced(QUERY, lambda old: old * 1e7),
        GrowthError,
        (QUERY, "float16"),
        planned=False,
        options={"dtype": "float16", "allow_nonfinite": True},
    ),
]

FILES = [
    *(
        Case(
            f"safetensors cut to {length}",
            weights(lambda data, length=length: data[:length]),  # type: ignore[misc]
            CheckpointError,
            ("model.safetensors", "not a whole safetensors file"),
        )
        for length in (0, 4, 8, 100, -1, -5000)
    ),
    Case(
        "safetensors header is junk",
        weights(lambda data: data[:8] + b"\xff" * 64 + data[72:]),
        CheckpointError,
        ("model.safetensors", "header"),
    ),
    Case(
        "safetensors header is too long",
        weights(lambda data: struct.pack("<Q", 2**60) + data[8:]),
        CheckpointError,
        ("model.safetensors", "header"),
    ),
    Case(
        "safetensors tensors overlap",
        weights(lambda data: data.replace(b'"data_offsets":[0,', b'"data_offsets":[4,')),
        CheckpointError,
        ("model.safetensors",),
    ),
    Case("safetensors has a tail", weights(lambda data: data + bytes(64)), CheckpointError, ("model.safetensors",)),
    Case(
        "pointer of a file not fetched",
        weights(lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        CheckpointError,
        ("model.safetensors",),
    ),
    Case(
        "index names a missing shard",
        indexed({QUERY: "gone.safetensors"}),
        CheckpointError,
        (INDEX, "'gone.safetensors'", QUERY),
    ),
    Case("index name is too long", indexed({QUERY: "x" * 300}), CheckpointError, (INDEX, QUERY)),
    *(
        Case(
            f"index points to {shard!r}",
            indexed({QUERY: shard}),
            CheckpointError,
            (INDEX, f"'{shard}'", QUERY, "not followed"),
        )
        for shard in ("../llama/model.safetensors", "/etc/passwd", "below/x.safetensors", f"./{SHARD}", "..", ".", "")
    ),
    Case(
        "index names a tensor the shard lacks",
        indexed({QUERY: SHARD, "gone.weight": SHARD}),
        CheckpointError,
        ("'gone.weight'", SHARD),
    ),
    *(
        Case(f"index is {index}", indexed(index), CheckpointError, (INDEX, "'weight_map'"))
        for index in ({}, [], {"weight_map": []}, {"weight_map": {"x": 5}})
    ),
    Case("index is cut short", both(indexed({}), file(INDEX, b'{"we')), CheckpointError, (INDEX, "not readable JSON")),
    Case(
        "pickle is a module",
        pickled(lambda state: nn.Linear(2, 2)),
        CheckpointError,
        ("pytorch_model.bin", "full unpickling"),
    ),
    Case(
        "pickle is a list", pickled(lambda state: [1]), CheckpointError, ("pytorch_model.bin", "dictionary of tensors")
    ),
    Case(
        "pickle is nested",
        pickled(lambda state: {"state_dict": state}),
        CheckpointError,
        ("pytorch_model.bin", "dictionary of tensors"),
    ),
    Case(
        "pickle has a number for a name",
        pickled(lambda state: {**state, 5: torch.zeros(2)}),
        CheckpointError,
        ("pytorch_model.bin",),
    ),
    Case(
        "pickle has a sparse tensor",
        pickled(lambda state: {**state, QUERY: state[QUERY].to_sparse()}),
        CheckpointError,
        ("pytorch_model.bin",),
    ),
    Case(
        "pickle has a tensor without data",
        pickled(lambda state: {**state, QUERY: state[QUERY].to("meta")}),
        CheckpointError,
        ("pytorch_model.bin",),
    ),
    Case("pickle is cut short", truncated_pickle, CheckpointError, ("pytorch_model.bin",)),
    Case("pickle is junk", binary(b"junk"), CheckpointError, ("pytorch_model.bin",)),
    Case("pickle is empty", binary(b""), CheckpointError, ("pytorch_model.bin", "empty")),
    Case("pickle is half a zip", binary(b"PK\x03\x04junk"), CheckpointError, ("pytorch_model.bin",)),
]


@pytest.mark.parametrize("case", [*CONFIGS, *TENSORS, *FILES], ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore:.*pickle protocol:UserWarning", "ignore:Initializing zero-element:UserWarning")
def test_source_is_refused(case: Case, sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources[case.base], tmp_path / "from" / "source"))
    case.damage(source)
    (tmp_path / "to").mkdir()
    refused(
        source, tmp_path / "to" / "wide", case.error, *case.says, step=case.step, planned=case.planned, **case.options
    )
    assert not list((tmp_path / "to").iterdir())


def test_bert_that_chunks_its_feed_forward_is_not_bad_input(sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["bert"], tmp_path / "source"))
    config(chunk_size_feed_forward=4)(source)
    assert growth.widen_checkpoint(source, tmp_path / "wide").proof.twin.ok


def strict_json(path: Path) -> Any:
    """JSON by the standard, which knows no NaN and no Infinity."""

    def unknown(constant: str) -> None:
        raise AssertionError(f"{path.name} holds {constant}")

    return json.loads(path.read_text(), parse_constant=unknown)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_nonfinite_weight_is_carried_over_on_request(
    value: float, noise: float, sources: Sources, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    tensors(lambda state: state[QUERY][0, 0].fill_(value))(source)
    grown = growth.widen_checkpoint(source, tmp_path / "wide", noise=noise, allow_nonfinite=True)
    written = load_file(grown.path / "model.safetensors")
    assert int((~written[QUERY].isfinite()).sum()) == 4, "one weight has four copies"
    assert all(bool(tensor.isfinite().all()) for name, tensor in written.items() if name != QUERY)
    strict_json(grown.path / "growth.json")


def test_a_model_where_a_folder_is_wanted(tmp_path: Path) -> None:
    model = llama()
    with pytest.raises(CheckpointError, match=r"not a LlamaForCausalLM\. Name its folder; .* growth\.widen\.$"):
        growth.widen_checkpoint(model, tmp_path / "wide")  # type: ignore[arg-type]
    assert growth.plan_widening(model).new_sizes["hidden_size"] == 2 * model.config.hidden_size
