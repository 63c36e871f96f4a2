"""A declaration as the text of a Python file, to be pasted, edited and registered."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import Any

from growth.architectures.architecture import Architecture
from growth.architectures.code_layout import Bracket, Code, Comment, Entry, after, comment_lines, laid_out
from growth.architectures.registry import UNLISTED
from growth.architectures.sizes import Size, standard_sizes
from growth.architectures.value_text import HOME, NotPrintableError, Words
from growth.rules.linear import under

UNPRINTED = ("branches",)
"""Fields that are for the tests of the families alone."""

LEFT_OUT = "Left out"
"""How a remark begins on what cannot be printed."""

TOGETHER = 2
"""Modules of one block, from which on they are put under its name."""


def as_python(architecture: Architecture) -> str:
    """A declaration as the text of a Python file that makes an equal one.

    What no expression gives, such as a function without a name, is left out, and a comment says
    where. So are ``branches``, which are for the tests of the families. The declaration that was
    found for a module in memory is named after its class.

    Args:
        architecture: the declaration.

    Example:
        >>> from growth.architectures import FFN, RESIDUAL, Copied, Linear, Size, Times, feed_forward
        >>> mlp = Architecture(
        ...     "mlp",
        ...     modules=feed_forward(("blocks.*.up",), "blocks.*.down", reads=RESIDUAL, writes=RESIDUAL),
        ...     laws={RESIDUAL: Linear(), FFN: Copied()},
        ...     sizes={"hidden_size": Size("width"), "intermediate_size": Size(follows=Times(4, "hidden_size"))},
        ... )
        >>> print(as_python(mlp))
        from growth.architectures import FFN, RESIDUAL, Architecture, Copied, Linear, Size, Times, linear, under
        <BLANKLINE>
        MLP = Architecture(
            model_type="mlp",
            modules={**under("blocks.*", {"up": linear(RESIDUAL, FFN), "down": linear(FFN, RESIDUAL)})},
            laws={RESIDUAL: Linear(), FFN: Copied()},
            sizes={"hidden_size": Size("width"), "intermediate_size": Size(follows=Times(4, "hidden_size"))},
        )
        <BLANKLINE>
    """
    if (model_type := architecture.model_type).startswith(UNLISTED):
        architecture = dataclasses.replace(architecture, model_type=model_type.split("/")[1])
    name = re.sub(r"\W+", "_", architecture.model_type).strip("_").upper() or "DECLARED"
    name = f"A_{name}" if not name.isidentifier() else name
    classes = (architecture.module_class, architecture.config_class)
    name += "_DECLARED" if any(name == getattr(kind, "__name__", "") for kind in classes) else ""
    words = Words(architecture.laws.values(), taken={name})
    words.imports[HOME] = {"Architecture"}
    entries: list[Entry] = []
    for field in dataclasses.fields(architecture):
        held = getattr(architecture, field.name)
        if field.name not in UNPRINTED and not _is_default(field, held):
            entries.append(_argument(words, field.name, held))
    body = laid_out(Bracket(f"{name} = Architecture(", tuple(entries), ")", tall=True))
    spaces = [laid_out(after(f"{constant} = ", words.call(space))) for space, constant in tuple(words.spaces.items())]
    given = [
        line
        for each in sorted(words.given)
        for line in comment_lines(f"{each} is yours: import it, or put this where it is defined.")
    ]
    parts = ["\n".join(_imports(words)), "\n".join(spaces), "\n".join(given), body]
    return "\n\n".join(filter(None, parts)) + "\n"


def _imports(words: Words) -> Iterator[str]:
    for module, names in sorted(words.imports.items(), key=lambda each: (each[0] != "fractions", each[0])):
        ordered = sorted(names, key=lambda name: (not name.isupper(), name[0].islower() or name[0] == "_", name))
        flat = f"from {module} import {', '.join(ordered)}"
        yield flat if len(flat) <= 110 else laid_out(Bracket(f"from {module} import (", tuple(ordered), ")"))


def _is_default(field: dataclasses.Field[Any], held: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(held == field.default_factory())
    return held is field.default or (
        not callable(held) and type(held) is type(field.default) and held == field.default
    )


def _argument(words: Words, name: str, held: Any) -> Entry:
    """One argument of the declaration; a remark where it cannot be printed."""
    if name == "modules":
        return after(f"{name}=", _modules(words, held))
    if name == "sizes":
        return after(f"{name}=", _sizes(words, held))
    if isinstance(held, Mapping):
        code = partial(_variant, words) if name == "variants" else words.code
        return after(f"{name}=", _table(words, held, code))
    if isinstance(held, tuple):
        return Bracket(f"{name}=(", tuple(_entry(words, "", words.code, each) for each in held), ")", lone_comma=True)
    return _entry(words, f"{name}=", words.code, held)


def _table(words: Words, held: Mapping[Any, Any], code: Callable[[Any], Code]) -> Bracket:
    """A dictionary; an entry that cannot be printed is a remark."""
    return Bracket("{", tuple(_entry(words, f"{words.key(key)}: ", code, value) for key, value in held.items()), "}")


def _entry(words: Words, prefix: str, code: Callable[[Any], Code], value: Any) -> Entry:
    try:
        with words.kept_if_printed():
            return after(prefix, code(value))
    except NotPrintableError as error:
        what = prefix.rstrip("=: ") or str(value)
        return Comment(f"{LEFT_OUT}: {what}, of which a part {error}.")


def _variant(words: Words, variant: Any) -> Code:
    said = []
    if variant.modules:
        said.append(after("modules=", _modules(words, variant.modules)))
    if variant.outputs:
        said.append(after("outputs=", words.code(variant.outputs)))
    return Bracket(f"{words.reference(type(variant))}(", tuple(said), ")")


def _modules(words: Words, modules: Mapping[str, Any]) -> Bracket:
    """The modules, those of one block under its name."""
    entries: list[Entry] = []
    for block, listed in groupby(modules.items(), key=lambda each: _block(each[0])):
        rules = dict(listed)
        if block and len(rules) >= TOGETHER:
            inner = {name.removeprefix(f"{block}."): rule for name, rule in rules.items()}
            held = _table(words, inner, words.rule)
            entries.append(Bracket(f"**{words.reference(under)}(", (f'"{block}"', held), ")"))
        else:
            entries += _table(words, rules, words.rule).entries
    return Bracket("{", tuple(entries), "}")


def _block(module: str) -> str:
    """The pattern of the numbered block that a module lies in, such as ``layers.*``; empty for none."""
    head, star, rest = module.partition(".*.")
    return f"{head}.*" if star and rest else ""


def _sizes(words: Words, sizes: Mapping[str, Size]) -> Code:
    """The sizes: a call of `standard_sizes` where that gives them, and what there is beside them."""
    for arguments, standard in _standard(sizes):
        rest = {name: size for name, size in sizes.items() if name not in standard}
        if list(sizes)[: len(standard)] != list(standard) or any(sizes[name] != standard[name] for name in standard):
            continue
        call = Bracket(f"{words.reference(standard_sizes)}(", tuple(arguments), ")")
        if not rest:
            return call
        return Bracket("{", (after("**", call), *_table(words, rest, words.code).entries), "}")
    return _table(words, sizes, words.code)


def _standard(sizes: Mapping[str, Size]) -> Iterator[tuple[list[str], dict[str, Size]]]:
    """(arguments of `standard_sizes`, what it returns for them), such as may be among ``sizes``."""
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
    keywords = ("hidden", "intermediate", "heads", "kv_heads", "head_dim")
    if not all(name in sizes for name in names):
        return
    fields = [sizes[name].field for name in names]
    ratio = getattr(sizes["intermediate_size"].follows, "factor", None)
    said: list[str] = []
    for number, (keyword, name, field) in enumerate(zip(keywords, names, fields, strict=True)):
        if field != name:
            said.append(f'"{field}"' if len(said) == number < 3 else f'{keyword}="{field}"')
    if ratio is not None:
        said.append(f"intermediate_ratio={ratio!r}")
    yield said, standard_sizes(*fields, intermediate_ratio=ratio)
