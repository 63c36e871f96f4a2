"""Checkpoints saved by transformers 4, widened here, loaded by transformers 4 again.

``GROWTH_COMPAT_PYTHON`` is the interpreter of an environment with that release and without growth;
`make test-compat` builds it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import transformers

import growth

pytestmark = pytest.mark.compat

VOCABULARY = 97
BERT = {
    "hidden_size": 48,
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 64,
}
LLAMA = {**BERT, "num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONG = {
    "rope_type": "longrope",
    "factor": 4.0,
    "short_factor": [1.0, 1.1, 1.3, 1.7],
    "long_factor": [1.0, 2.0, 3.0, 4.0],
}
T5 = {"d_model": 48, "d_kv": 8, "d_ff": 80, "num_layers": 2, "num_heads": 6, "decoder_start_token_id": 0}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", BERT),
    "roberta": ("RobertaForMaskedLM", BERT),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 48, "n_head": 6, "n_layer": 2, "n_positions": 64}),
    "t5": ("T5ForConditionalGeneration", T5),
    "t5-untied": (
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "llama": ("LlamaForCausalLM", {**LLAMA, "rope_theta": 500.0}),
    "llama-tied": ("LlamaForCausalLM", {**LLAMA, "rope_theta": 50000.0, "tie_word_embeddings": True}),
    "llama-llama3": ("LlamaForCausalLM", {**LLAMA, "rope_theta": 5000.0, "rope_scaling": LLAMA3}),
    "llama-linear": ("LlamaForCausalLM", {**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    "llama-longrope": ("LlamaForCausalLM", {**LLAMA, "rope_theta": 500.0, "rope_scaling": LONG}),
    "mistral": ("MistralForCausalLM", {**LLAMA, "rope_theta": 700.0, "head_dim": 12, "sliding_window": 9}),
    "qwen2": ("Qwen2ForCausalLM", {**LLAMA, "rope_theta": 900.0, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2ForCausalLM", {**LLAMA, "rope_theta": 900.0, "head_dim": 8, "sliding_window": 9}),
}
ROTARY = ("llama", "mistral", "qwen2")
DEEPER: dict[str, dict[str, Any]] = {
    "llama": {"layers": 4, "width": 2},
    "llama-tied": {"layers": 3, "untie": True},
    "gemma2": {"layers": 4},
    "qwen2": {"layers": 5, "width": 1.5, "insert": "after:0,0,1"},
    "t5": {"sizes": {"encoder.num_hidden_layers": 3, "decoder.num_hidden_layers": 4}},
    "gpt2": {"layers": 4, "width": 2},
}
HEADS = {"attention": "heads"}
SLOTS = {"attention": "head-dim", "rope": "slots"}
PAIRS = {"attention": "head-dim", "rope": "pairs"}
CASES = [
    pytest.param(model, options, id=f"{model}-{'-'.join(options.values())}")
    for model in MODELS
    for options in ([HEADS, SLOTS, PAIRS] if model.startswith(ROTARY) else [HEADS, SLOTS])
]

# Loud weights: matrices that keep the size of what goes through them, gains and biases far from
# their defaults.
SAVE = """
import json, sys
import torch, transformers

models = json.loads(sys.argv[1])
for folder, (name, config) in models.items():
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**config))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.7 + 0.5 * noise if parameter.ndim == 1 else noise * min(parameter.shape) ** -0.5)
    model.save_pretrained(folder)
print(transformers.__version__)
"""
LOAD = """
import json, sys
import torch, transformers

folders, result, logits = sys.argv[1:], {"info": [], "versions": transformers.__version__}, []
for folder in folders:
    raw = json.load(open(folder + "/config.json"))
    model, info = getattr(transformers, raw["architectures"][0]).from_pretrained(folder, output_loading_info=True)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, raw["vocab_size"] - 1, (2, 48), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if raw.get("is_encoder_decoder"):
        inputs["decoder_input_ids"] = ids.flip(1)[:, :20]
    with torch.no_grad():
        logits.append(model.eval()(**inputs).logits[:, 7:])
    result["info"].append({key: sorted(map(str, value)) for key, value in info.items()})
result["scale"] = float(logits[0].std())
result["difference"] = float((logits[0] - logits[-1]).abs().max())
print(json.dumps(result))
"""


def run(script: str, *arguments: str | Path) -> str:
    """What the other environment prints last."""
    python = os.environ.get("GROWTH_COMPAT_PYTHON")
    if not python:
        pytest.fail(
            "GROWTH_COMPAT_PYTHON does not name the interpreter of another environment: run `make test-compat`."
        )
    done = subprocess.run([python, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every model, saved by transformers 4."""
    folders = {name: tmp_path_factory.mktemp("saved") / name for name in MODELS}
    models = {
        str(folders[name]): (kind, {**config, "vocab_size": VOCABULARY}) for name, (kind, config) in MODELS.items()
    }
    assert run(SAVE, json.dumps(models)).startswith("4."), "the other environment holds no transformers 4"
    return folders


def read_config(folder: Path) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return raw


@pytest.mark.parametrize(("model", "options"), CASES)
def test_transformers_4_loads_what_came_of_its_own(
    saved: dict[str, Path], tmp_path: Path, model: str, options: dict[str, str]
) -> None:
    target = tmp_path / "wide"
    growth.widen_checkpoint(saved[model], target, **options)

    old, new = read_config(saved[model]), read_config(target)
    assert new.keys() - {"rope_scaling"} == old.keys() - {"rope_scaling"} and "rope_parameters" not in new
    assert new["transformers_version"] == old["transformers_version"]
    if model.startswith(ROTARY):
        assert new["rope_theta"] == old["rope_theta"]
        if options is PAIRS:
            assert new["rope_scaling"]["rope_type"] == "longrope" and "rope_theta" not in new["rope_scaling"]
        elif model != "llama-longrope" or options is HEADS:  # longrope has one factor per pair
            assert new.get("rope_scaling") == old.get("rope_scaling")

    result = json.loads(run(LOAD, saved[model], target))
    assert not any(problem for info in result["info"] for problem in info.values()), result["info"]
    assert 0.05 < result["scale"] < 10, "these logits could hide a difference, or drown in rounding"
    assert result["difference"] <= 1e-4 * result["scale"], result


@pytest.mark.parametrize("model", DEEPER)
def test_transformers_4_loads_what_got_more_layers(saved: dict[str, Path], tmp_path: Path, model: str) -> None:
    growth.widen_checkpoint(saved[model], tmp_path / "deep", **DEEPER[model])
    old, new = read_config(saved[model]), read_config(tmp_path / "deep")
    assert new.keys() >= old.keys() and len(new.get("layer_types", ())) in (0, new.get("num_hidden_layers"))
    result = json.loads(run(LOAD, saved[model], tmp_path / "deep"))
    assert not any(problem for info in result["info"] for problem in info.values()), result["info"]
    assert result["difference"] <= 1e-5 * max(1.0, result["scale"])


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_dtype_stays_under_its_key(saved: dict[str, Path], tmp_path: Path, key: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    raw = {name: value for name, value in read_config(saved["llama"]).items() if name not in ("dtype", "torch_dtype")}
    (source / "config.json").write_text(json.dumps({**raw, key: "float32"}), encoding="utf-8")
    (source / "model.safetensors").write_bytes((saved["llama"] / "model.safetensors").read_bytes())
    growth.widen_checkpoint(source, tmp_path / "wide", dtype="bfloat16")
    new = read_config(tmp_path / "wide")
    assert new[key] == "bfloat16" and len(new.keys() & {"dtype", "torch_dtype"}) == 1


@pytest.mark.parametrize("options", [HEADS, SLOTS, PAIRS], ids=lambda options: "-".join(options.values()))
def test_saved_by_transformers_5_stays_in_its_dialect(tmp_path: Path, options: dict[str, str]) -> None:
    config = transformers.LlamaConfig(**LLAMA, vocab_size=VOCABULARY, rope_parameters={**LLAMA3, "rope_theta": 5000.0})
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "source")
    growth.widen_checkpoint(tmp_path / "source", tmp_path / "wide", **options)
    old, new = read_config(tmp_path / "source"), read_config(tmp_path / "wide")
    assert new.keys() == old.keys()
    assert {"rope_parameters", "dtype"} <= new.keys() and not new.keys() & {
        "rope_theta",
        "rope_scaling",
        "torch_dtype",
    }
    if options is PAIRS:
        assert new["rope_parameters"]["rope_type"] == "longrope" and new["rope_parameters"]["rope_theta"] == 5000.0
    else:
        assert new["rope_parameters"] == old["rope_parameters"]
