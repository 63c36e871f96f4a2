"""What bad input gets: a named one-line error with the next step, before anything is written, and a source that is as it was."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

import growth
from growth import CheckpointError, GrowthError, IllegalGrowthError, UnsupportedModelError

QUERY = "model.layers.1.self_attn.q_proj.weight"
SHARD = "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"
VERBS = "add|check|choose|convert|fetch|free|load|lower|move|name|remove|repair|save|say|set|spell|take|unwrap|upgrade|use|widen"
NEXT_STEP = re.compile(rf"[.;,] ({VERBS}) ", re.IGNORECASE)

Damage = Callable[[Path], None]
Sources = dict[str, Path]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Small real checkpoints; tests copy them."""
    folder = tmp_path_factory.mktemp("sources")
    for name, model in (("llama", llama()), ("bert", bert())):
        model.save_pretrained(folder / name)
    return {"llama": folder / "llama", "bert": folder / "bert"}


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 60, "max_position_embeddings": 64}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)).eval()


def bert() -> BertForMaskedLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 60, "max_position_embeddings": 64}
    return BertForMaskedLM(BertConfig(num_attention_heads=4, **sizes)).eval()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder, by hash."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        else:
            found[name] = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def check_message(message: str, says: tuple[str, ...], step: str | None = None) -> None:
    assert "\n" not in message and message.endswith("."), message
    for part in says:
        assert part in message, f"{part!r} is not in: {message}"
    assert re.search(step, message) if step else NEXT_STEP.search(message), f"no next step: {message}"


def refused(
    source: Path | str,
    target: Path,
    error: type[GrowthError],
    *says: str,
    step: str | None = None,
    planned: bool = True,
    **options: Any,
) -> None:
    """Assert that widening ``source`` is refused and nothing beside ``target`` changes; ``planned``: that planning is, too."""
    home = target.parent
    while not home.is_dir():
        home = home.parent
    before = snapshot(home)
    there = snapshot(Path(source)) if os.path.isdir(source) else None
    with pytest.raises(GrowthError) as caught:
        growth.widen_checkpoint(source, target, **options)
    assert type(caught.value) is error or error is GrowthError
    check_message(str(caught.value), says, step)
    assert snapshot(home) == before
    assert not list(home.glob(".*growing*"))
    assert there is None or snapshot(Path(source)) == there
    if planned:
        with pytest.raises(GrowthError) as again:
            growth.plan_widening(source, **{name: value for name, value in options.items() if name != "overwrite"})
        assert str(again.value) == str(caught.value)


def config(**changes: Any) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def without(*fields: str) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in fields}))

    return damage


def file(name: str, content: bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


def both(first: Damage, second: Damage) -> Damage:
    def damage(folder: Path) -> None:
        first(folder)
        second(folder)

    return damage


def gone(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()

    return damage


def tensors(change: Callable[[dict[str, Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def replaced(name: str, change: Callable[[Tensor], Tensor]) -> Damage:
    return tensors(lambda state: state.update({name: change(state[name])}))


def added(name: str, tensor: Tensor) -> Damage:
    return tensors(lambda state: state.update({name: tensor}))


def dropped(name: str) -> Damage:
    return tensors(lambda state: state.pop(name))


def weights(change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return damage


def indexed(index: Any) -> Damage:
    """One shard under an index; ``{QUERY: name}`` moves that tensor to a shard of that name."""

    def damage(folder: Path) -> None:
        names = load_file(folder / "model.safetensors")
        os.rename(folder / "model.safetensors", folder / SHARD)
        whole = {"weight_map": {**dict.fromkeys(names, SHARD), **index}} if isinstance(index, dict) and QUERY in index else index
        (folder / INDEX).write_text(json.dumps(whole))

    return damage


class RunsCode:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def pickled(content: Callable[[dict[str, Tensor]], Any], zipped: bool = True) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save(content(state), folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)

    return damage


def binary(content: bytes) -> Damage:
    return both(gone("model.safetensors"), file("pytorch_model.bin", content))


def truncated_pickle(folder: Path) -> None:
    pickled(lambda state: state)(folder)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-3000])


@dataclass(frozen=True)
class Case:
    name: str
    damage: Damage
    error: type[GrowthError]
    says: tuple[str, ...]
    base: str = "llama"
    step: str | None = None
    planned: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def unvouched(name: str, value: Any, base: str = "llama") -> Case:
    return Case(
        f"{base} {name}", config(**{name: value}), UnsupportedModelError, (f"'{name}'", repr(value), base, f"--vouch {name}"), base=base
    )


def rejected(label: str, says: tuple[str, ...] = (), base: str = "llama", **changes: Any) -> Case:
    """A config whose values no model can be built from."""
    return Case(label, config(**changes), UnsupportedModelError, says, base=base)


CONFIGS = [
    Case("no config", gone("config.json"), CheckpointError, ("has no config.json",)),
    Case("config is cut short", file("config.json", b'{"model_type": "llama",\n'), CheckpointError, ("config.json", "not readable JSON")),
    Case("config is not text", file("config.json", b"\xff\xfe\x00"), CheckpointError, ("config.json", "not readable JSON")),
    Case("config is a list", file("config.json", b"[]"), CheckpointError, ("config.json", "JSON object")),
    Case("config is nested too deep", file("config.json", b"[" * 100_000), CheckpointError, ("config.json", "not readable JSON")),
    Case("no model_type", without("model_type"), UnsupportedModelError, ("'model_type'",)),
    Case("null model_type", config(model_type=None), UnsupportedModelError, ("'model_type'",)),
    rejected("unknown model_type", ("'nonsense'",), model_type="nonsense"),
    Case("undeclared model_type", config(model_type="mamba"), UnsupportedModelError, ("'mamba'", "nearest"), step="growth.register"),
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
    Case("unknown tensor over two lines", added("model.ada\npter", torch.zeros(3)), UnsupportedModelError, ("no rule",)),
    Case(
        "bias of the wrong size",
        added("model.layers.0.mlp.up_proj.bias", torch.zeros(41)),
        CheckpointError,
        ("model.layers.0.mlp.up_proj.bias", "41", "40"),
    ),
    Case("missing matrix", dropped(QUERY), CheckpointError, ("layers.1.self_attn.q_proj.weight", "missing")),
    Case("missing embedding", dropped("model.embed_tokens.weight"), CheckpointError, ("embed_tokens.weight", "missing")),
    Case("missing head", dropped("lm_head.weight"), CheckpointError, ("lm_head.weight", "missing")),
    Case("missing bias", dropped("cls.predictions.bias"), CheckpointError, ("cls.predictions.bias", "missing"), base="bert"),
    Case(
        "class that was not saved",
        config(architectures=["LlamaForSequenceClassification"]),
        CheckpointError,
        ("score.weight", "LlamaForSequenceClassification", "missing"),
    ),
    Case("more layers than tensors", config(num_hidden_layers=3), CheckpointError, ("layers.2.", "missing")),
    Case("wrong shape", replaced(QUERY, lambda old: old[:23].clone()), CheckpointError, (QUERY, "[23, 24]", "[24, 24]")),
    Case("too many dimensions", replaced(QUERY, lambda old: old[None].clone()), CheckpointError, (QUERY, "[1, 24, 24]", "[24, 24]")),
    Case("scalar", replaced("model.norm.weight", lambda old: old[0].clone()), CheckpointError, ("model.norm.weight", "[]", "[24]")),
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
    Case("index names a missing shard", indexed({QUERY: "gone.safetensors"}), CheckpointError, (INDEX, "'gone.safetensors'", QUERY)),
    Case("index name is too long", indexed({QUERY: "x" * 300}), CheckpointError, (INDEX, QUERY)),
    *(
        Case(f"index points to {shard!r}", indexed({QUERY: shard}), CheckpointError, (INDEX, f"'{shard}'", QUERY, "not followed"))
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
    Case("pickle is a module", pickled(lambda state: nn.Linear(2, 2)), CheckpointError, ("pytorch_model.bin", "full unpickling")),
    Case("pickle is a list", pickled(lambda state: [1]), CheckpointError, ("pytorch_model.bin", "dictionary of tensors")),
    Case("pickle is nested", pickled(lambda state: {"state_dict": state}), CheckpointError, ("pytorch_model.bin", "dictionary of tensors")),
    Case("pickle has a number for a name", pickled(lambda state: {**state, 5: torch.zeros(2)}), CheckpointError, ("pytorch_model.bin",)),
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
    refused(source, tmp_path / "to" / "wide", case.error, *case.says, step=case.step, planned=case.planned, **case.options)
    assert not list((tmp_path / "to").iterdir())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:.*pickle protocol:UserWarning")
def test_pickle_that_runs_code_is_not_read(zipped: bool, sources: Sources, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    pickled(lambda state: {**state, "x": RunsCode(marker)}, zipped)(source)
    refused(source, tmp_path / "wide", CheckpointError, "pytorch_model.bin", "full unpickling, which runs code", step="safetensors")
    assert not marker.exists()
    with pytest.raises(CheckpointError, match="full unpickling"):
        growth.check_equivalence(source, sources["llama"], tokens=8)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:.*pickle protocol:UserWarning")
def test_plain_pickle_that_runs_code_is_not_read(sources: Sources, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    binary(pickle.dumps(RunsCode(marker)))(source)
    refused(source, tmp_path / "wide", CheckpointError, "pytorch_model.bin", "full unpickling, which runs code", step="safetensors")
    assert not marker.exists()
    pickle.loads((source / "pytorch_model.bin").read_bytes())
    assert marker.exists()


def test_code_beside_the_config_is_never_executed(sources: Sources, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    for name in ("configuration_evil", "modeling_evil"):
        (source / f"{name}.py").write_text(f"import pathlib\n\npathlib.Path({str(marker)!r}).touch()\n\n\nclass Evil:\n    pass\n")
    config(auto_map={"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"})(source)
    refused(source, tmp_path / "wide", UnsupportedModelError, "'auto_map'", "never executed", step="Remove 'auto_map'")
    with suppress(GrowthError):
        growth.check_equivalence(source, sources["llama"], tokens=8)
    assert not marker.exists()


def test_code_beside_the_tokenizer_is_never_executed(sources: Sources, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    (source / "evil.py").write_text(f"import pathlib\n\npathlib.Path({str(marker)!r}).touch()\n\n\nclass Evil:\n    pass\n")
    (source / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"})
    )
    (source / "vocab.json").write_text("{}")
    grown = growth.widen_checkpoint(source, tmp_path / "wide")
    assert growth.check_equivalence(source, grown.path, tokens=8).equal
    assert "evil.py" in grown.left_behind and not (grown.path / "evil.py").exists()
    assert not marker.exists()


def test_bert_that_chunks_its_feed_forward_is_not_bad_input(sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["bert"], tmp_path / "source"))
    config(chunk_size_feed_forward=4)(source)
    assert growth.widen_checkpoint(source, tmp_path / "wide").proof.twin.ok


@pytest.mark.parametrize(
    "name", ["org/no-such-model", "nosuchmodel", "a b/c", "no-such-folder", "./gone", "/gone/away", "org/model/gone", "x" * 300]
)
def test_source_that_is_nowhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(name, tmp_path / "wide", CheckpointError, name.removeprefix("./")[:40])


def test_source_that_is_a_file(sources: Sources, tmp_path: Path) -> None:
    refused(sources["llama"] / "config.json", tmp_path / "wide", CheckpointError, "config.json is a file")


WRONG_OPTIONS: list[tuple[str, dict[str, Any], type[GrowthError], str, str | None]] = [
    *(
        (f"width {width!r}", {"width": width}, IllegalGrowthError, repr(width), None)
        for width in (0, -1, 1, 0.5, "x", "1/0", "1e400", float("nan"), float("inf"), 1025, True, [2])
    ),
    *(
        (f"noise {noise!r}", {"noise": noise}, IllegalGrowthError, repr(noise), "0.1 is")
        for noise in (-1, float("nan"), float("inf"), "x", "0.1", True, None)
    ),
    *((f"seed {seed!r}", {"seed": seed}, IllegalGrowthError, repr(seed), None) for seed in (1.5, "x", None, 2**80)),
    *(
        (f"symmetry {text!r}", {"symmetry": text}, IllegalGrowthError, repr(text), "noise:0.1 adds")
        for text in ("loud", "noise", "split:1", "none:1")
    ),
    *((f"heads {size!r}", {"heads": size}, IllegalGrowthError, repr(size), "'keep' to stay") for size in (0, -1, 6.0, "six", True)),
    ("attention", {"attention": "nope"}, IllegalGrowthError, "'nope'", "heads or head-dim"),
    ("rope", {"rope": "nope"}, IllegalGrowthError, "'nope'", "slots or pairs"),
    ("scaling", {"scaling": "nope"}, IllegalGrowthError, "'nope'", "unit or orthogonal"),
]


@pytest.mark.parametrize(("options", "error", "says", "step"), [row[1:] for row in WRONG_OPTIONS], ids=[row[0] for row in WRONG_OPTIONS])
def test_choice_is_refused(
    options: dict[str, Any], error: type[GrowthError], says: str, step: str | None, sources: Sources, tmp_path: Path
) -> None:
    name = next(iter(options))
    refused(sources["llama"], tmp_path / "wide", error, name, says, step=step, **options)
    with pytest.raises(error) as caught:
        growth.widen(llama(), **options)
    check_message(str(caught.value), (name, says), step)


@pytest.mark.parametrize(
    ("options", "step"),
    [
        *(({"max_shard_size": size}, "such as '5GB'") for size in ("0", 0, "-1", -5, "x", "", "inf", "nan", None)),
        *(({"dtype": dtype}, "must be one of float64, float32, float16, bfloat16") for dtype in ("float8_e4m3fn", "nope", torch.int8)),
        *(({"device": device}, "") for device in ("nope", "cuda:99")),
    ],
    ids=str,
)
def test_way_of_writing_is_refused(options: dict[str, Any], step: str, sources: Sources, tmp_path: Path) -> None:
    ((name, value),) = options.items()
    refused(sources["llama"], tmp_path / "wide", GrowthError, name, repr(value).strip("'"), step=step, planned=False, **options)


@pytest.mark.parametrize("overwrite", [False, True])
def test_destination_that_exists_is_kept(overwrite: bool, sources: Sources, tmp_path: Path) -> None:
    target = tmp_path / "wide"
    target.mkdir()
    (target / "thesis.txt").write_text("do not lose me")
    refused(sources["llama"], target, CheckpointError, str(target), "exists", planned=False, overwrite=overwrite)
    assert (target / "thesis.txt").read_text() == "do not lose me"


def test_model_that_exists_is_kept(sources: Sources, tmp_path: Path) -> None:
    target = Path(shutil.copytree(sources["bert"], tmp_path / "wide"))
    refused(sources["llama"], target, CheckpointError, str(target), "kept as it is", planned=False, step="--overwrite")


@pytest.mark.parametrize("overwrite", [False, True])
def test_file_in_the_way_is_kept(overwrite: bool, sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "wide").write_text("a file")
    refused(sources["llama"], tmp_path / "wide", CheckpointError, "wide exists", planned=False, overwrite=overwrite)
    refused(sources["llama"], tmp_path / "wide" / "below", CheckpointError, "wide/below", planned=False, step="try again|[Nn]ame")


@pytest.mark.parametrize("name", ["source", "source/wide", "source/new/wide", "other/../source/wide", "link/wide", "."])
@pytest.mark.parametrize("overwrite", [False, True])
def test_destination_and_source_inside_one_another(name: str, overwrite: bool, sources: Sources, tmp_path: Path) -> None:
    home = tmp_path / "home"
    source = Path(shutil.copytree(sources["llama"], home / "source"))
    (home / "other").mkdir()
    (home / "link").symlink_to(source)
    shutil.copyfile(source / "config.json", home / "config.json")
    says = () if name in ("source", ".") and not overwrite else ("inside one another",)
    before = snapshot(home)
    refused(source, home / name, CheckpointError, *says, planned=False, overwrite=overwrite)
    assert snapshot(home) == before


def test_destination_name_is_too_long(sources: Sources, tmp_path: Path) -> None:
    refused(sources["llama"], tmp_path / ("x" * 300), CheckpointError, "xxx", planned=False)


@pytest.mark.parametrize("name", ["wide", "new/wide"])
def test_disk_space_is_checked_first(name: str, sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def full(path: Path) -> SimpleNamespace:
        asked.append(Path(path))
        return SimpleNamespace(total=10**12, used=10**12 - 40_000_000, free=40_000_000)

    monkeypatch.setattr(shutil, "disk_usage", full)
    refused(sources["llama"], tmp_path / name, CheckpointError, str(tmp_path), "0.05 GB needed", "0.04 GB free", planned=False)
    assert asked == [tmp_path]


def strict_json(path: Path) -> Any:
    """JSON by the standard, which knows no NaN and no Infinity."""

    def unknown(constant: str) -> None:
        raise AssertionError(f"{path.name} holds {constant}")

    return json.loads(path.read_text(), parse_constant=unknown)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_nonfinite_weight_is_carried_over_on_request(value: float, noise: float, sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "source"))
    tensors(lambda state: state[QUERY][0, 0].fill_(value))(source)
    grown = growth.widen_checkpoint(source, tmp_path / "wide", noise=noise, allow_nonfinite=True)
    written = load_file(grown.path / "model.safetensors")
    assert int((~written[QUERY].isfinite()).sum()) == 4, "one weight has four copies"
    assert all(bool(tensor.isfinite().all()) for name, tensor in written.items() if name != QUERY)
    strict_json(grown.path / "growth.json")


def refused_in_memory(model: Any, error: type[GrowthError], *says: str, step: str | None = None) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()} if isinstance(model, nn.Module) else {}
    with pytest.raises(GrowthError) as caught:
        growth.widen(model)
    assert type(caught.value) is error or error is GrowthError
    check_message(str(caught.value), says, step)
    for key, value in before.items():
        assert value.is_meta or torch.equal(model.state_dict()[key].view(torch.uint8), value.view(torch.uint8))


class Derived(LlamaForCausalLM):
    """A model class transformers does not know."""


Derived.__name__ = "LlamaForCausalLM"


@pytest.mark.parametrize("wrap", [nn.Sequential, nn.DataParallel, lambda model: Derived(model.config), lambda model: "llama"])
def test_model_that_is_not_stock_is_refused(wrap: Callable[[PreTrainedModel], Any]) -> None:
    wrapped = wrap(llama())
    refused_in_memory(wrapped, UnsupportedModelError, type(wrapped).__name__, "neither a stock", step="Unwrap")


def test_model_with_nan_is_refused() -> None:
    model = llama()
    model.lm_head.weight.data[3, 4] = float("nan")
    refused_in_memory(model, CheckpointError, "lm_head.weight", "NaN")


def test_model_with_a_parameter_of_its_own_is_refused() -> None:
    model = llama()
    model.register_parameter("adapter", nn.Parameter(torch.zeros(3)))
    refused_in_memory(model, UnsupportedModelError, "'adapter'")


def test_model_with_a_field_nobody_vouched_for_is_refused() -> None:
    model = llama()
    model.config.residual_multiplier = 2.0
    refused_in_memory(model, UnsupportedModelError, "residual_multiplier", "2.0", step="vouch")


def test_model_with_a_pruned_layer_is_refused() -> None:
    model = llama()
    model.model.layers[0].mlp.up_proj = nn.Linear(24, 30, bias=False)
    refused_in_memory(model, CheckpointError, "model.layers.0.mlp.up_proj.weight", "[30, 24]", "[40, 24]")


def test_model_with_a_bias_its_config_does_not_know_is_refused() -> None:
    model = llama()
    bias = nn.Linear(24, 40)
    bias.weight = model.model.layers[0].mlp.up_proj.weight
    model.model.layers[0].mlp.up_proj = bias
    refused_in_memory(model, GrowthError, "layers.0.mlp.up_proj.bias")


def test_model_with_a_layer_its_config_does_not_know_is_refused() -> None:
    model = bert()
    model.bert.encoder.layer.append(copy.deepcopy(model.bert.encoder.layer[0]))
    refused_in_memory(model, GrowthError, "encoder.layer.2.")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_model_of_a_quantised_dtype_is_refused(dtype: torch.dtype) -> None:
    model = llama()
    quantised = model.model.layers[1].mlp.up_proj.weight.data.to(dtype)
    model.model.layers[1].mlp.up_proj.weight = nn.Parameter(quantised, requires_grad=False)
    refused_in_memory(model, CheckpointError, "model.layers.1.mlp.up_proj.weight", str(dtype))


def test_model_without_data_is_refused() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(llama().config)
    refused_in_memory(model, GrowthError, "meta")


@pytest.mark.parametrize("options", [{"dtype": "nope"}, {"dtype": "int8"}, {"device": "nope"}, {"tokens": 1}], ids=str)
def test_comparison_is_refused(options: dict[str, Any], sources: Sources) -> None:
    ((name, value),) = options.items()
    with pytest.raises(GrowthError) as caught:
        growth.check_equivalence(sources["llama"], sources["llama"], **options)
    check_message(str(caught.value), (name, str(value)), ".")


def test_comparison_of_two_kinds_is_refused(sources: Sources) -> None:
    with pytest.raises(CheckpointError) as caught:
        growth.check_equivalence(sources["llama"], sources["bert"])
    check_message(str(caught.value), ("LlamaForCausalLM", "BertForMaskedLM"), "only models of one class")
