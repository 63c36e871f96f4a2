"""Configs as tools, old releases and mistakes write them: understood as transformers understands them,
or refused in a sentence at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, Mamba2Config

import growth
from growth.architectures.sizes import rotary_fraction
from growth.hf.config_fields import unsupported_fields
from growth.hf.configs import parse
from growth.infer import declaration as inferred_declaration
from growth.proof.twin import prove_twin
from support.refusals import check_message

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
}
NEOX = {
    **{name: value for name, value in LLAMA.items() if name != "num_key_value_heads"},
    "model_type": "gpt_neox",
    "architectures": ["GPTNeoXForCausalLM"],
}


def plan(raw: dict[str, Any], **options: Any) -> growth.Plan:
    return growth.plan_widening(raw, **{"width": 2, **options})


INFINITE = {"__float__": "Infinity"}


def test_infinity_is_read_as_transformers_writes_it_and_written_as_it_was_read(tmp_path: Path) -> None:
    config = LlamaConfig(**LLAMA, attention_dropout=float("inf"))
    LlamaForCausalLM(config).save_pretrained(tmp_path / "small")
    assert json.loads((tmp_path / "small" / "config.json").read_text())["attention_dropout"] == INFINITE
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=2)
    assert json.loads((tmp_path / "wide" / "config.json").read_text())["attention_dropout"] == INFINITE
    assert AutoConfig.from_pretrained(tmp_path / "wide").attention_dropout == float("inf")


def test_a_model_whose_config_holds_infinity_is_planned(tmp_path: Path) -> None:
    """Its type is not declared, and infinity stays in the config of the wider one."""
    sizes = {"hidden_size": 64, "num_heads": 8, "head_dim": 16, "state_size": 16, "num_hidden_layers": 2}
    Mamba2Config(**sizes, architectures=["Mamba2ForCausalLM"]).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    grown = plan(raw)
    assert grown.declared.inferred and grown.new_config["time_step_limit"] == raw["time_step_limit"]
    assert "__float__" in str(raw["time_step_limit"])


def test_tuples_that_a_config_asks_for_are_named_where_models_are_compared(tmp_path: Path) -> None:
    model = LlamaForCausalLM(LlamaConfig(**LLAMA, return_dict=False))
    model.save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=2)
    assert growth.check_equivalence(tmp_path / "small", tmp_path / "wide", tokens=16).equal
    assert growth.widen(model, width=2).model.config.return_dict is False is model.config.return_dict


DIFFERING: list[tuple[dict[str, Any], str]] = [
    ({**LLAMA, "per_layer_config": {"0": {"num_key_value_heads": 3}}}, "num_key_value_heads"),
    ({**LLAMA, "per_layer_config": {"1": {"skip": ["mlp"]}}}, "parts they skip"),
]


@pytest.mark.parametrize(("raw", "attribute"), DIFFERING, ids=["llama", "skip"])
def test_layers_that_differ_in_their_sizes_are_refused_by_name(raw: dict[str, Any], attribute: str) -> None:
    with pytest.raises(growth.UnsupportedModelError, match=f"differ in .*{attribute}") as caught:
        plan(raw)
    check_message(str(caught.value), ())


NEUTRAL = {
    "attn_implementation": "flash_attention_2",
    "use_flash_attn": True,
    "use_flash_attention_2": True,
    "_attn_implementation": "flash_attention_2",
    "_flash_attn_2_enabled": True,
    "model_name": "small",
    "n_ctx": 64,
    "neftune_noise_alpha": 5.0,
    "unsloth_version": "2025.1",
    "unsloth_training": True,
    "model_max_length": 32768,
    "trust_remote_code": True,
    "cache_implementation": "hybrid",
    "quantization_config": None,
    "return_dict": False,
    "torchscript": True,
}


def test_what_tools_note_in_a_config_stays_in_it(tmp_path: Path) -> None:
    grown = plan({**LLAMA, **NEUTRAL})
    prove_twin(grown)
    assert {name: grown.new_config[name] for name in NEUTRAL} == NEUTRAL


@pytest.mark.parametrize(
    "live",
    [
        {"residual_multiplier": 2.0},
        {"attn_logit_softcapping": 50.0},
        {"flash_scale": 3.0},
        {"neftune": 1},
        {"partial_rotary_factor": 0.5},
    ],
    ids=lambda live: next(iter(live)),
)
def test_a_field_that_could_matter_is_still_refused(live: dict[str, Any]) -> None:
    with pytest.raises(growth.UnsupportedModelError, match=next(iter(live))):
        plan({**LLAMA, **live})


def test_partial_rotary_factor_says_again_what_rotary_pct_says_or_is_refused() -> None:
    same = {**NEOX, "rotary_pct": 0.5, "partial_rotary_factor": 0.5}
    for how in ("slots", "pairs"):
        prove_twin(plan(same, attention="head-dim", rope=how))
    # Release 4 reads the one, release 5 the other.
    for other in ({"rotary_pct": 0.25}, {}):
        raw = {**NEOX, **other, "partial_rotary_factor": 0.5}
        with pytest.raises(growth.UnsupportedModelError, match=r"partial_rotary_factor' is 0\.5"):
            plan(raw)
        assert parse(raw).rope_parameters["partial_rotary_factor"] == 0.25


def test_a_part_that_turns_is_refused_where_the_config_has_a_size_for_it() -> None:
    for model_type in ("deepseek_v3", "gptj"):
        with pytest.raises(growth.UnsupportedModelError, match="partial_rotary_factor"):
            plan({"model_type": model_type, "num_hidden_layers": 1, "partial_rotary_factor": 0.5})


ODD: list[dict[str, Any]] = [
    {**LLAMA, "model_type": "glm", "architectures": ["GlmForCausalLM"], "head_dim": 6, "pad_token_id": 0},
    {**NEOX, "rotary_pct": 0.4},
    {**LLAMA, "hidden_size": 18},
    {**LLAMA, "model_type": "roformer", "architectures": ["RoFormerForMaskedLM"], "hidden_size": 18},
    {**LLAMA, "model_type": "stablelm", "architectures": ["StableLmForCausalLM"], "partial_rotary_factor": 0.4},
]


@pytest.mark.parametrize("raw", ODD, ids=lambda raw: raw["model_type"])
@pytest.mark.parametrize("rope", ["slots", "pairs"])
def test_an_odd_number_of_coordinates_that_turn_is_refused_in_a_sentence(raw: dict[str, Any], rope: str) -> None:
    with pytest.raises(growth.IllegalGrowthError, match="of an odd number one has no pair") as caught:
        plan(raw, attention="head-dim", rope=rope)
    check_message(str(caught.value), ())
    if raw["model_type"] != "roformer":  # its own code cannot run such a head
        prove_twin(plan(raw))


def test_an_infinite_field_that_could_matter_is_refused() -> None:
    config = {**LLAMA, "logit_limit": INFINITE}
    assert unsupported_fields(config, growth.architectures.find("llama")) == {"logit_limit": float("inf")}


OLD_NAMES = [
    ({"model_type": "mpt", "architectures": ["MPTForCausalLM"]}, "MptForCausalLM"),
    ({"model_type": "falcon", "architectures": ["RWForCausalLM"]}, "FalconForCausalLM"),
]


@pytest.mark.parametrize(("raw", "name"), OLD_NAMES, ids=["mpt", "falcon"])
def test_a_class_may_have_its_old_name(raw: dict[str, Any], name: str) -> None:
    sizes = {
        "hidden_size": 64,
        "d_model": 64,
        "n_heads": 4,
        "num_attention_heads": 4,
        "n_layers": 1,
        "num_hidden_layers": 1,
        "vocab_size": 97,
    }
    known = AutoConfig.for_model(raw["model_type"]).to_dict()
    assert plan({**raw, **{key: size for key, size in sizes.items() if key in known}}).model_class.__name__ == name


SAID = {
    "old model type": (
        {**LLAMA, "model_type": "RefinedWebModel", "architectures": ["RWForCausalLM"]},
        "transformers calls 'falcon' with FalconForCausalLM",
    ),
    "su": ({**LLAMA, "rope_scaling": {"type": "su", "factor": 2.0}}, "former name of 'longrope'"),
    "rope type": ({**LLAMA, "rope_scaling": {"type": "odd", "factor": 2.0}}, r"'rope_scaling\.type' is 'odd'"),
    "activation": ({**LLAMA, "hidden_act": "odd"}, "'hidden_act' is 'odd', which transformers does not know"),
    "epsilon below 0": ({**LLAMA, "rms_norm_eps": -1e-6}, "is -1e-06, but it must be a number of at least 0"),
    "epsilon NaN": ({**LLAMA, "rms_norm_eps": float("nan")}, "is nan, but it must be"),
    "infinite epsilon": ({**LLAMA, "rms_norm_eps": INFINITE}, "is inf, but it must be"),
    "theta 0": ({**LLAMA, "rope_theta": 0.0}, "'rope_theta' is 0.0, but it must be positive"),
    "factor 0": ({**LLAMA, "rope_scaling": {"type": "linear", "factor": 0.0}}, "'factor' is 0.0"),
    "llama3 without bounds": (
        {
            **LLAMA,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 2.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 1.0,
                "original_max_position_embeddings": 32,
            },
        },
        "make no frequencies",
    ),
    "size as text": ({**LLAMA, "hidden_size": "48"}, "expected int, got str"),
    "size as truth value": ({**LLAMA, "num_attention_heads": True}, "expected int, got bool"),
    "huge size": ({**LLAMA, "hidden_size": 6 * 10**8}, "beyond any model"),
    "huge vocabulary": ({**LLAMA, "vocab_size": 10**12}, "beyond any model"),
    "beyond 64 bits": ({**LLAMA, "hidden_size": 6 * 10**30}, "Overflow when unpacking long long"),
    "layers": ({**LLAMA, "num_hidden_layers": 1001}, "'num_hidden_layers' is 1001, but from 0 to 1000 can"),
    "many layers": ({**LLAMA, "num_hidden_layers": 10**10}, "'num_hidden_layers' is 10000000000, but from 0"),
    "layers below 0": ({**LLAMA, "num_hidden_layers": -1}, "is -1, but from 0"),
    "layers by another name": ({"model_type": "gpt2", "n_layer": 10**9}, "'n_layer' is 1000000000"),
    "layers of a section": (
        {"model_type": "clip", "text_config": {"num_hidden_layers": 10**8}},
        r"'text_config\.num_hidden_layers'",
    ),
    "size that no tensor has": (
        {"model_type": "modernbert", "num_hidden_layers": 1, "head_dim": 10**8},
        "'head_dim' is 100000000, but a size must be .* at most",
    ),
    "labels": ({**LLAMA, "num_labels": 10**9}, "'num_labels' is 1000000000"),
    "another size as truth value": (
        {"model_type": "roformer", "hidden_size": 48, "num_attention_heads": 6, "head_dim": True},
        "'head_dim' is True, but a size",
    ),
    "more than the head turns": ({**ODD[-1], "partial_rotary_factor": 3}, "pass_dim would follow as -16"),
    "former class and a number": ({**LLAMA, "model_type": "nobody", "architectures": 3.0}, "does not know model_type"),
    "experts": ({"model_type": "mixtral", "num_local_experts": 10**8}, "'num_local_experts' is 100000000"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_wrong_with_a_config_is_said_at_once(case: str) -> None:
    raw, said = SAID[case]
    before = time.process_time()
    with pytest.raises(growth.GrowthError, match=said) as caught:
        plan(raw, attention="head-dim", rope="pairs")
    assert time.process_time() - before < 3
    check_message(str(caught.value), ())
    assert "report" not in str(caught.value)


def test_a_model_that_is_not_finite_before_it_grows_is_not_called_a_fault_of_growth() -> None:
    with pytest.raises(growth.ProofError, match="before it grows") as caught:
        prove_twin(plan({**LLAMA, "rope_theta": 0.0}))
    assert "report" not in str(caught.value)


def test_a_model_that_transformers_itself_cannot_run_is_not_called_a_fault_of_growth() -> None:
    with pytest.raises(growth.ProofError, match="It fails before it grows") as caught:
        prove_twin(plan({**LLAMA, "model_type": "phi", "architectures": ["PhiModel"], "resid_pdrop": float("nan")}))
    assert "check that transformers can run the model with this config.json" in str(caught.value)


def test_nan_is_no_change() -> None:
    assert "attention_dropout" not in plan({**LLAMA, "attention_dropout": float("nan")}).config_changes


def test_a_check_that_is_left_out_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inferred_declaration, "check_alike", lambda parsed: None)
    with pytest.raises((growth.GrowthError, RuntimeError)) as caught:
        plan(DIFFERING[0][0])
    assert "declaration describes layers" not in str(caught.value)


@pytest.mark.parametrize("factor", ["gelu_new", True, False, 0, [0.5], float("nan")])
def test_a_rotary_part_that_is_no_number_is_refused_by_name(factor: object) -> None:
    config = SimpleNamespace(rope_parameters={"partial_rotary_factor": factor})
    with pytest.raises(growth.UnsupportedModelError, match="partial_rotary_factor"):
        rotary_fraction(config)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_head_without_labels_is_refused_by_name() -> None:
    raw = {"model_type": "glm", "architectures": ["GlmForSequenceClassification"], "num_hidden_layers": 1}
    with pytest.raises(growth.CheckpointError, match=r"'score\.weight' has shape \[0, .*num_labels"):
        plan({**raw, "num_labels": 0, "pad_token_id": 0})
