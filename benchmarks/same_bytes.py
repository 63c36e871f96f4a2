"""Digests of growths, to show that a change of the code left every byte where it was.

Ten families, each grown by four choices, from one fixed checkpoint of random weights per family.
Each line is a family, a choice and the SHA-256 of the weights and the config that were written. Run
it at two commits and compare:

    python benchmarks/same_bytes.py > before.txt        # at the one
    python benchmarks/same_bytes.py > after.txt         # at the other
    diff before.txt after.txt
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING

import growth

COUNTS = {"num_hidden_layers": 2, "vocab_size": 60, "max_position_embeddings": 64}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA = {**COUNTS, **HEADS, "hidden_size": 24, "intermediate_size": 40}
BERT = {**COUNTS, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 4}
EXPERTS = {"num_local_experts": 3, "num_experts_per_tok": 2}
T5 = {"d_model": 24, "d_ff": 40, "d_kv": 6, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 2, "vocab_size": 60}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", LLAMA),
    "qwen3": ("Qwen3ForCausalLM", {**LLAMA, "head_dim": 8, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2ForCausalLM", {**LLAMA, "head_dim": 6}),
    "mixtral": ("MixtralForCausalLM", {**LLAMA, **EXPERTS}),
    "gpt2": (
        "GPT2LMHeadModel",
        {"n_embd": 24, "n_inner": 40, "n_head": 4, "n_layer": 2, "vocab_size": 60, "n_positions": 64},
    ),
    "gpt_neox": (
        "GPTNeoXForCausalLM",
        {**COUNTS, "hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 2},
    ),
    "falcon": (
        "FalconForCausalLM",
        {"hidden_size": 24, "ffn_hidden_size": 40, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 60},
    ),
    "bert": ("BertForMaskedLM", BERT),
    "t5": ("T5ForConditionalGeneration", T5),
    "deberta-v2": ("DebertaV2ForMaskedLM", {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
}
CHOICES: dict[str, dict[str, Any]] = {
    "width 2": {"width": 2, "symmetry": "none"},
    "width 3, noise 1": {"width": 3, "noise": 1.0, "seed": 5},
    "width 2, wider heads, split": {"width": 2, "attention": "head-dim", "symmetry": "split:1/2:varied", "seed": 2},
    "intermediate size 50, noise 0.5, bfloat16": {"intermediate_size": 50, "noise": 0.5, "dtype": "bfloat16"},
}


def checkpoint(model_type: str, folder: Path) -> None:
    """A random model of the family, every parameter of it away from its default."""
    name, sizes = FAMILIES[model_type]
    torch.manual_seed(0)
    model = getattr(transformers, name)(CONFIG_MAPPING[model_type](**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3 + (0.7 if parameter.ndim == 1 else 0.0))
    model.save_pretrained(folder)


def digest(folder: Path) -> str:
    """SHA-256 of the weights and the config."""
    written = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors*"), folder / "config.json"]):
        written.update(path.read_bytes())
    return written.hexdigest()


def main() -> None:
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as scratch:
        for model_type in FAMILIES:
            source = Path(scratch) / model_type
            checkpoint(model_type, source)
            for number, (label, choice) in enumerate(CHOICES.items()):
                target = Path(scratch) / f"{model_type}-{number}"
                try:
                    growth.widen_checkpoint(source, target, **choice)
                    found = digest(target)
                except growth.GrowthError as refusal:
                    found = f"refused: {type(refusal).__name__}"
                print(f"{model_type:12} {label:42} {found}", flush=True)


if __name__ == "__main__":
    main()
