"""A declaration for a model that nobody declared."""

from __future__ import annotations

import inspect
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from growth.architectures import patterns
from growth.architectures.architecture import Architecture
from growth.architectures.sections import joined
from growth.errors import FOREIGN_ERRORS, IllegalGrowthError, UnsupportedModelError
from growth.hf.configs import Config
from growth.hf.custom_configs import RESERVED_FIELDS
from growth.hf.expected_tensors import without_weights
from growth.hf.own_modules import OwnWrapper
from growth.infer import operations
from growth.infer.contradictions import contradiction
from growth.infer.declare import declared
from growth.infer.disk import on_disk
from growth.infer.errors import Differs, Unexplained, Unsized
from growth.infer.naming import Sizing
from growth.infer.own_fields import nothing_inside
from growth.infer.pair import Pair, pairs
from growth.infer.recording import record
from growth.infer.sizes import growing
from growth.infer.solution import Solution, solve
from growth.infer.tensor_names import starred
from growth.infer.unused import remark, unused
from growth.infer.values import RULES
from growth.infer.walk import Walk
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import VOCABULARY, build_exact, loud
from growth.proof.unknown_inputs import reads_more_than_text

assert operations and RULES


LOG = logging.getLogger(__name__)


def infer(
    config: Mapping[str, Any], model_class: type[PreTrainedModel], towers: Collection[str] = ("text",)
) -> Architecture:
    """The declaration of a model, found on its miniature.

    The miniature and a wider one run side by side. Every operation says which dimensions are one space and how values
    scale (`growth.infer.walk`); solving that gives the role of every parameter. It covers this config and this class:
    whole multiples of the width, more heads of the same size, copies at scale 1.

    Args:
        config: of the model.
        model_class: of the model.
        towers: of a model of several, which ones grow: ``text``, ``vision``, ``audio``, or sections of the config.

    Raises:
        UnsupportedModelError: naming the operation, the module or the tensor that could not be explained.

    Example:
        >>> from transformers import ApertusForCausalLM
        >>> found = infer({"model_type": "apertus", "architectures": ["ApertusForCausalLM"]}, ApertusForCausalLM)
        >>> [str(role) for role in found.roles("layers.0.mlp.down_proj.weight", "ApertusForCausalLM")]
        ['writes residual', 'reads ffn']
    """
    with torch.random.fork_rng(devices=[]):
        return _inferred(Config.of(config), model_class, towers)


def _inferred(base: Config, model_class: type[PreTrainedModel], towers: Collection[str]) -> Architecture:
    own = issubclass(model_class, OwnWrapper)
    several = not own and reads_more_than_text(model_class)
    if not several and tuple(towers) != ("text",):
        raise IllegalGrowthError(
            f"towers {', '.join(towers)} are of models of several towers, and {model_class.__name__} is of one piece. "
            "Leave towers out."
        )
    if own and not growing(base, model_class):
        raise UnsupportedModelError(nothing_inside(base, model_class.__name__))
    LOG.info("no declaration for %s: making a miniature", model_class.__name__)
    started, said = time.monotonic(), None
    for found in pairs(base, model_class, towers):
        LOG.info("inferring what the parameters of %s do, from two runs of its miniature", model_class.__name__)
        try:
            return _of_pair(found, base, model_class)
        except Unexplained as error:
            said = said or error
            if not isinstance(error, (Unsized, Differs)) or time.monotonic() - started > BUDGET:
                break
    why: Any = said
    if own:
        why = str(said).replace("module 'module'", "the module itself").replace("'module.", "'")
    raise UnsupportedModelError(
        f"no declaration could be inferred for this {model_class.__name__}: {why}. Declare the model with "
        "growth.register, or report it."
    ) from said


BUDGET = 60.0
"""Seconds after which no further miniature is tried."""


def _of_pair(found: Pair, base: Config, model_class: type[PreTrainedModel]) -> Architecture:
    """The declaration that a pair of miniatures gives.

    Raises:
        Unexplained: if it gives none.
        UnsupportedModelError: for a config whose sizes contradict each other.
    """
    own = issubclass(model_class, OwnWrapper)
    with exact_arithmetic():
        small, wide, solution = _compared(found)
        tensors = on_disk(small, wide, solution)
    sizing = Sizing(found, base.parsed, real_shapes(base, model_class))
    try:
        sizing.settle(solution)
    except Unexplained as error:
        if (why := contradiction(found.sizes, found.ratios, base.parsed)) is None:
            raise
        raise UnsupportedModelError(f"{model_class.__name__}: {why}.") from error
    prefixes = tuple(filter(None, [model_class.base_model_prefix]))
    return declared(
        solution,
        tensors,
        sizing,
        found.sizes,
        lambda name: patterns.modern(patterns.without_prefix(name, prefixes)),
        found.small.parsed,
        model_class.module_class if issubclass(model_class, OwnWrapper) else model_class,
        model_type=str(base.parsed.model_type),
        prefixes=prefixes,
        twin=found.architecture.twin,
        vouched=dict.fromkeys(paths(base, RESERVED_FIELDS if own else ())),
        positions="as in its code",
        **remark(unused(solution.walk, small)),
    )


def _compared(found: Pair) -> tuple[PreTrainedModel, PreTrainedModel, Solution]:
    """Both miniatures and what they say together. Where experts are run one by one, as many operations run as experts
    are chosen: all experts at once come first, then so many tokens that every expert is chosen."""
    said: Unexplained | None = None
    for experts, rows in (("batched_mm", 0), ("eager", 0), ("eager", MANY)):
        small, wide = (build_exact(config, experts=experts) for config in (found.small, found.wide))
        loud(small, seed=1)
        loud(wide, seed=2)
        if rows:
            _quieten(small, wide)
        inputs = many(small, rows) if rows else found.inputs
        try:
            return small, wide, explained(small, wide, inputs)
        except (Unexplained, *FOREIGN_ERRORS) as error:
            if not isinstance(error, Unexplained):
                said = said or Unexplained(f"{type(error).__name__}: {str(error)[:200]}")
                continue
            said = error if said is None or isinstance(said, Differs) else said
            if not isinstance(error, Differs):
                break
    raise said or Unexplained("nothing was tried")


def _quieten(small: PreTrainedModel, wide: PreTrainedModel) -> None:
    """Make the buffers of two models that do not grow small: among them are biases on the choice of experts, and a
    loud one would keep an expert from ever being chosen."""
    shapes = {name: value.shape for name, value in wide.state_dict().items()}
    for model in (small, wide):
        stored = model.state_dict().keys()
        for name, buffer in model.named_buffers():
            if name in stored and buffer.is_floating_point() and buffer.ndim == 1 and buffer.shape == shapes[name]:
                buffer.mul_(0.1)


MANY = 24
"""Rows of the inputs under which every expert of a miniature is chosen."""


def many(model: PreTrainedModel, rows: int) -> dict[str, Any]:
    """Inputs of many rows.

    Example:
        >>> from transformers import LlamaConfig, LlamaModel
        >>> size = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
        >>> small = LlamaModel(LlamaConfig(**size, num_hidden_layers=1, vocab_size=48))
        >>> many(small, 3)["input_ids"].shape
        torch.Size([3, 17])
    """
    vocabulary = min(VOCABULARY, int(getattr(model.config.get_text_config(), "vocab_size", None) or VOCABULARY))
    return random_inputs(model, vocabulary, batch=rows, length=17)


def explained(small: PreTrainedModel, wide: PreTrainedModel, inputs: Mapping[str, Any]) -> Solution:
    """What two models of one class, at two sizes, say together. Under `exact_arithmetic`.

    Raises:
        Unexplained: see `growth.infer.walk.Walk`.

    Example:
        >>> from transformers import LlamaConfig, LlamaModel
        >>> size = {"intermediate_size": 8, "head_dim": 4, "num_hidden_layers": 1, "vocab_size": 48}
        >>> heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
        >>> models = [LlamaModel(LlamaConfig(hidden_size=width, **size, **heads)).eval() for width in (8, 16)]
        >>> solution = explained(*models, {"input_ids": torch.ones(1, 3, dtype=torch.long)})
        >>> [part.kind for part in solution.parts["layers.0.mlp.up_proj.weight"]]
        ['keeps', 'reads']
    """
    one, other = (record(model, _arguments(model, inputs), held(model)) for model in (small, wide))
    walk = Walk(one, other).run()
    names = {id(parameter): name for name, parameter in small.named_parameters()}
    embedding, head = (
        names.get(id(getattr(part, "weight", None)))
        for part in (_part(small, "get_input_embeddings"), _part(small, "get_output_embeddings"))
    )
    return solve(walk, head, embedding, unused(walk, small))


def _part(model: Any, method: str) -> Any:
    try:
        return getattr(model, method)()
    except FOREIGN_ERRORS:
        return None


def _arguments(model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    taken = inspect.signature(type(model).forward).parameters
    wanted: dict[str, Any] = {"use_cache": False} if "use_cache" in taken else {}
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
    wanted |= {name: True for name in ("output_hidden_states", "return_dict") if name in taken or open_ended}
    return {**inputs, **wanted}


def held(model: PreTrainedModel) -> dict[str, Tensor]:
    """The parameters and stored buffers of a model, by name; tied ones once.

    Example:
        >>> from transformers import LlamaConfig, LlamaModel
        >>> size = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
        >>> small = LlamaModel(LlamaConfig(**size, num_hidden_layers=1, vocab_size=48))
        >>> [*held(small)][-1]
        'norm.weight'
    """
    stored = model.state_dict().keys()
    return {
        **dict(model.named_parameters()),
        **{name: buffer for name, buffer in model.named_buffers() if name in stored},
    }


def real_shapes(config: Config, model_class: type[PreTrainedModel]) -> dict[str, set[tuple[int, ...]]]:
    """Name with ``*`` for numbers -> shapes, of the real model's parameters.

    Example:
        >>> from transformers import LlamaModel
        >>> real_shapes(Config({"model_type": "llama"}), LlamaModel)["layers.*.mlp.up_proj.weight"]
        {(11008, 4096)}
    """
    shapes: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for name, value in without_weights(config.parsed, model_class).state_dict().items():
        shapes[starred(name)].add(tuple(value.shape))
    return dict(shapes)


def paths(config: Config, but: Collection[str] = ()) -> Iterator[str]:
    """The paths of all fields of a config, written or not, but those of some names.

    Example:
        >>> "hidden_size" in [*paths(Config({"model_type": "llama"}))]
        True
    """

    def inside(section: PreTrainedConfig, written: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name in {*section.to_dict(), *written}.difference(but, {"model_type"} if but else ()):
            part = getattr(section, name, None) if name in section.sub_configs else None
            if isinstance(part, PreTrainedConfig):
                yield from inside(part, written.get(name) or {}, joined(prefix, name))
            yield joined(prefix, name)

    yield from sorted(set(inside(config.parsed, config, "")))
