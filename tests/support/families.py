"""Tiny models of every family: real classes, all sizes distinct, biases on, epsilon loud, weights
loud."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedModel

from growth.plan.plan import Plan
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import loud
from growth.proof.outputs import forward, largest_difference

VOCABULARY = 41
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_BERT = {
    **{
        "hidden_size": 15,
        "num_attention_heads": 3,
        "intermediate_size": 22,
        "num_hidden_layers": 2,
        "vocab_size": VOCABULARY,
    },
    **{"max_position_embeddings": 40, "layer_norm_eps": 0.03, "num_labels": 4, **_IDS},
}
_GPT2 = {
    **{
        "n_embd": 15,
        "n_head": 3,
        "n_inner": 22,
        "n_layer": 2,
        "vocab_size": VOCABULARY,
        "n_positions": 40,
        "layer_norm_epsilon": 0.03,
    },
    **{"num_labels": 4, **_IDS},
}
_LLAMA = {
    **{"hidden_size": 42, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10, "intermediate_size": 29},
    **{
        "num_hidden_layers": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 64,
        "rms_norm_eps": 0.03,
        "num_labels": 4,
        **_IDS,
    },
}
_T5 = {
    **{
        "d_model": 14,
        "num_heads": 3,
        "d_kv": 5,
        "d_ff": 22,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "vocab_size": VOCABULARY,
    },
    **{
        "layer_norm_epsilon": 0.03,
        "decoder_start_token_id": 0,
        "relative_attention_num_buckets": 8,
        "num_labels": 4,
        **_IDS,
    },
}


@dataclass(frozen=True)
class Case:
    """One class on one config."""

    model_class: str
    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    generates: bool = False

    def __str__(self) -> str:
        return self.name or self.model_class


LANGUAGE_MODELS = [
    Case("BertForMaskedLM", "bert", _BERT),
    Case("RobertaForMaskedLM", "roberta", {**_BERT, "hidden_act": "relu"}),
    Case("GPT2LMHeadModel", "gpt2", _GPT2, generates=True),
    Case("LlamaForCausalLM", "llama", {**_LLAMA, "attention_bias": True, "mlp_bias": True}, generates=True),
    Case("MistralForCausalLM", "mistral", {**_LLAMA, "num_key_value_heads": 1, "sliding_window": 5}, generates=True),
    Case(
        "Qwen2ForCausalLM",
        "qwen2",
        {**_LLAMA, "head_dim": None, "hidden_size": 36, "num_key_value_heads": 3},
        generates=True,
    ),
    Case("T5ForConditionalGeneration", "t5", _T5, generates=True),
    Case("MT5ForConditionalGeneration", "mt5", {**_T5, "feed_forward_proj": "gated-gelu"}, generates=True),
]
OTHER_HEADS = [
    *(
        Case(f"Bert{head}", "bert", {**_BERT, "hidden_act": "gelu_new"})
        for head in (
            *("Model", "ForPreTraining", "LMHeadModel", "ForNextSentencePrediction", "ForSequenceClassification"),
            *("ForMultipleChoice", "ForTokenClassification", "ForQuestionAnswering"),
        )
    ),
    *(
        Case(f"Roberta{head}", "roberta", _BERT)
        for head in (
            "Model",
            "ForCausalLM",
            "ForSequenceClassification",
            "ForMultipleChoice",
            "ForTokenClassification",
            "ForQuestionAnswering",
        )
    ),
    *(
        Case(f"GPT2{head}", "gpt2", {**_GPT2, "n_inner": None, "scale_attn_weights": False})
        for head in (
            "Model",
            "DoubleHeadsModel",
            "ForSequenceClassification",
            "ForTokenClassification",
            "ForQuestionAnswering",
        )
    ),
    *(
        Case(
            f"{family}{head}",
            family.lower(),
            {**_LLAMA, "head_dim": None, "hidden_size": 36, "num_key_value_heads": 6},
        )
        for family in ("Llama", "Mistral", "Qwen2")
        for head in ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
    ),
    *(
        Case(f"{family}{head}", family.lower(), {**_T5, "feed_forward_proj": "gated-silu"})
        for family in ("T5", "MT5")
        for head in (
            "Model",
            "EncoderModel",
            "ForSequenceClassification",
            "ForTokenClassification",
            "ForQuestionAnswering",
        )
    ),
]


def build(case: Case, *, tied: bool = True, seed: int = 1, **changes: Any) -> PreTrainedModel:
    """A loud random model in float64. Call it under `exact_arithmetic`, or accept float32
    tables."""
    if case.model_class.endswith("QuestionAnswering"):
        changes["num_labels"] = 2  # start and end
    values = {
        key: value for key, value in {**case.config, **changes}.items() if value is not None or key in ("n_inner",)
    }
    config = CONFIG_MAPPING[case.model_type](**values, tie_word_embeddings=tied)
    model = getattr(transformers, case.model_class)._from_config(
        config, attn_implementation="eager", dtype=torch.float64
    )
    model = model.to(torch.float64).eval()
    if not tied and case.model_type in ("t5", "mt5") and case.model_class.endswith("Generation"):
        model.lm_head.weight = torch.nn.Parameter(
            torch.empty_like(model.lm_head.weight)
        )  # these two are tied whatever the config says
        model.all_tied_weights_keys.pop("lm_head.weight")
    loud(model, seed)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.pad_token_id = 0
        model.generation_config.eos_token_id = None
    return model


def load(folder: Path, case: Case) -> PreTrainedModel:
    """Plain ``from_pretrained``, in float64; nothing missing, nothing unexpected."""
    cls = getattr(transformers, case.model_class)
    model, info = cls.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.to(torch.float64).eval()


def difference(small: PreTrainedModel, wide: PreTrainedModel, plan: Plan) -> float:
    """max |difference| over every output, hidden states included."""
    inputs = random_inputs(small, VOCABULARY)
    return largest_difference(forward(small, inputs), forward(wide, inputs), plan)


def nearest_shape(refusal: Exception) -> dict[str, int]:
    """The sizes that a refusal names as the nearest that work; empty where it names none."""
    found = re.search(r"The nearest shape that works: (.+)\.$", str(refusal))
    return {name: int(size) for name, size in (part.split() for part in found[1].split(", "))} if found else {}


def at_nearest(choice: Mapping[str, Any], refusal: Exception) -> dict[str, Any] | None:
    """The same choices at the shape that a refusal names, None where it names none."""
    nearest = nearest_shape(refusal)
    return (
        {**{name: value for name, value in choice.items() if name != "width"}, "sizes": nearest} if nearest else None
    )


def exact() -> Iterator[None]:
    """Body of a fixture: the test runs in exact arithmetic."""
    with exact_arithmetic():
        yield


def generate(model: Any) -> list[list[int]]:
    """Greedy, with KV cache, one row padded on the left."""
    ids = torch.randint(3, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    ids[0, :3] = 0
    output: list[list[int]] = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=9, do_sample=False, use_cache=True
    ).tolist()
    return output
