"""Models of every declared family with more layers: what is asked for, what is refused and why, and the
comparison of the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationMixin, PreTrainedModel

from growth import architectures
from growth.errors import IllegalGrowthError
from growth.extension.stacks import layer_lists
from growth.hf.configs import Config
from growth.hf.model_classes import class_of
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.build import plan_config
from growth.plan.options import chosen
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.inputs import random_inputs
from growth.proof.miniature import VOCABULARY, build_exact, loud
from growth.proof.outputs import forward
from growth.proof.twin import sizes_of, twin_report
from growth.weights.grow import grow_tensor
from support.families import at_nearest, difference, generate
from support.family_cases import Case, Choice, is_refused, load

POST_NORM = frozenset(
    {"bart", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "marian", "mpnet"}
    | {"roberta", "roformer", "xlm-roberta", "xlnet"}
)
"""Families in which ``norm(x + f(x))`` is what a layer returns."""


def refusal_of(case: Case) -> str:
    """What the refusal of more layers says of a case; empty where more layers are exact."""
    model_type, model_class, branch = case
    if model_type == "albert":
        return "share their weights"
    if model_type in POST_NORM or (model_type == "bloom" and branch.get("apply_residual_connection_post_layernorm")):
        return "post-norm"
    if model_type == "opt" and branch.get("do_layer_norm_before") is False:
        return (
            "post-norm" if branch.get("layer_norm_elementwise_affine", True) else "a norm stands on the stream itself"
        )
    if model_class == "WhisperForAudioClassification" and branch.get("use_weighted_layer_sum"):
        return "has an entry for each layer"
    return ""


def deeper(raw: Mapping[str, Any], more: int = 2, **others: Any) -> Choice:
    """The choice of so many more layers in every list of layers of a model."""
    config = Config.of(raw)
    lists = layer_lists(config, architectures.find(raw["model_type"]).at(config.parsed), class_of(config))
    sizes = {one.size: one.count + more for one in lists} or {"num_hidden_layers": 99}
    return {"sizes": sizes, **others}


def planned(raw: Mapping[str, Any], choice: Choice) -> tuple[Choice, Plan]:
    """The plan of a choice, and which choice it is: at the nearest width where that is refused."""
    wanted = choice
    if choice.get("width") and is_refused(raw, {"width": choice["width"]}):
        wanted = {**choice, "attention": "head-dim"}
        if is_refused(raw, {"width": choice["width"], "attention": "head-dim"}):
            wanted = {name: value for name, value in choice.items() if name != "width"}
    try:
        return wanted, plan_config(raw, chosen(wanted))  # type: ignore[arg-type]
    except IllegalGrowthError as refusal:
        found = at_nearest({}, refusal)
        if not wanted.get("width") or not found:
            raise
    nearest = {**{n: v for n, v in wanted.items() if n != "width"}, "sizes": {**wanted["sizes"], **found["sizes"]}}
    return nearest, plan_config(raw, chosen(nearest))  # type: ignore[arg-type]


def grown(raw: Mapping[str, Any], plan: Plan) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A loud model, and the one that a plan makes of it, both in float64."""
    small = build_exact(raw)
    loud(small, 1)
    held = {name: value.detach() for name, value in to_disk(small, small.state_dict()).items()}
    read = plan.reading(held.__getitem__)
    large = build_exact(plan.new)
    weights = {name: grow_tensor(read(name), tensor, seed=0) for name, tensor in plan.tensors.items()}
    large.load_state_dict(from_disk(large, weights), strict=False)
    return small, large


def check(raw: Mapping[str, Any], choice: Choice, *, twin: bool = True) -> tuple[PreTrainedModel, Plan]:
    """Grow a small config, and compare the two models themselves: every output, the hidden states of
    the old layers, and greedy generation with a cache. Then the twin."""
    choice, plan = planned(config := Config.of(raw), choice)
    assert plan.extension is not None
    small, large = grown(raw, plan)
    found = difference(small, large, plan)
    assert found <= TOLERANCE, f"{found:.3g} off: {choice}"
    if isinstance(small, GenerationMixin) and small.main_input_name == "input_ids" and small.can_generate():
        for model in (small, large):
            model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, None
        assert generate(large) == generate(small)
    if twin:
        report = twin_report(config, plan.options, "cpu", plan.declared, sizes_of(plan), plan.extension)
        assert report.ok and report.scale > 1e-3, f"the twin is {report.difference:.3g} off: {choice}"
    return large, plan


def check_again(raw: Mapping[str, Any], choice: Choice, folder: Path) -> None:
    """A grown model goes through ``save_pretrained`` and ``from_pretrained``, and grows once more by
    layers and width."""
    large, _ = check(raw, choice, twin=False)
    large.save_pretrained(folder)
    loaded = load(folder, type(large).__name__)
    state = loaded.state_dict()
    assert all(torch.equal(state[name], value) for name, value in large.state_dict().items())
    inputs = random_inputs(large, VOCABULARY)
    found = forward(loaded, inputs)
    apart = {name: float((found[name] - value).abs().max()) for name, value in forward(large, inputs).items()}
    assert max(apart.values()) <= TOLERANCE, apart
    saved = {**loaded.config.to_dict(), "architectures": [type(large).__name__]}
    _, plan = planned(saved, deeper(saved, 1, width=2))
    assert plan.extension is not None
    held = {name: value.detach() for name, value in to_disk(loaded, state).items()}
    read = plan.reading(held.__getitem__)
    third = build_exact(plan.new)
    weights = {name: grow_tensor(read(name), tensor, seed=0) for name, tensor in plan.tensors.items()}
    third.load_state_dict(from_disk(third, weights), strict=False)
    assert difference(loaded, third, plan) <= TOLERANCE


def places(plan: Plan) -> Sequence[tuple[tuple[int, ...], tuple[int, ...]]]:
    """For each list of layers, where the old ones are, and what each of the new list is or copies."""
    assert plan.extension is not None
    return [(stack.kept, stack.origins) for stack in plan.extension.stacks]
