"""How a config states rotary positions: in the dialect of transformers 4, of 5, or of both.

    4:  "rope_theta": 500000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}
    5:  "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0}

Release 4 knows nothing of ``rope_parameters``. Release 5 reads both, and ``rope_scaling`` first. Tools
write both into one file so that it loads anywhere, and a file may contradict itself. What growth
writes has to hold in every release that reads the source as the installed one does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.hf.configs import Config, Raw, parse

Ropes = dict[str, dict[str, Any]]
"""Kind of layer (such as ``full_attention``; "" where all layers share them) -> parameters."""

_ONLY_5 = ("rope_parameters", "original_max_position_embeddings")
"""Fields from which release 5 takes rotary parameters, and 4 does not. (For longrope 4 reads the
second, which no growth changes.)"""

_POSITIVE = ("rope_theta", "factor", "original_max_position_embeddings")

_ONLY_OUTSIDE = ("rope_theta", "partial_rotary_factor")
"""Parameters that release 4 reads beside ``rope_scaling`` and never in it."""


def rope_of(raw: Mapping[str, Any]) -> Ropes:
    """The rotary parameters of a config as the installed transformers reads them.

    Raises:
        UnsupportedModelError: if they are neither one table nor one for each kind of layer.

    Example:
        >>> rope_of({"model_type": "llama", "rope_theta": 500000.0})
        {'': {'rope_theta': 500000.0, 'rope_type': 'default'}}
    """
    parameters = getattr(parse(raw), "rope_parameters", None) or {}
    by_kind = parameters and all(isinstance(value, Mapping) for value in parameters.values())
    ropes = {kind: dict(value) for kind, value in (parameters if by_kind else {"": parameters}).items()}
    for rope in ropes.values():
        if not isinstance(rope.get("rope_type", ""), str) or any(
            isinstance(value, Mapping) for value in rope.values()
        ):
            raise UnsupportedModelError(
                f"the rotary parameters {rope!r} have no form that is known. Check rope_parameters in config.json."
            )
        for name in _POSITIVE:
            value = rope.get(name)
            if value is not None and not (isinstance(value, (int, float)) and 0 < value < math.inf):
                raise UnsupportedModelError(
                    f"the rotary parameter '{name}' is {value!r}, but it must be positive. Check config.json."
                )
    return ropes


def rope_in_4(raw: Mapping[str, Any]) -> Ropes:
    """The rotary parameters of a config as transformers 4 reads them.

    Example:
        >>> rope_in_4({"model_type": "llama", "rope_theta": 500.0, "rope_parameters": {"rope_theta": 900.0}})
        {'': {'rope_theta': 500.0, 'rope_type': 'default'}}
    """
    config = Config.of(raw)
    if "rope in 4" not in config.derived:
        read = {name: value for name, value in raw.items() if name not in _ONLY_5}
        if isinstance(scaling := read.get("rope_scaling"), Mapping):
            read["rope_scaling"] = {name: value for name, value in scaling.items() if name not in _ONLY_OUTSIDE}
        config.derived["rope in 4"] = rope_of(Config(read))
    return dict(config.derived["rope in 4"])


def speaks_4(raw: Mapping[str, Any]) -> list[str]:
    """The fields in which a config states rotary positions for transformers 4.

    Example:
        >>> speaks_4({"model_type": "llama", "rope_theta": 500.0, "rope_scaling": None, "rope_parameters": {}})
        ['rope_theta']
    """
    known = parse(raw).to_dict()
    return [
        name
        for name, value in raw.items()
        if ("rope" in name or "rotary" in name) and value is not None and name not in known
    ]


def is_for_4(raw: Mapping[str, Any]) -> bool:
    """Whether a config is meant for transformers 4 too: not in the dialect of 5 alone."""
    return raw.get("rope_parameters") is None or bool(speaks_4(raw))


def holds_in_4(raw: Mapping[str, Any]) -> bool:
    """Whether transformers 4 reads the same rotary positions as the installed release."""
    return _comparable(rope_of(raw)) == _comparable(rope_in_4(raw))


def grown_in_both(raw: Mapping[str, Any], grown: Callable[[Ropes], Ropes]) -> Ropes:
    """What a growth makes of the rotary parameters of a config.

    Args:
        raw: the config.
        grown: rotary parameters as one release reads them -> new ones, of the kinds that change.

    Raises:
        IllegalGrowthError: if the config is read by transformers 4 too, and the growth would have
            to write something else for what that release reads; naming both readings.
    """
    read, other = rope_of(raw), rope_in_4(raw)
    new = grown(read)
    if not is_for_4(raw) or _comparable(read) == _comparable(other):
        return new
    try:
        same = _comparable(new) == _comparable(grown(other)) and _turning(read) == _turning(other)
    except IllegalGrowthError:
        same = False
    if not same:
        raise IllegalGrowthError(
            f"transformers 5 reads the rotary positions of this config as {_shown(read)} and transformers 4 as "
            f"{_shown(other)}, so that wider heads cannot be right in both. Make rope_parameters, rope_scaling and "
            "rope_theta in config.json agree, or use --attention heads, which leaves them alone."
        )
    return new


def write_rope(raw: Raw, source: Mapping[str, Any], rope: Mapping[str, Mapping[str, Any]]) -> None:
    """Write rotary parameters into ``raw``, in each dialect in which the source's hold.

    Args:
        raw: the config to write into.
        source: the config of the source.
        rope: kind of layer ("" for all) -> its new parameters, in the dialect of transformers 5.

    Raises:
        IllegalGrowthError: for parameters by kind of layer in a config for transformers 4, which
            has no place for them.
    """
    if "" not in rope and is_for_4(source):
        stated = ", ".join(speaks_4(source)) or "its defaults"
        raise IllegalGrowthError(
            f"transformers 4 reads the rotary positions of this config too ({stated}) and has no place for "
            f"frequencies of their own for {' and '.join(rope)}. Use --rope slots or --attention heads, or load and "
            "save the config with transformers 5 first, if only that is to read the result."
        )
    if "" not in rope:
        raw["rope_parameters"] = {**(getattr(parse(raw), "rope_parameters", None) or {}), **rope}
        raw.pop("rope_scaling", None)  # transformers would merge it into the new rope_parameters
        return
    new = dict(rope[""])
    if is_for_4(source) or holds_in_4(source):
        old = raw.get("rope_scaling") or {}
        same_kind = old.get("rope_type", old.get("type")) == new["rope_type"]
        lists = {name: value for name, value in new.items() if isinstance(value, list)}
        raw["rope_scaling"] = (
            {**old, **lists} if same_kind else {name: value for name, value in new.items() if name != "rope_theta"}
        )
    if raw.get("rope_parameters") is not None:
        raw["rope_parameters"] = new


def _comparable(ropes: Ropes) -> Ropes:
    """Rotary parameters without what is null, what is said twice, and what no growth changes."""
    return {
        kind: {
            name: value
            for name, value in table.items()
            if value is not None
            and name != "type"
            and (name != "original_max_position_embeddings" or table.get("rope_type") != "longrope")
        }
        for kind, table in ropes.items()
    }


def _turning(ropes: Ropes) -> list[float]:
    """Which part of each head turns."""
    return [table.get("partial_rotary_factor") or 1.0 for table in ropes.values()]


def _shown(ropes: Ropes) -> str:
    """Rotary parameters in a message, lists of factors by their length."""
    short = {
        kind: {
            name: f"{len(value)} numbers" if isinstance(value, list) else value
            for name, value in table.items()
            if value is not None
        }
        for kind, table in ropes.items()
    }
    return repr(short.get("", short))
