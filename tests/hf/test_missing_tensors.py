"""Tensors that a config asks for and the weights lack: the refusal says why."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

import growth
from growth import CheckpointError, UnsupportedModelError
from support.damage import Damage, both, config, dropped, tensors
from support.refusals import Sources, offline, refused, sources
from support.small_models import SIZES

__all__ = ["offline", "sources"]

WEIGHTS = "model.safetensors"


def peft_names(folder: Path) -> None:
    """As PeftModel.state_dict() names what it wraps."""
    state = load_file(folder / WEIGHTS)
    held = {f"base_model.model.{name}": tensor for name, tensor in state.items() if "q_proj" not in name}
    for name in (name for name in state if "q_proj" in name):
        owner = f"base_model.model.{name.removesuffix('.weight')}"
        held |= {f"{owner}.base_layer.weight": state[name]}
        held |= {
            f"{owner}.lora_A.default.weight": torch.zeros(4, 24),
            f"{owner}.lora_B.default.weight": torch.zeros(24, 4),
        }
    save_file(held, folder / WEIGHTS, metadata={"format": "pt"})


def emptied(folder: Path) -> None:
    state = {name: torch.zeros(0) for name in load_file(folder / WEIGHTS)}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def of_gpt2(folder: Path) -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=24, n_head=4, n_layer=2, vocab_size=60, n_positions=64))
    save_file(
        {name: value.clone() for name, value in model.state_dict().items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )


MISSING: list[tuple[str, str, Damage, tuple[str, ...], str]] = [
    ("llama", "peft", peft_names, ("tensors of a PEFT adapter that was not merged",), r"\. Load .*merge_and_unload"),
    ("llama", "zero", emptied, ("is empty (shape [0])", "DeepSpeed ZeRO-3"), r"\. Load .* zero_to_fp32\.py"),
    (
        "llama",
        "tied file",
        dropped("lm_head.weight"),
        (
            "'lm_head.weight' of LlamaForCausalLM is missing, as in a model that ties it to",
            "'model.embed_tokens.weight'",
        ),
        r"set that to true in config\.json",
    ),
    (
        "llama",
        "missing bias",
        both(
            config(attention_bias=True),
            tensors(
                lambda state: state.update(
                    {
                        f"model.layers.{layer}.self_attn.{name}_proj.bias": torch.zeros(size)
                        for layer in (0, 1)
                        for name, size in (("q", 24), ("k", 12), ("v", 12))
                    }
                )
            ),
        ),
        ("'model.layers.0.self_attn.o_proj.bias'", "(and 1 more)", "though its weight is there", "(attention_bias)"),
        r"add it to the weights as zeros of shape \[24\]",
    ),
    (
        "llama",
        "another family",
        of_gpt2,
        ("of its 21 tensors", "such as 'transformer."),
        r"\. Check that model_type and 'architectures'",
    ),
    (
        "bert",
        "another head",
        config(architectures=["BertForSequenceClassification"]),
        ("'classifier.bias' of BertForSequenceClassification is missing (and 1 more)",),
        r"\. Check that 'architectures'",
    ),
    (
        "llama",
        "one layer more",
        config(num_hidden_layers=3),
        ("'model.layers.2.", "the weights end with 'layers.1'", "(num_hidden_layers)"),
        r"\. Check that number",
    ),
    (
        "llama",
        "not whole",
        dropped("model.layers.1.self_attn.q_proj.weight"),
        ("'model.layers.1.self_attn.q_proj.weight' of LlamaForCausalLM is missing",),
        r"\. Fetch the checkpoint again",
    ),
]


@pytest.mark.parametrize(
    ("base", "damage", "says", "step"), [(m[0], *m[2:]) for m in MISSING], ids=[m[1] for m in MISSING]
)
def test_what_is_missing_is_said_with_its_reason(
    base: str, damage: Damage, says: tuple[str, ...], step: str, sources: Sources, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(sources[base], tmp_path / "small"))
    damage(source)
    refused(source, tmp_path / "to" / "wide", CheckpointError, *says, step=step)
    with pytest.raises(CheckpointError) as caught:
        growth.plan_widening(source)
    assert ("architectures" in str(caught.value)) == ("architectures" in step), "said only where it is the reason"


def test_experts_that_are_not_there(tmp_path: Path) -> None:
    experts = MixtralConfig(num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, **SIZES)
    MixtralForCausalLM(experts).save_pretrained(tmp_path / "small")
    config(num_local_experts=6)(tmp_path / "small")
    says = ("the weights end with 'layers.*.block_sparse_moe.experts.3'", "counts more (num_local_experts)")
    refused(tmp_path / "small", tmp_path / "to" / "wide", CheckpointError, *says, step=r"\. Check that number")


@pytest.mark.parametrize("kind", ["MistralForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM"])
def test_a_class_of_another_model_type(kind: str, sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "small"))
    config(architectures=[kind])(source)
    says = (f"names {kind}, a class of model_type '", "the config's own is 'llama'")
    refused(source, tmp_path / "to" / "wide", UnsupportedModelError, *says, step=r"\. Correct the one")


def test_a_thousand_layers_that_are_not_there_are_refused_at_once(sources: Sources, tmp_path: Path) -> None:
    source = Path(shutil.copytree(sources["llama"], tmp_path / "small"))
    config(num_hidden_layers=100_000)(source)
    started = time.process_time()
    says = ("counts 100000 layers (num_hidden_layers)", "above 1", "'layers.2.")
    refused(source, tmp_path / "to" / "wide", CheckpointError, *says, step=r"\. Check num_hidden_layers")
    assert time.process_time() - started < 5
