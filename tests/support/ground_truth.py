"""What the inference finds for a declared family, beside what its declaration says: the same
miniature with loud random weights, grown by either, bit for bit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.errors import GrowthError, UnsupportedModelError
from growth.hf.model_classes import class_of
from growth.hf.tensor_names import to_disk
from growth.infer.infer import infer
from growth.plan.build import build_plan
from growth.plan.declared import Declared
from growth.plan.options import Options
from growth.plan.plan import Plan
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact, loud, miniature
from growth.weights.grow import grow_tensor
from support.family_cases import ALL, CLASSIFY, MAIN

ROUNDING = 4e-16
"""Two float64 that differ by one rounding are within this, relative to their size."""


@dataclass(frozen=True)
class Verdict:
    """How an inferred declaration compares with the one that was written.

    Args:
        refused: why nothing could be inferred; empty if something was.
        tensors: name with ``*`` for numbers -> how it differs: ``last bit``, a factor such as ``x2``, or
            ``other copies``. Empty if all are the same.
        fields: config fields that the two set otherwise.
    """

    refused: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()

    @property
    def same_bits(self) -> bool:
        return not self.refused and not self.tensors


@dataclass(frozen=True)
class Why:
    """Why an inferred declaration is not the one that was written.

    Args:
        reason: in a few words, for the table of the documentation.
        refused: a part of the refusal; empty if something is inferred.
        tensors: as of a `Verdict`; ``*`` stands for some of them.
        fields: as of a `Verdict`: the weights are the same, and these config fields are not.
    """

    reason: str
    refused: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    fields: frozenset[str] = frozenset()

    def expects(self, found: Verdict) -> bool:
        """Whether a comparison came out so, in every detail."""
        tensors = dict(found.tensors)
        if "*" in self.tensors and self.tensors["*"] in tensors.values():
            tensors = dict(self.tensors)
        return (
            bool(self.refused) == bool(found.refused)
            and self.refused in found.refused
            and (dict(self.tensors), self.fields) == (tensors, found.fields)
        )


ALIBI = Why(
    "ALiBi: a wider model has more heads, with slopes of their own; the declaration knows which to silence",
    refused="ALiBi",
)
SINUSOIDS = Why("sinusoids over the features are others in a wider model", refused="Sinusoids")
UNUSED_COPY = Why(
    "a copy of the embedding that the untied model does not use",
    tensors={"model.shared.weight": "x1.414"},
)
FOUR_GROUPS = Why(
    "the code lays heads out in four groups, and a miniature with four heads of 256 features is too large; with "
    "narrower heads it is the same",
    refused="shape '[2, 11, 4, 0, 256]' is invalid",
)
DRAFTS = Why(
    "untied, the declaration leaves what the final norm writes as large as it is, since layers that predict further "
    "tokens read it, which the class does not run: the factor 1/k stands in the head instead of the norm",
    tensors={"lm_head.weight": "x2", "model.norm.weight": "x0.5"},
)
CONTACTS = Why(
    "the contact head, which the forward pass does not use, has an input for every head of every layer: no multiple "
    "of a size",
    refused="dimension 1 of 'esm.contact_head.regression.weight' is 144",
)
ONE_KEY = Why("the same weights; a count of key/value heads that this class does not use is multiplied as well")
PER_HEAD = Why(
    "every head has a norm of its own, so that a wider model does more operations",
    refused="a wider one 'native_layer_norm', as where every head has a module of its own",
)
FLOAT32 = Why("the class cannot run in float64 so", refused="attn_weights does not have dtype torch.float32")
SLICES = Why(
    "the code cuts what it multiplies into slices across the heads",
    refused="a dimension is cut after 12 coordinates, within rows of 8",
)
GROUPS = Why(
    "the declaration grows the number of groups of a convolution, the inference the width of each: both are exact",
    tensors={"*": "other copies"},
    fields=frozenset({"conv_groups"}),
)
DIFFERING: dict[str, Why] = {
    "bloom": ALIBI,
    "codegen": FOUR_GROUPS,
    "deepseek_v3": DRAFTS,
    "esm": CONTACTS,
    "falcon": replace(ONE_KEY, fields=frozenset({"num_kv_heads"})),
    "gpt_bigcode": replace(ONE_KEY, fields=frozenset({"num_key_value_heads"})),
    "m2m_100": replace(SINUSOIDS, reason=f"{SINUSOIDS.reason}; the declaration refuses it too"),
    "mpt": ALIBI,
    "xglm": replace(SINUSOIDS, reason=f"{SINUSOIDS.reason}; the declaration refuses it too"),
    "xlnet": replace(SINUSOIDS, reason=f"{SINUSOIDS.reason}; the declaration spreads them by a law of its own"),
}
"""Model type -> why its inferred declaration is another one, at the defaults of its config. All others are
the same."""
BRANCHES: dict[tuple[str, int], Why] = {
    ("bart", 1): UNUSED_COPY,
    ("bloom", 1): ALIBI,
    ("bloom", 2): SLICES,
    ("codegen", 1): FOUR_GROUPS,
    ("codegen", 2): FOUR_GROUPS,
    ("deberta-v2", 3): GROUPS,
    ("deepseek_v3", 1): DRAFTS,
    ("esm", 1): CONTACTS,
    ("esm", 2): CONTACTS,
    ("falcon", 4): ALIBI,
    ("falcon", 5): ALIBI,
    ("falcon", 6): ALIBI,
    ("gpt2", 2): FLOAT32,
    ("gpt_bigcode", 2): DIFFERING["gpt_bigcode"],
    ("marian", 1): UNUSED_COPY,
    ("mbart", 1): UNUSED_COPY,
    ("mpt", 1): ALIBI,
    ("mpt", 2): ALIBI,
    ("mpt", 3): ALIBI,
    ("pegasus", 1): UNUSED_COPY,
    ("stablelm", 2): PER_HEAD,
    ("stablelm", 3): PER_HEAD,
    ("xlnet", 1): SINUSOIDS,
    ("xlnet", 2): SINUSOIDS,
}
"""(model type, number of a branch of its declaration) -> the same, under that branch."""
REFUSED_CLASSES = {"m2m_100": "M2M100ForConditionalGeneration", "xglm": "XGLMForCausalLM"}
"""Classes of the families that are declared, and always refused."""
UNBUILT = ("deepseek_v2", "esm", "nemotron")
"""Families whose class cannot be built at its defaults: the first branch of the declaration stands for them."""


def main_case(model_type: str) -> tuple[str, str, dict[str, Any]]:
    """The class of a family that is compared, and what of its config is not the default."""
    kinds = {**{name: kind for name, kind, _ in MAIN}, **CLASSIFY, **REFUSED_CLASSES}
    branch = dict(architectures.find(model_type).branches[0]) if model_type in UNBUILT else {}
    return model_type, kinds[model_type], branch


def branch_cases() -> list[tuple[str, str, dict[str, Any]]]:
    """The same classes under every branch of their declarations."""
    plain = [main_case(model_type) for model_type in architectures.known()]
    kinds = {name: kind for name, kind, _ in plain}
    return [case for case in ALL if case[1] == kinds[case[0]] and case not in plain]


NARROWER = ("codegen", "CodeGenForCausalLM", {"n_embd": 256, "n_head": 8, "rotary_dim": 8})
"""A family whose miniature is too large at the defaults."""


def table() -> str:
    """The table of the documentation."""
    same = [name for name in architectures.known() if name not in DIFFERING]
    rows = []
    for name, why in DIFFERING.items():
        found = "refused" if why.refused else "other bits" if why.tensors else "the same bits"
        rows.append(f"| `{name}` | {found} | {why.reason} |")
    bits = len(same) + sum(not why.refused and not why.tensors for why in DIFFERING.values())
    return "\n".join(
        [
            f"For {bits} of the {len(architectures.known())} families, the weights are the same bit for bit: "
            f"{', '.join(f'`{name}`' for name in same)}, and those of the table that say so.",
            "",
            "| model type | inferred | why not the same |",
            "|---|---|---|",
            *rows,
        ]
    )


def default_config(model_type: str, model_class: str, branch: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a class at its defaults, but for what ``branch`` says."""
    parsed = AutoConfig.for_model(model_type, **branch)
    raw: dict[str, Any] = {**json.loads(parsed.to_json_string(use_diff=True)), "architectures": [model_class]}
    raw["model_type"] = parsed.model_type
    if parsed.is_encoder_decoder and getattr(parsed, "decoder_start_token_id", None) is None:
        raw["decoder_start_token_id"] = 0
    return raw


def verdict(model_type: str, model_class: str, branch: Mapping[str, Any]) -> Verdict:
    """Infer a declaration without a look at the one there is, and compare what the two make of one miniature."""
    raw = default_config(model_type, model_class, branch)
    try:
        inferred = infer(raw, class_of(raw))
    except UnsupportedModelError as refusal:
        return Verdict(refused=str(refusal))
    return compared(raw, architectures.find(model_type), inferred)


def compared(raw: Mapping[str, Any], written: Architecture, inferred: Architecture) -> Verdict:
    """What two declarations of one model make of its miniature, at twice and three times the width."""
    tensors: dict[str, str] = {}
    fields: set[str] = set()
    with exact_arithmetic(), torch.random.fork_rng(devices=[]):
        small = miniature(raw, inferred.at(class_of(raw).config_class.from_dict(dict(raw))))
        model = build_exact(small)
        loud(model, 1)
        weights = {name: value.detach() for name, value in to_disk(model, model.state_dict()).items()}
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        for width in (2, 3):
            try:
                one, other = (
                    build_plan(small, shapes, Options(width=width, symmetry="none"), Declared(architecture))
                    for architecture in (written, inferred)
                )
            except GrowthError as error:
                return Verdict(refused=f"no plan at x{width}: {error}")
            assert one.tensors.keys() == other.tensors.keys()
            for name in one.tensors:
                if said := _difference(weights[name], name, one, other):
                    tensors.setdefault(re.sub(r"\.\d+\.", ".*.", name), said)
            fields |= {name for name in {**one.new, **other.new} if one.new.get(name) != other.new.get(name)}
    return Verdict("", tensors, frozenset(fields))


def _difference(weight: Tensor, name: str, one: Plan, other: Plan) -> str:
    first, second = (grow_tensor(weight, plan.tensors[name]) for plan in (one, other))
    if first.shape != second.shape:
        return f"{list(first.shape)} and {list(second.shape)}"
    if torch.equal(first, second):
        return ""
    if bool(((first - second).abs() <= ROUNDING * first.abs()).all()):
        return "last bit"
    used = first.abs() > 0
    ratios = second[used] / first[used]
    ratio = float(ratios.median())
    uniform = bool(((ratios - ratio).abs() < 1e-9 * abs(ratio)).all()) and bool((second[~used] == 0).all())
    return f"x{ratio:.4g}" if uniform else "other copies"


PAGE = Path(__file__).parents[2] / "docs" / "families.md"
BEGIN, END = "<!-- ground truth: python -m support.ground_truth, in tests -->\n", "\n<!-- end of ground truth -->"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END.lstrip())[2]}", encoding="utf-8")
