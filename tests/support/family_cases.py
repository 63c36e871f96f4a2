"""One small config of every class of every declared family under every branch of its declaration,
and how two of them are compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, GenerationMixin, PreTrainedModel

import growth
from growth import architectures
from growth.architectures import Asked, Dual, Scaled
from growth.architectures.choosable import choosable_sizes
from growth.errors import IllegalGrowthError
from growth.hf.configs import Config, parse
from growth.hf.model_classes import class_of, classes
from growth.plan.build import plan_config
from growth.plan.options import KEEP, chosen
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.miniature import build_exact, loud, miniature
from growth.proof.twin import twin_report
from support.families import at_nearest, difference, generate

Choice = dict[str, Any]
"""Keywords of `growth.widen`."""
Case = tuple[str, str, dict[str, Any]]
"""model_type, model class, branch: what of the config is not the class's default."""


def small_config(
    model_type: str, model_class: str, branch: dict[str, Any], tied: bool | None = None
) -> dict[str, Any]:
    """The config of the twin of this class, every norm's epsilon loud."""
    raw = {**AutoConfig.for_model(model_type, **branch).to_dict(), "architectures": [model_class]}
    if tied is not None:
        raw["tie_word_embeddings"] = tied
    if raw.get("is_encoder_decoder") and raw.get("decoder_start_token_id") is None:
        raw["decoder_start_token_id"] = 0
    architecture = architectures.find(model_type).at(parse(raw))
    small = dict(miniature(raw, architecture))
    if isinstance(architecture.epsilon, str) and architecture.epsilon in raw:
        small[architecture.epsilon] = 0.03
    return small


def cases() -> Iterator[Case]:
    for model_type in architectures.known():
        for model_class, branch in itertools.product(classes(model_type), architectures.find(model_type).branches):
            yield model_type, model_class, dict(branch)


def factors(model_type: str) -> dict[str, tuple[Any, ...]]:
    """What is chosen for a growth, and from what. ``pairs``: wider heads by pairs of rotary positions."""
    rotary = architectures.find(model_type).rotary
    return {
        "attention": ("heads", "head-dim", *(("pairs",) if rotary else ())),
        "scaling": ("unit", "orthogonal"),
        "width": (2, 3, 1.5, "5/3"),
        "noise": (0.0, 0.4),
        "last_hidden_state": ("divided", "equal"),
    }


def as_choice(row: Mapping[str, Any]) -> Choice:
    """A row of factors as the keywords of `growth.widen`."""
    return {**row, "attention": "head-dim", "rope": "pairs"} if row["attention"] == "pairs" else dict(row)


def asked(raw: Mapping[str, Any], choice: Choice) -> Asked:
    """The growth, as the refusals of its declaration see it."""
    config = parse(raw)
    sizes = architectures.find(raw["model_type"]).at(config).read_sizes(config)
    return Asked(
        config,
        raw["architectures"][0],
        choice.get("attention", "heads"),
        choice.get("scaling", "unit"),
        choice.get("rope", "slots"),
        float(Fraction(choice.get("width", 2))),
        frozenset(name for name, size in choice.get("sizes", {}).items() if size not in (KEEP, sizes[name])),
    )


def is_refused(raw: Mapping[str, Any], choice: Choice) -> bool:
    """Whether the declaration says that such a growth is refused. Where the heads times a fraction are
    no whole number, heads may grow in the other way than asked for: then neither may be refused."""
    growth = asked(raw, choice)
    if choice.get("last_hidden_state") == "equal" and ties_its_last_hidden_state(raw):
        return True
    ways = [growth]
    if uneven_heads(growth.config, raw["model_type"], Fraction(choice.get("width", 2))):
        ways = [replace(growth, attention=way) for way in ("heads", "head-dim")]
    return any(refusal.applies(way) for refusal in architectures.find(raw["model_type"]).refuses for way in ways)


def ties_its_last_hidden_state(raw: Mapping[str, Any]) -> bool:
    """Whether a head that reads the last hidden state is tied to an embedding, by the model itself."""
    architecture, kind = architectures.find(raw["model_type"]).at(parse(raw)), class_of(raw)
    shown = architecture.output_space("last_hidden_state", kind.__name__)
    if not isinstance(architecture.laws.get(shown), (Dual, Scaled)):
        return False
    with torch.device("meta"):
        model: Any = kind(parse(raw))
    head = model.get_output_embeddings()
    embeddings = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    return head is not None and any(head.weight is embedding.weight for embedding in embeddings)


def uneven_heads(config: Any, model_type: str, width: Fraction) -> bool:
    sizes = architectures.find(model_type).at(config).read_sizes(config)
    return any((size * width).denominator > 1 for name, size in sizes.items() if name.endswith("num_attention_heads"))


def first_accepted(raw: Mapping[str, Any], wanted: Sequence[Choice], number: int) -> Choice:
    """The choice of that number, or the next one that the declaration does not refuse; where it
    refuses them all, the feed-forward layers grow alone."""
    turned = [*wanted[number % len(wanted) :], *wanted[: number % len(wanted)]]
    return next((choice for choice in turned if not is_refused(raw, choice)), None) or feed_forward_alone(raw)


def feed_forward_alone(raw: Mapping[str, Any]) -> Choice:
    sizes = architectures.find(raw["model_type"]).at(parse(raw)).read_sizes(parse(raw))
    return {"sizes": {"intermediate_size": 2 * sizes["intermediate_size"]}, "noise": 0.4}


def odd_sizes(raw: dict[str, Any]) -> dict[str, int]:
    """Sizes to grow to of which none is a whole multiple, and the ratios differ; heads keep their
    width where positions are rotary."""
    config = parse(raw)
    architecture = architectures.find(raw["model_type"]).at(config)
    old, others = architecture.read_sizes(config), itertools.cycle((1.75, 1.9, 2.2, 1.3))
    free = [
        name for name, size in choosable_sizes(architecture.sizes, config).items() if size.grows in ("width", "heads")
    ]
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


def fractional(choice: Choice) -> bool:
    """Whether more is asked for than whole multiples."""
    return "sizes" in choice or Fraction(choice.get("width", 2)).denominator > 1


def nearest(choice: Choice, refusal: IllegalGrowthError) -> Choice:
    """The same choice at the nearest shape that a refusal names.

    Raises:
        IllegalGrowthError: the refusal, for whole multiples and where it is not about the shape.
    """
    found = at_nearest(choice, refusal) if fractional(choice) else None
    if found is None:
        raise refusal
    return found


def planned(raw: Mapping[str, Any], choice: Choice) -> tuple[Choice, Plan]:
    """The plan of a choice, or of the nearest shape where there is none of the one that is asked for,
    and which of the two it is. Raises what `nearest` does."""
    try:
        return choice, plan_config(raw, chosen(choice))  # type: ignore[arg-type]
    except IllegalGrowthError as refusal:
        found = nearest(choice, refusal)
    return found, plan_config(raw, chosen(found))  # type: ignore[arg-type]


def check_twin(raw: Mapping[str, Any], choice: Choice) -> Plan:
    """Grow the small config in memory, or at the nearest shape, and compare."""
    found, plan = planned(config := Config.of(raw), choice)
    sizes = plan.old_sizes, plan.new_sizes
    report = twin_report(config, chosen(found), in_ratio_of=sizes)  # type: ignore[arg-type]
    assert report.ok, f"{report.difference:.3g} off: {choice}"
    assert report.scale > 1e-3
    return plan


def check_on_disk(raw: dict[str, Any], choice: Choice, folder: Path) -> Plan:
    """Save the small model, widen the folder, load both by plain ``from_pretrained`` and compare."""
    model_class = raw["architectures"][0]
    small = build_exact(raw)
    loud(small, 1)
    small.save_pretrained(folder / "small")
    result = growth.widen_checkpoint(folder / "small", folder / "wide", **planned(raw, choice)[0])
    before, after = load(folder / "small", model_class), load(folder / "wide", model_class)
    assert difference(before, after, result.plan) <= TOLERANCE
    assert result.proof.twin.difference <= TOLERANCE and result.proof.fold.ok
    if isinstance(before, GenerationMixin) and before.main_input_name == "input_ids" and before.can_generate():
        assert generate(after) == generate(before)
    return result.plan


ALL = list(cases())
MAIN = list(
    {
        case[0]: case
        for case in sorted(
            ALL, key=lambda case: (case[1].endswith(("LM", "LMHeadModel", "Generation", "MTModel")), not case[2])
        )
    }.values()
)
"""One class of each family, one that generates if there is one, under its plainest config."""
ODD = [
    {"width": 3, "noise": 0.4, "attention": attention, "scaling": scaling}
    for attention in ("heads", "head-dim")
    for scaling in ("unit", "orthogonal")
]
QUICK = [case for case in ALL if not case[2] or case[1] in {main[1] for main in MAIN}]
"""Every class under the default config, and one class of each family under every branch."""
CLASSIFY = {
    "vit": "ViTForImageClassification",
    "deit": "DeiTForImageClassification",
    "dinov2": "Dinov2ForImageClassification",
}
WITHOUT_LOGITS = ("siglip_text_model", "siglip_vision_model")
"""Families whose only class returns nothing but hidden states; ``siglip`` has both inside."""
WITH_LOGITS = [case for case in MAIN if case[0] not in (*CLASSIFY, *WITHOUT_LOGITS)] + [
    (name, kind, {}) for name, kind in CLASSIFY.items()
]
"""One class of each family that returns what does not grow, which a loss can be taken of."""
