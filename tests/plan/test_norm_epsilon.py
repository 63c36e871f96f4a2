"""Two norms that share one epsilon and need two values of it are refused, with the way that is left."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, LlamaConfig

import growth
from growth import architectures
from growth.algebra.maps import Map
from growth.algebra.roles import Gain
from growth.architectures import BRANCH, NORMED, RESIDUAL
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.norm_epsilon import grown_epsilons
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact, loud
from growth.weights.grow import grow_tensor


@pytest.mark.parametrize(
    ("scaling", "way"),
    [
        ("orthogonal", "Use --scaling unit, which keeps it."),
        ("unit", "Use whole multiples of the old sizes, which keep it."),
    ],
)
def test_a_refused_epsilon_says_what_is_left(scaling: str, way: str) -> None:
    maps = {RESIDUAL: Map.repeat(2, 4), BRANCH: Map.repeat(2, 4, 0.5)}
    gains = [Gain(RESIDUAL, NORMED), Gain(BRANCH, RESIDUAL)]
    with pytest.raises(growth.GrowthError) as caught:
        grown_epsilons(architectures.find("llama"), LlamaConfig(rms_norm_eps=1e-2), maps, gains, scaling)
    assert str(caught.value).endswith(way)
    assert grown_epsilons(architectures.find("llama"), LlamaConfig(), maps, gains[:1], scaling) == ({}, [])


BERT = {
    "model_type": "bert",
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 1,
    "intermediate_size": 40,
    "vocab_size": 50,
    "max_position_embeddings": 16,
}


def relied_on(raw: dict[str, object], **options: object) -> list[str]:
    plan = growth.plan_widening(raw, **{"width": 2, "scaling": "orthogonal", **options})
    return [note for note in plan.notes if "variance of what enters it" in note]


def test_a_plan_says_where_it_relies_on_an_epsilon_being_nothing_beside_a_variance() -> None:
    head = {**BERT, "architectures": ["BertForMaskedLM"]}
    (note,) = relied_on(head)
    assert (
        "two values of layer_norm_eps (1e-12)" in note
        and "move by 2.5e-13 over the variance" in note
        and "'transform'" in note
    )
    assert not relied_on(head, scaling="unit")
    assert not relied_on({**BERT, "architectures": ["BertModel"]})
    distilbert = {"model_type": "distilbert", "architectures": ["DistilBertModel"], "n_layers": 1}
    assert "the epsilon in the code" in relied_on(distilbert)[0]


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_the_bound_in_that_note_is_true_whatever_the_weights(scale: float) -> None:
    """Against a small transform even 1e-12 shows, as the note says: by about 2.5e-13 over its variance."""
    config = BertConfig(**BERT, layer_norm_eps=1e-12, hidden_act="relu")
    with exact_arithmetic():
        small = build_exact({**config.to_dict(), "architectures": ["BertForMaskedLM"]})
        small.config.architectures = ["BertForMaskedLM"]
        loud(small)
        head = small.cls.predictions.transform
        with torch.no_grad():
            head.dense.weight *= scale
            head.dense.bias *= scale
        plan = growth.plan_widening(small.config.to_dict(), width=2, scaling="orthogonal")
        weights = to_disk(small, small.state_dict())
        wide = build_exact(plan.new)
        grown = {name: grow_tensor(weights[name].detach(), tensor) for name, tensor in plan.tensors.items()}
        wide.load_state_dict(from_disk(wide, grown), strict=False)
        entering: list[torch.Tensor] = []
        head.LayerNorm.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0].detach()))
        ids = torch.randint(3, 50, (2, 9), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            before, after = small(ids).logits, wide(ids).logits
        variance = float(entering[0].var(-1, unbiased=False).min())
    moved = float((after - before).abs().max() / before.abs().max())
    assert moved <= 4 * 2.5e-13 / variance + 1e-13
    assert (moved > 1e-8) == (scale < 1)
