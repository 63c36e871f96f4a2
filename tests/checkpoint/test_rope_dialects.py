"""A config may state rotary positions for transformers 4, for 5, or for both. Where both read the
same of the source, both read the same of the result, and wider heads compute the same in both."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import growth
from growth.hf import config_json
from growth.hf.rope_dialects import rope_in_4, rope_of
from growth.proof.twin import prove_twin

THETA = 500.0
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "truncate": False, "beta_fast": 2}
LONG = {"type": "longrope", "factor": 4.0, "short_factor": [1.0, 1.1, 1.3, 1.7], "long_factor": [1.0, 2.0, 3.0, 4.0]}
KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"type": "linear", "factor": 2.0},
    "llama3": LLAMA3,
    "yarn": YARN,
    "longrope": LONG,
}
LLAMA = {
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
GEMMA3 = {
    **LLAMA,
    "model_type": "gemma3_text",
    "architectures": ["Gemma3ForCausalLM"],
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 9,
    "layer_types": ["sliding_attention", "full_attention"],
}
NESTED = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
    "full_attention": {"rope_type": "default", "rope_theta": 900.0},
}
NESTED_IN_4 = {"rope_theta": 900.0, "rope_local_base_freq": 300.0}
WIDER = {"attention": "head-dim", "width": 2}


def in_5(kind: str) -> dict[str, Any]:
    named = {"rope_type" if name == "type" else name: value for name, value in KINDS[kind].items()}
    return {"rope_parameters": {"rope_type": "default", **named, "rope_theta": THETA}}


def in_4(kind: str, empty: object = None) -> dict[str, Any]:
    return {"rope_theta": THETA, "rope_scaling": KINDS[kind] or empty}


BOTH = {kind: {**in_4(kind), **in_5(kind)} for kind in KINDS}
DIALECTS: dict[str, dict[str, Any]] = {
    **{f"{kind}, 4": in_4(kind) for kind in KINDS},
    **{f"{kind}, both": both for kind, both in BOTH.items()},
    "no scaling, both": {key: value for key, value in BOTH["default"].items() if key != "rope_scaling"},
    "empty scaling, both": {**BOTH["default"], "rope_scaling": {}},
    "scaling first, both": {**BOTH["llama3"], **in_5("default")},
    "neither": {},
    "the default of 5": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
}


def agree(raw: Any) -> bool:
    """Whether both releases read the same frequencies."""
    read, other = rope_of(raw)[""], rope_in_4(raw)[""]
    return all(read.get(name) == other.get(name) for name in (*LLAMA3, *LONG, "rope_theta") if name != "type")


@pytest.mark.parametrize("how", ["slots", "pairs"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_both_dialects_are_edited(dialect: str, how: str) -> None:
    source = {**LLAMA, **DIALECTS[dialect]}
    plan = growth.plan_widening(source, **WIDER, rope=how)
    assert agree(source) and agree(plan.new_config), plan.config_changes
    written = {"rope_scaling"} & plan.config_changes.keys()
    assert bool(written) == (how == "pairs" or dialect.startswith("longrope"))
    assert ("rope_parameters" in plan.new_config) == ("rope_parameters" in source)
    if "longrope" in dialect or "both" in dialect:
        prove_twin(plan)


def test_a_rope_that_is_edited_in_one_dialect_alone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_5(raw: Any, source: Any, rope: Any) -> None:
        raw["rope_parameters"] = dict(rope[""])

    monkeypatch.setattr(config_json, "write_rope", only_5)
    plan = growth.plan_widening({**LLAMA, **BOTH["default"]}, **WIDER, rope="pairs")
    assert not agree(plan.new_config)
    with pytest.raises(growth.ProofError, match="differs"):
        prove_twin(growth.plan_widening({**LLAMA, **BOTH["llama3"]}, **WIDER, rope="pairs"))


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "theta": {**BOTH["default"], "rope_theta": 700.0},
    "scaling null": {**BOTH["llama3"], "rope_scaling": None},
    "another scaling": {**in_5("llama3"), "rope_theta": THETA},
    "theta inside": {"rope_theta": THETA, "rope_scaling": {**KINDS["linear"], "rope_theta": 900.0}},
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_dialects_that_contradict_each_other_are_refused_by_name(case: str) -> None:
    source = {**LLAMA, **CONTRADICTIONS[case]}
    with pytest.raises(growth.IllegalGrowthError) as caught:
        growth.plan_widening(source, **WIDER, rope="pairs")
    said = str(caught.value)
    assert "transformers 5 reads" in said and "transformers 4 as" in said and str(THETA) in said
    for harmless in ({"attention": "heads"}, {"attention": "head-dim", "rope": "slots"}):
        plan = growth.plan_widening(source, width=2, **harmless)
        assert not [name for name in plan.config_changes if "rope" in name]


def test_scaling_that_one_release_alone_reads_and_wider_heads_cannot_keep_is_refused() -> None:
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": THETA}
    for rope in (BOTH["longrope"] | {"rope_scaling": None}, {**BOTH["default"], "rope_parameters": dynamic}):
        with pytest.raises(growth.IllegalGrowthError):
            growth.plan_widening({**LLAMA, **rope}, **WIDER)


def test_a_part_of_the_head_that_turns_in_one_release_alone_is_refused() -> None:
    glm = {**LLAMA, "model_type": "glm", "architectures": ["GlmForCausalLM"], "head_dim": 16, "pad_token_id": 0}
    rope = {"rope_theta": THETA, "rope_parameters": {"rope_theta": THETA, "rope_type": "default"}}
    same = {**rope["rope_parameters"], "partial_rotary_factor": 0.5}
    growth.plan_widening({**glm, **rope, "rope_parameters": same}, **WIDER)
    with pytest.raises(growth.GrowthError, match="partial_rotary_factor"):
        half = {**rope["rope_parameters"], "partial_rotary_factor": 0.25}
        growth.plan_widening({**glm, **rope, "partial_rotary_factor": 0.5, "rope_parameters": half}, **WIDER)


@pytest.mark.parametrize("rope", [NESTED_IN_4, {**NESTED_IN_4, "rope_parameters": NESTED}, {}], ids=["4", "both", "-"])
def test_release_4_has_no_place_for_frequencies_by_kind_of_layer(rope: dict[str, Any]) -> None:
    with pytest.raises(growth.IllegalGrowthError, match=r"transformers 4 reads.*sliding_attention and full_attention"):
        growth.plan_widening({**GEMMA3, **rope}, **WIDER, rope="pairs")
    plan = growth.plan_widening({**GEMMA3, **rope}, **WIDER)
    assert not [name for name in plan.config_changes if "rope" in name]


def test_a_config_for_5_alone_stays_in_its_dialect_and_the_plan_says_so() -> None:
    for source in ({**GEMMA3, "rope_parameters": NESTED}, {**LLAMA, **in_5("llama3")}):
        plan = growth.plan_widening(source, **WIDER, rope="pairs")
        assert plan.new_config.keys() == source.keys()
        assert any("'longrope'" in note and "(transformers 4 does)" in note for note in plan.notes)
    plan = growth.plan_widening({**LLAMA, **BOTH["llama3"]}, **WIDER, rope="pairs")
    assert any("'longrope'" in note and "transformers 4" not in note for note in plan.notes)


LOAD = """
import json, sys
import torch, transformers

def logits(folder):
    raw = json.load(open(folder + "/config.json"))
    model = getattr(transformers, raw["architectures"][0]).from_pretrained(folder)
    ids = torch.randint(2, 96, (2, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits

result = {"version": transformers.__version__}
for name, (small, wide) in json.loads(sys.argv[1]).items():
    before, after = logits(small), logits(wide)
    result[name] = [float((before - after).abs().max()), float(before.std())]
print(json.dumps(result))
"""


@pytest.mark.compat
def test_transformers_4_computes_the_same_of_every_dialect(tmp_path: Path) -> None:
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA))
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        parameter.data = 0.7 + 0.5 * noise if parameter.ndim == 1 else noise * min(parameter.shape) ** -0.5
    pairs: dict[str, tuple[str, str]] = {}
    for dialect, rope in DIALECTS.items():
        if rope.get("rope_scaling") == {}:
            continue  # transformers 4 does not load it
        source = tmp_path / dialect
        model.save_pretrained(source)
        (source / "config.json").write_text(json.dumps({**LLAMA, **rope}), encoding="utf-8")
        for how in ("slots", "pairs"):
            growth.widen_checkpoint(source, tmp_path / f"{dialect} {how}", **WIDER, rope=how)
            pairs[f"{dialect} {how}"] = str(source), str(tmp_path / f"{dialect} {how}")
    python = os.environ.get("GROWTH_COMPAT_PYTHON")
    assert python, "GROWTH_COMPAT_PYTHON names no interpreter: run `make test-compat`"
    done = subprocess.run([python, "-c", LOAD, json.dumps(pairs)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result.pop("version").startswith("4.")
    assert result.keys() == pairs.keys()
    assert not {name: found for name, found in result.items() if not found[0] <= 1e-4 * found[1] < 10}
