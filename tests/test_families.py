"""The claim itself, for every declared family: saved to disk, widened, loaded by stock transformers, equal in exact arithmetic.

The cases come from the declarations: every class of every family, under every config its declaration branches on, as small as its twin.
Where no shape near a fractional width works for a family, the refusal names the nearest that does, and that one is grown instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import at_nearest, difference, exact, generate
from transformers import AutoConfig, GenerationMixin, PreTrainedModel

import growth
from growth import architectures
from growth.choices import chosen
from growth.config import parse
from growth.equivalence.twin import build_exact, loud, miniature, twin_report
from growth.errors import IllegalGrowthError
from growth.plan import TOLERANCE, Plan
from growth.shape import _free

exactly = pytest.fixture(exact, autouse=True)

Choice = dict[str, Any]


def small_config(model_type: str, model_class: str, branch: dict[str, Any], tied: bool | None = None) -> dict[str, Any]:
    """The config of the twin of this class, every norm's epsilon loud."""
    raw = {**AutoConfig.for_model(model_type, **branch).to_dict(), "architectures": [model_class]}
    if tied is not None:
        raw["tie_word_embeddings"] = tied
    if raw.get("is_encoder_decoder") and raw.get("decoder_start_token_id") is None:
        raw["decoder_start_token_id"] = 0
    architecture = architectures.find(model_type).at(parse(raw))
    small = miniature(raw, architecture)
    if isinstance(architecture.epsilon, str) and architecture.epsilon in raw:
        small[architecture.epsilon] = 0.03
    return small


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for model_type in architectures.known():
        for model_class, branch in itertools.product(architectures.classes(model_type), architectures.find(model_type).branches):
            yield model_type, model_class, dict(branch)


def choices(model_type: str) -> Iterator[Choice]:
    attention: list[Choice] = [{"attention": "heads"}, {"attention": "head-dim"}]
    if architectures.find(model_type).rotary:
        attention.append({"attention": "head-dim", "rope": "pairs"})
    widths = [*itertools.product((2, 3), (0.0, 0.4)), (1.5, 0.4), ("5/3", 0.4)]
    for grown_by, scaling, (width, noise) in itertools.product(attention, ("unit", "orthogonal"), widths):
        yield {**grown_by, "scaling": scaling, "width": width, "noise": noise}


def odd_sizes(raw: dict[str, Any]) -> dict[str, int]:
    """Sizes to grow to of which none is a whole multiple, and the ratios differ; heads keep their width where positions are rotary."""
    config = parse(raw)
    architecture = architectures.find(raw["model_type"]).at(config)
    old, others = architecture.read_sizes(config), itertools.cycle((1.75, 1.9, 2.2, 1.3))
    free = [name for name, size in _free(architecture.sizes, config).items() if size.grows in ("width", "heads")]
    ratios = {"hidden_size": 1.4, "intermediate_size": 1.52, "num_attention_heads": 5 / 3, "num_key_value_heads": 1.5}
    sizes = {name: round(old[name] * (ratios.get(name.rpartition(".")[2]) or next(others))) for name in free}
    for heads in (name for name in free if name.endswith("num_attention_heads")):
        group = heads.removesuffix("num_attention_heads")
        hidden, head_dim = f"{group}hidden_size", old[f"{group}head_dim"]
        if hidden in sizes and old[hidden] == old[heads] * head_dim:
            sizes[hidden] = sizes[heads] * (head_dim + (not architecture.rotary))
    return sizes


def label(value: object) -> str:
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else str(value)


def load(folder: Path, model_class: str) -> PreTrainedModel:
    """Plain ``from_pretrained``, in float64; nothing missing, nothing unexpected."""
    cls = getattr(transformers, model_class)
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model, info = cls.from_pretrained(folder, dtype=torch.float64, **eager, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.to(torch.float64).eval()


def may_be_refused(model_type: str, choice: Choice) -> bool:
    """Whether the declaration says that it refuses such a choice under some config."""
    words = architectures.find(model_type).refuses
    named = {"orthogonal": choice["scaling"] == "orthogonal", "head-dim": choice["attention"] == "head-dim"}
    named |= {"heads with": choice["attention"] == "heads", "tied head": True, "heads that share values": True, "every growth": True}
    return any(applies and word in words for word, applies in named.items())


def fractional(choice: Choice) -> bool:
    """Whether more is asked for than whole multiples."""
    return "sizes" in choice or choice["width"] not in (2, 3)


def check(model_type: str, model_class: str, branch: dict[str, Any], choice: Choice, folder: Path, tied: bool | None = None) -> Plan | None:
    """Widen one checkpoint and compare. A refusal counts where the declaration says that there is one; where it is about the shape, the
    nearest one is compared."""
    raw = small_config(model_type, model_class, branch, tied)
    small = build_exact(raw)
    loud(small, 1)
    small.save_pretrained(folder / "small")
    try:
        result = growth.widen_checkpoint(folder / "small", folder / "wide", **choice)
    except IllegalGrowthError as refusal:
        nearest = at_nearest(choice, refusal)
        assert fractional(choice) if nearest else may_be_refused(model_type, choice), refusal
        if nearest is None:
            return None
        result = growth.widen_checkpoint(folder / "small", folder / "wide", **nearest)
    small, wide = load(folder / "small", model_class), load(folder / "wide", model_class)
    assert difference(small, wide, result.plan) <= TOLERANCE
    assert result.proof.twin.difference <= TOLERANCE and result.proof.fold.ok
    if isinstance(small, GenerationMixin) and small.main_input_name == "input_ids" and small.can_generate():
        assert generate(wide) == generate(small)
    return result.plan


ALL = list(cases())
MAIN = list(
    {
        case[0]: case
        for case in sorted(ALL, key=lambda case: (case[1].endswith(("LM", "LMHeadModel", "Generation", "MTModel")), not case[2]))
    }.values()
)
"""One class of each family, one that generates if there is one, under its plainest config."""
ODD = [
    {"width": 3, "noise": 0.4, "attention": attention, "scaling": scaling}
    for attention in ("heads", "head-dim")
    for scaling in ("unit", "orthogonal")
]
QUICK = [(*case, ODD[number % 4]) for number, case in enumerate(ALL) if not case[2] or case[1] in [main[1] for main in MAIN]]
"""Every class under the default config, and one class under every branch, each by one odd choice."""


@pytest.mark.parametrize(("model_type", "model_class", "branch", "choice"), QUICK, ids=label)
def test_every_class(model_type: str, model_class: str, branch: dict[str, Any], choice: Choice, tmp_path: Path) -> None:
    check(model_type, model_class, branch, choice, tmp_path)


@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=label)
def test_odd_sizes(model_type: str, model_class: str, branch: dict[str, Any], tmp_path: Path) -> None:
    """Sizes named one by one, as far from whole multiples as the family allows."""
    sizes = odd_sizes(small_config(model_type, model_class, branch))
    choice = {"sizes": sizes, "noise": 0.4, "attention": "heads", "scaling": "unit"}
    plan = check(model_type, model_class, branch, choice, tmp_path)
    assert plan is not None
    odd = {name for name, size in plan.new_sizes.items() if size % (plan.old_sizes[name] or 1)}
    assert odd & sizes.keys() or not any(name.endswith("intermediate_size") for name in sizes)


@pytest.mark.parametrize(("model_type", "model_class", "branch"), MAIN, ids=label)
def test_memory_and_disk_agree_bit_for_bit_and_grow_again(
    model_type: str, model_class: str, branch: dict[str, Any], tmp_path: Path
) -> None:
    saved = build_exact(small_config(model_type, model_class, branch))
    loud(saved, 1)
    saved.save_pretrained(tmp_path / "small")
    choice: Choice = {"width": 2, "attention": "head-dim", "noise": 0.3, "seed": 7}
    try:
        growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", **choice)
    except IllegalGrowthError:
        choice["attention"] = "heads"
        growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", **choice)
    grown = growth.widen(load(tmp_path / "small", model_class), **choice)
    on_disk, in_memory = load(tmp_path / "wide", model_class), grown.model
    assert in_memory.state_dict().keys() == on_disk.state_dict().keys()
    assert all(torch.equal(in_memory.state_dict()[name], value) for name, value in on_disk.state_dict().items())
    once_more: Choice = {"width": 1.5, "noise": 0.3}
    try:
        again = growth.widen_checkpoint(tmp_path / "wide", tmp_path / "wider", **once_more)
    except IllegalGrowthError as refusal:
        nearest = at_nearest(once_more, refusal)
        assert nearest, refusal
        again = growth.widen_checkpoint(tmp_path / "wide", tmp_path / "wider", **nearest)
    assert difference(on_disk, load(tmp_path / "wider", model_class), again.plan) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "model_class", "branch", "choice"), [(*case, choice) for case in MAIN for choice in choices(case[0])], ids=label
)
def test_every_choice(model_type: str, model_class: str, branch: dict[str, Any], choice: Choice, tmp_path: Path) -> None:
    check(model_type, model_class, branch, choice, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "model_class", "branch"), ALL, ids=label)
def test_every_class_by_every_choice_in_the_twin(model_type: str, model_class: str, branch: dict[str, Any]) -> None:
    raw = small_config(model_type, model_class, branch)
    for choice in choices(model_type):
        try:
            report = twin_report(raw, chosen(choice))
        except IllegalGrowthError as refusal:
            nearest = at_nearest(choice, refusal)
            assert fractional(choice) if nearest else may_be_refused(model_type, choice), refusal
            if nearest is None:
                continue
            report = twin_report(raw, chosen(nearest))
        assert report.difference <= TOLERANCE, choice


def test_every_family_is_tested() -> None:
    assert {case[0] for case in MAIN} | {name for name in architectures.known() if not architectures.classes(name)} == set(
        architectures.known()
    )
