"""A tied matrix stays as it is, and the copies differ in what writes for it: real classes, mutants,
memory and disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

import growth
from growth import architectures
from growth.algebra.axes import Space
from growth.algebra.derived_laws import Normalised
from growth.algebra.dimensions import Dimension
from growth.algebra.laws import Copied
from growth.algebra.maps import Map
from growth.algebra.roles import Gain, Keeps, Reads, Writes
from growth.architectures.families.t5 import HEAD_INPUT
from growth.plan import build as build_module
from growth.plan.build import plan_config
from growth.plan.options import Options
from growth.plan.plan import TOLERANCE, Plan
from growth.plan.symmetry import Symmetry
from growth.plan.tensor_plan import TensorPlan
from growth.plan.tied_weights import Ties, around_ties
from growth.proof import twin
from growth.proof.twin import twin_report
from growth.rules.norm import FINAL, NORMED, RESIDUAL
from growth.training.factors import factors_of
from growth.weights import symmetry_breaking
from support.family_cases import small_config

CASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "llama": ("llama", "LlamaForCausalLM", ("model.norm.weight",)),
    "gemma2": ("gemma2", "Gemma2ForCausalLM", ("model.norm.weight",)),  # multiplies by 1 + w
    "gpt2": ("gpt2", "GPT2LMHeadModel", ("transformer.ln_f.bias", "transformer.ln_f.weight")),
    "gpt2 with a second head": ("gpt2", "GPT2DoubleHeadsModel", ("transformer.ln_f.bias", "transformer.ln_f.weight")),
    "bert": (
        "bert",
        "BertForMaskedLM",
        ("cls.predictions.transform.LayerNorm.bias", "cls.predictions.transform.LayerNorm.weight"),
    ),
    "t5": ("t5", "T5ForConditionalGeneration", ("decoder.final_layer_norm.weight",)),
}
BROKEN = ["noise:0.3", "split", "split:1/5:varied"]


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans of the twins that are run."""
    made: list[Plan] = []
    build = twin.build_plan
    monkeypatch.setattr(twin, "build_plan", lambda *a, **k: made.append(build(*a, **k)) or made[-1])
    return made


@pytest.mark.parametrize("symmetry", BROKEN)
@pytest.mark.parametrize("name", CASES)
def test_the_shares_go_into_what_writes_for_a_tied_head(name: str, symmetry: str, plans: list[Plan]) -> None:
    model_type, model_class, writers = CASES[name]
    scaling: Any = "unit" if name == "bert" else "orthogonal"
    raw = small_config(model_type, model_class, {}, tied=True)
    assert twin_report(raw, Options(width=3, scaling=scaling, symmetry=symmetry)).difference <= TOLERANCE
    tensors = plans[-1].tensors.values()
    assert {t.name for t in tensors if len(t.shape) == 1 and t.symmetry.breaks} == set(writers)
    spaces = {space for space, grown in plans[-1].maps.items() if np.ptp(grown.write * grown.read) > 1e-9}
    assert spaces == ({FINAL, HEAD_INPUT} if name == "t5" else {FINAL})
    readers = [t for t in tensors if any(isinstance(role, Reads) for role in t.roles)]
    assert all(t.symmetry.breaks != any(role.spaces() & spaces for role in t.roles) for t in readers)
    assert all(t.exact_sum_axis is not None for t in tensors if t.symmetry.breaks)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("t5", "gpt2 with a second head")])
def test_an_untied_head_reads_with_shares_of_its_own(name: str, plans: list[Plan]) -> None:
    model_type, model_class, writers = CASES[name]
    raw = small_config(model_type, model_class, {}, tied=False)
    assert twin_report(raw, Options(width=2, symmetry="noise:0.3")).difference <= TOLERANCE
    tensors = plans[-1].tensors
    assert not np.ptp(plans[-1].maps[FINAL].write) and not any(tensors[writer].symmetry.breaks for writer in writers)
    assert any(t.symmetry.breaks and any(FINAL in r.spaces() for r in t.roles) for t in tensors.values())


def ones_for_null_vector(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dimension, "common_gradient", property(lambda d: np.ones(d.old)))


def other_readers_not_told(patch: pytest.MonkeyPatch) -> None:
    around = build_module.around_ties
    patch.setattr(
        build_module, "around_ties", lambda *a: replace(around(*a), kept_equal=frozenset({"transformer.wte.weight"}))
    )


def noise_in_the_final_gain(patch: pytest.MonkeyPatch) -> None:
    """What growth did before: the sums over copies stay, the hidden state turns."""
    build = build_module.planned_tensor

    def noisy(*arguments: Any) -> TensorPlan:
        plan, (options, ties, _) = build(*arguments), arguments[-3:]
        return replace(plan, symmetry=options.breaking) if plan.name in ties.writers else plan

    patch.setattr(build_module, "planned_tensor", noisy)


def the_same_copies_everywhere(patch: pytest.MonkeyPatch) -> None:
    shares = symmetry_breaking.split_shares
    patch.setattr(symmetry_breaking, "split_shares", lambda d, first, last, level: shares(d, first, last))


MUTANTS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None], float, str]] = {
    "a null vector of ones": ("t5", ones_for_null_vector, 3, "noise:0.3"),
    "another reader with shares of its own": ("gpt2 with a second head", other_readers_not_told, 3, "noise:0.3"),
    "noise in the final gain": ("llama", noise_in_the_final_gain, 3, "noise:0.3"),
    "noise in the final gain and bias": ("gpt2", noise_in_the_final_gain, 2, "noise:0.3"),
    "varied shares in the final gain": ("gemma2", noise_in_the_final_gain, 2, "split:1/8:varied"),
    "shares as if all had as many copies": ("llama", the_same_copies_everywhere, 2.5, "split"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_do_not_pass_the_twin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, mutate, width, symmetry = MUTANTS[name]
    raw, options = small_config(*CASES[case][:2], {}, tied=True), Options(width=width, symmetry=symmetry)
    mutate(monkeypatch)
    assert twin_report(raw, options).difference > 1e-3


@pytest.mark.parametrize("scaling", ["unit", "orthogonal"])
@pytest.mark.parametrize("symmetry", ["none", *BROKEN])
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("bert", "gpt2 with a second head")])
def test_hidden_states_keep_their_direction_at_every_width(name: str, symmetry: str, scaling: Any) -> None:
    raw = small_config(*CASES[name][:2], {}, tied=True)
    for width, copies_differ in ((1.5, False), (2, True), (2.5, True), (8 / 3, True), (3, True)):
        plan = plan_config(raw, Options(width=width, scaling=scaling, symmetry=symmetry))
        final = plan.maps[plan.architecture.outputs["last_hidden_state"]]
        length = np.bincount(final.source, final.write**2)
        assert np.allclose(length, length[0], rtol=1e-12) and not final.write[final.means].any()
        shares = final.write * final.read
        copies = [shares[final.source == i] for i in range(final.n)]
        assert all((np.ptp(each[each != 0]) > 0.05) == (copies_differ and symmetry != "none") for each in copies)
        told = any("would turn the last hidden state" in note for note in plan.notes)
        assert told == (not copies_differ and symmetry != "none")


SCORES = Space("scores", "hidden_size")


def test_what_meets_more_than_a_sum_stays_equal_and_the_caller_is_told() -> None:
    llama = architectures.find("llama")
    maps = dict.fromkeys(llama.laws, Map.repeat(4, 8))
    roles = {
        "embed_tokens.weight": (Keeps(), Writes(RESIDUAL)),
        "norm.weight": llama.roles("norm.weight", "LlamaForCausalLM"),
    }
    tied = {"embed_tokens.weight": {"embed_tokens.weight", "lm_head.weight"}}

    def found(architecture: Any, roles: Any, tied: Any = tied) -> Ties:
        shares = Symmetry("noise", noise=1.0).for_hidden_states
        return around_ties(roles, tied, architecture, "LlamaForCausalLM", {**maps, SCORES: Map.repeat(4, 8)}, shares)

    ties = found(llama, roles)
    assert (ties.kept_equal, ties.writers, set(ties.maps)) == ({"embed_tokens.weight"}, {"norm.weight": 0}, {FINAL})
    assert ties.maps[FINAL].write.tolist() == [0.25] * 4 + [1.75] * 4
    told = ("the copies that the tied head reads start equal: no gain or bias writes 'final' for it alone",)
    for architecture, others in (
        (llama, {"norm.weight": (Writes(NORMED),)}),  # nobody writes it
        (llama, {"norm.weight": (Writes(FINAL), Reads(RESIDUAL))}),  # what writes it reads, and differs there
        (llama, {"out.weight": (Writes(FINAL), Reads(RESIDUAL))}),  # a matrix writes it too
        (llama, {"after.weight": (Gain(FINAL, NORMED),)}),  # another norm reads it
        (replace(llama, laws={**llama.laws, FINAL: Copied()}), {}),
        (replace(llama, laws={**llama.laws, SCORES: Normalised(FINAL)}), {}),
    ):
        assert found(architecture, {**roles, **others}) == Ties(frozenset({"embed_tokens.weight"}), notes=told)
    # One matrix under two names with one part to play, and one that is tied to a name nobody
    # declared.
    assert found(llama, roles, {"norm.weight": {"norm.weight"}}) == Ties()
    assert found(llama, roles, {"norm.weight": {"norm.weight", "nobody.weight"}}) == Ties(frozenset({"norm.weight"}))


@pytest.mark.parametrize("name", CASES)
def test_the_optimizer_goes_by_equal_copies(name: str) -> None:
    """A share scales neither gradients nor the steps of an optimizer."""
    raw = small_config(*CASES[name][:2], {}, tied=True)
    equal, uneven = (plan_config(raw, Options(width=2, symmetry=symmetry)) for symmetry in ("none", "noise:1"))
    assert {factors_of(t) == factors_of(equal.tensors[n]) for n, t in uneven.tensors.items()} == {True}


@pytest.mark.parametrize("symmetry", ["noise:0.2", "split:varied"])
def test_memory_and_disk_hold_the_same_bits_and_the_real_models_agree(symmetry: str, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, vocab_size=97, tie_word_embeddings=True)).to(
        torch.bfloat16
    )
    model.save_pretrained(tmp_path / "small")
    grown = growth.widen(model, width=2, symmetry=symmetry, seed=4)
    assert grown.proof.fold.exact and grown.proof.fold.ulps == 0 and grown.proof.to_json()["fold"]["rms"] == 0
    assert ("less noise than asked" in str(grown.proof)) == symmetry.startswith("noise")
    for number, limit in enumerate(("5GB", "100KB")):
        threads, folder = torch.get_num_threads(), tmp_path / f"wide{number}"
        torch.set_num_threads(number + 1)
        try:
            growth.widen_checkpoint(
                tmp_path / "small", folder, width=2, symmetry=symmetry, seed=4, max_shard_size=limit
            )
        finally:
            torch.set_num_threads(threads)
        held = [item for file in folder.glob("*.safetensors") for item in load_file(file).items()]
        assert len(held) > 10 and all(torch.equal(grown.model.state_dict()[name], value) for name, value in held)
    tied, gain = grown.model.get_input_embeddings().weight, grown.model.model.norm.weight
    assert torch.equal(tied[:, :48], tied[:, 48:])
    assert (gain[:48] != gain[48:]).double().mean() > 0.8 and torch.equal(
        gain[:48] + gain[48:], torch.ones(48, dtype=torch.bfloat16)
    )
    report = growth.check_equivalence(tmp_path / "small", tmp_path / "wide0", tokens=64, dtype="float32")
    assert report.equal and report.diverges_at is None
