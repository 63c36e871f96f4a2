"""What people change by hand in a model in memory, and what the refusal says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune
from transformers import LlamaForCausalLM

from growth.proof.miniature import loud
from support.optimizers import llama

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Edit = Callable[[Any], Any]


class Louder(nn.Linear):
    """A head with a computation of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 1.1 * super().forward(input)


class Added(nn.Module):
    """A wrapper without a name of its own in the state dict, as a fused LoRA would be."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = [inner]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.1 * self.inner[0](x)  # type: ignore[no-any-return]


def patched(module: nn.Module) -> None:
    forward = module.forward
    module.forward = lambda *given, **named: 1.1 * forward(*given, **named)  # type: ignore[method-assign]


def doubled(module: nn.Module, given: Any, output: Any) -> Any:
    output.logits = 2 * output.logits
    return output


def smoothed(logits: torch.Tensor, labels: torch.Tensor, vocab_size: int, **_: Any) -> torch.Tensor:
    """A loss of the user's own."""
    return nn.functional.cross_entropy(logits.reshape(-1, vocab_size), labels.reshape(-1), label_smoothing=0.2)


LAYER = "model.layers.1"
EDITS: dict[str, tuple[Edit, str]] = {
    "activation": (
        lambda model: setattr(model.model.layers[1].mlp, "act_fn", nn.ReLU()),
        f"'{LAYER}.mlp.act_fn' .it is ReLU, by the config SiLUActivation",
    ),
    "a module around": (
        lambda model: setattr(model.model.layers[1].mlp, "act_fn", Added(model.model.layers[1].mlp.act_fn)),
        f"'{LAYER}.mlp.act_fn' .it is Added, by the config SiLUActivation",
    ),
    "scaling": (
        lambda model: setattr(model.model.layers[1].self_attn, "scaling", 0.41),
        f"'{LAYER}.self_attn' .scaling is 0.41, by the config 0.408",
    ),
    "frequencies": (
        lambda model: model.model.rotary_emb.inv_freq.mul_(0.5),
        "'model.rotary_emb' .inv_freq is not the one of the config",
    ),
    "epsilon": (
        lambda model: setattr(model.model.norm, "variance_epsilon", 1e-3),
        "'model.norm' .variance_epsilon is 0.001, by the config 1e-06",
    ),
    "epsilon in the config": (
        lambda model: setattr(model.config, "rms_norm_eps", 1e-3),
        "'model.layers.0.input_layernorm' .variance_epsilon is 1e-06, by the config 0.001",
    ),
    "activation in the config": (
        lambda model: setattr(model.config, "hidden_act", "relu"),
        "'model.layers.0.mlp.act_fn' .it is SiLUActivation, by the config ReLU",
    ),
    "class of the head": (
        lambda model: setattr(model.lm_head, "__class__", Louder),
        "'lm_head' .it is Louder, by the config Linear",
    ),
    "hook": (
        lambda model: model.model.layers[1].register_forward_hook(lambda module, given, output: 1.01 * output),
        f"'{LAYER}' .it has a forward hook",
    ),
    "pre-hook": (
        lambda model: model.model.layers[1].mlp.register_forward_pre_hook(lambda module, given: (1.01 * given[0],)),
        f"'{LAYER}.mlp' .it has a forward pre-hook",
    ),
    "hook of the model": (
        lambda model: model.register_forward_hook(doubled),
        "the model itself .it has a forward hook",
    ),
    "forward": (lambda model: patched(model.model.layers[1].mlp), f"'{LAYER}.mlp' .its forward was replaced"),
}


def loud_llama(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    model = llama()
    loud(model)
    return model.to(dtype)  # type: ignore[arg-type]


UNSEEN: dict[str, tuple[Edit, str]] = {
    "bidirectional": (
        lambda model: [setattr(layer.self_attn, "is_causal", False) for layer in model.model.layers],
        "does not compute what its config says: .* 'model.layers.0.self_attn' .is_causal is False, by the config True",
    ),
    "norm of an embedding": (
        lambda model: setattr(model.model.embed_tokens, "max_norm", 1e-3),
        r"is not what its config says: model.embed_tokens.max_norm is 0.001, by the config None",
    ),
    "kind of norm": (
        lambda model: setattr(model.model.embed_tokens, "norm_type", 1.0),
        r"is not what its config says: model.embed_tokens.norm_type is 1.0",
    ),
    "loss": (
        lambda model: setattr(model, "loss_type", "ForMaskedLM"),
        r"is not what its config says: loss_type is ForMaskedLM, by the config ForCausalLM",
    ),
    "loss function": (
        lambda model: setattr(model, "loss_function", smoothed),
        r"is not what its config says: loss_function is smoothed, by the config ForCausalLMLoss",
    ),
    "constant of the class": (
        lambda model: setattr(model, "supports_gradient_checkpointing", False),
        r"is not what its config says: supports_gradient_checkpointing is False, by the config True",
    ),
}
"""Attributes set by hand that the outputs on padded tokens do not show."""


class LowRank(nn.Module):
    """A linear map and a correction of low rank, as adapters have it."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.down, self.up = nn.Linear(inner.in_features, 2), nn.Linear(2, inner.out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + self.up(self.down(x))  # type: ignore[no-any-return]


REPLACED: dict[str, tuple[Edit, str]] = {
    "adapter": (
        lambda model: setattr(model.model.layers[0].mlp, "up_proj", LowRank(model.model.layers[0].mlp.up_proj)),
        r"has no 'model.layers.0.mlp.up_proj.weight', but has 'model.layers.0.mlp.up_proj.inner.weight'",
    ),
    "sequence": (
        lambda model: setattr(model.model.layers[0], "mlp", nn.Sequential(model.model.layers[0].mlp, nn.ReLU())),
        r"has no 'model.layers.0.mlp.gate_proj.weight', but has 'model.layers.0.mlp.0.gate_proj.weight'",
    ),
    "no norm": (lambda model: setattr(model.model, "norm", nn.Identity()), r"has no 'model.norm.weight': a module"),
    "pruned": (
        lambda model: prune.l1_unstructured(model.model.layers[0].mlp.up_proj, "weight", 0.5),
        r"has no 'model.layers.0.mlp.up_proj.weight', but has 'model.layers.0.mlp.up_proj.weight_",
    ),
}
"""Modules with weights of their own, replaced or wrapped."""
