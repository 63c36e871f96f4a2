"""Which config fields of a module of the caller's count something inside it.

Its fields have names that nobody agreed on, so that the module itself is asked. A size grows only if
nothing outside the module depends on it:

* what goes in stays: a module with that field doubled no longer takes the inputs, or no parameter
  writes what the field counts;
* what comes out stays: a field that changes the shape of an output, and that no parameter reads,
  counts classes, actions or entries of a vocabulary; one that is read in a single place is a code. An
  output that is read in several places on the way is a hidden state, and may grow."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from growth.architectures.sections import joined
from growth.architectures.sizes import value_at
from growth.errors import FOREIGN_ERRORS, GrowthError
from growth.hf.config_json import edited
from growth.hf.configs import Config, config_to_build
from growth.hf.custom_configs import RESERVED_FIELDS
from growth.hf.expected_tensors import without_weights
from growth.hf.nested import nested_sections, plain_fields
from growth.hf.own_inputs import each_tensor, moved
from growth.hf.own_modules import OwnWrapper
from growth.infer.counts import with_counts
from growth.infer.meanings import Kind, kind
from growth.infer.probe import Shapes, shapes
from growth.infer.proportions import Field
from growth.infer.tensor_names import starred
from growth.infer.trial import MOST_PARAMETERS
from growth.proof.outputs import forward

FAILED = (GrowthError, *FOREIGN_ERRORS)

_COUNTS = re.compile(
    r"head_?(dim|size)|dim_?(per_)?heads?$|^d_(head|kv|k|v|qk)$|state|kernel|conv|stride|patch|groups?$|window|chunk|vocab"
    r"|position|layers?$|depth|blocks?$|block_size|experts?|top_?k|expan|factor|mult|ratio|scal|rank|rope|rotary|theta"
    r"|seed|steps?$|iters?$|image|img|resolution|length|(^|_)len$|max_|min_|dilation|padding|(^|_)(pad|bos|eos|sep|cls|mask)_"
    r"|batch|epochs?|tokens?$|latents?$|queries$|registers$|prompts?$|slots$|codebook|segments?$|frames$|rows$|columns$|_ids?$"
)
"""Names of what never is a width: the inside of a head, counts of modules, places and things."""

_CHANNELS = re.compile(r"(channels|units|features|hiddens?)$")
_WIDTHS = re.compile(r"(dim|size|width|inner)$")

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def own_kind(name: str, beside: Iterable[str]) -> Kind:
    """As `growth.infer.meanings.kind`; a name that only looks as if it counted things is unknown.

    Example:
        >>> [own_kind(name, ()) for name in ("base_channels", "n_code", "n_layers", "dim_head")]
        ['width', 'unknown', 'kept', 'kept']
    """
    found = kind(name, tuple(beside))
    if found not in ("kept", "unknown"):
        return found
    if _CHANNELS.search(name):
        return "width"
    return "kept" if _COUNTS.search(name) else "width" if _WIDTHS.search(name) else "unknown"


def inner_fields(config: Mapping[str, Any], model_class: type[OwnWrapper], fields: Sequence[Field]) -> list[Field]:
    """Those of some fields that count something inside the module.

    Args:
        config: of the module.
        model_class: its wrapper.
        fields: that may grow.

    Example:
        Of ``MLP(n_inputs=6, hidden=20, n_outputs=3)`` the field ``hidden``.
    """
    trials = _Trials.of(config, model_class)
    if trials is None:
        return list(fields)
    found = [field for field in fields if not trials.only_read(field.path)]
    found = _that_take_the_inputs(trials, found)
    out = trials.outputs(found)
    if out is None:
        return found
    for field in list(found):
        if trials.readers(field.path) > (0 if field.kind in ("hidden", "heads") else 1):
            continue
        without = trials.outputs([other for other in found if other is not field])
        if without is not None and without != out:
            found.remove(field)
            out = without
    return found


def nothing_inside(config: Config, name: str) -> str:
    """What to say of a module none of whose config fields counts something inside it."""
    sections = nested_sections(config.parsed).items()
    values = {path: value for at, section in sections for path, value in _listed(at, section)}
    widths = [path for path, value in values.items() if type(value) is not int]
    why = f"no field of its config is a width of this {name}"
    if widths:
        lists = "is a list" if len(widths) == 1 else "are lists"
        return (
            f"{why}: {', '.join(widths)} {lists}, of which no entry can grow alone. Give a config with a "
            "field for each width, and build= to make the list of them: "
            "growth.widen(module, config={'width_0': 64, ...}, build=lambda config: ...)."
        )
    numbers = f" ({', '.join(values)} count inputs, outputs or parts)" if values else ""
    return (
        f"{why}{numbers}. Give a config with a field for each width inside, and build= to match: growth.widen(module, "
        "config={'width': 64, ...}, build=lambda config: ...)."
    )


def _listed(path: str, section: Any) -> Iterable[tuple[str, Any]]:
    """The whole numbers of a section and its lists of several."""
    for name, value in plain_fields(section).items():
        if name in RESERVED_FIELDS:
            continue
        many = isinstance(value, (list, tuple)) and bool(value) and all(type(entry) is int for entry in value)
        if many or type(value) is int:
            yield joined(path, name), value


def _that_take_the_inputs(trials: _Trials, fields: list[Field]) -> list[Field]:
    """The fields that may be doubled together while the inputs stay: as many as possible."""
    doubtful = sorted(fields, key=lambda field: ORDER.index(field.kind) if field.kind in ORDER else 0)
    for count in range(min(len(fields), MOST_DROPPED) + 1):
        for dropped in itertools.combinations(doubtful, count):
            kept = [field for field in fields if field not in dropped]
            if trials.outputs(kept) is not None:
                return kept
    return fields


ORDER: tuple[Kind, ...] = ("unknown", "width", "feed-forward", "experts", "rank", "hidden", "heads")
"""Kinds of fields; those that are more likely to count inputs come first."""

MOST_DROPPED = 3
"""How many fields may count inputs beyond those that no parameter writes."""


class _Trials:
    """The module without values, with few layers, run at other sizes.

    Args:
        config: of the module.
        model_class: its wrapper.
        device: where it is run.
    """

    def __init__(self, config: Config, model_class: type[OwnWrapper], device: str) -> None:
        self.config, self.model_class, self.device = config, model_class, device
        self.before: Shapes = shapes(config, model_class)
        self.cache: dict[frozenset[str], dict[str, list[int]] | None] = {}
        module = self._built(config)
        inputs = model_class.inputs.draw(module.module, module.config.to_own(), batch=2, length=11, seed=0)
        self.inputs = moved(inputs, device)
        self.cache[frozenset()] = self._run(module)

    @classmethod
    def of(cls, config: Mapping[str, Any], model_class: type[OwnWrapper]) -> _Trials | None:
        """On no device, if the module runs there; else on the CPU, if it is small; else None."""
        for small in (with_counts(config), Config.of(config)):
            for device in ("meta", "cpu"):
                try:
                    found = cls(small, model_class, device)
                except FAILED:
                    continue
                return found
        return None

    def _built(self, config: Mapping[str, Any]) -> OwnWrapper:
        with torch.device(self.device), torch.random.fork_rng(devices=[]), torch.no_grad():
            if self.device != "meta" and self._count(config) > MOST_PARAMETERS:
                raise RuntimeError("too large to be run")
            module = self.model_class(config_to_build(config))  # type: ignore[arg-type]
            module.eval()  # type: ignore[no-untyped-call]
            return module

    def _count(self, config: Mapping[str, Any]) -> int:
        empty = without_weights(config_to_build(config), self.model_class)
        return sum(weight.numel() for weight in empty.parameters())

    def _run(self, module: OwnWrapper) -> dict[str, list[int]]:
        inputs = each_tensor(self.inputs, Tensor.clone)
        with torch.device(self.device), torch.random.fork_rng(devices=[]), torch.no_grad():
            return {name: list(value.shape) for name, value in forward(module, inputs, inner=False).items()}

    def outputs(self, fields: Sequence[Field]) -> dict[str, list[int]] | None:
        """The shapes of the outputs with some fields doubled; None if the module then takes the inputs no more."""
        key = frozenset(field.path for field in fields)
        if key not in self.cache:
            try:
                self.cache[key] = self._run(self._built(self._doubled(key)))
            except FAILED:
                self.cache[key] = None
        return self.cache[key]

    def _doubled(self, paths: Iterable[str]) -> Config:
        values = {path: 2 * value_at(self.config.parsed, path) for path in sorted(paths)}
        return edited(self.config, values, written=tuple(values))

    def _moved(self, path: str) -> list[tuple[str, type[nn.Module], int, int]]:
        """(name with ``*`` for numbers, type of the module, number of dimensions, dimension) of what a field moves."""
        try:
            after = shapes(self._doubled([path]), self.model_class)
        except FAILED:
            return []
        return [
            (starred(name), module, len(shape), dim)
            for name, (module, shape) in self.before.items()
            if name in after and len(after[name][1]) == len(shape)
            for dim, (old, new) in enumerate(zip(shape, after[name][1], strict=True))
            if old != new
        ]

    def only_read(self, path: str) -> bool:
        """Whether matrices read what a field counts, and no parameter writes it."""
        moved = self._moved(path)
        return bool(moved) and all(
            issubclass(module, LINEAR) and dims > 1 and dim == 1 for _, module, dims, dim in moved
        )

    def readers(self, path: str) -> int:
        """How many parameters may read what a field counts; those of all layers are one."""
        return len(
            {
                name
                for name, module, dims, dim in self._moved(path)
                if not (
                    (issubclass(module, LINEAR) and dim == 0)
                    or (issubclass(module, (nn.Embedding, nn.EmbeddingBag)) and dim == 1)
                    or (issubclass(module, TRANSPOSED) and dim == 1)
                    or dims < 2
                )
            }
        )
