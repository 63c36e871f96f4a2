"""The words of ``keep=``: what a growth is not to take from another model.

A word is one that users know (``vocab``, ``positions``, ``layers``, ``heads``), or the name of a
config field or of a size.

Importing this takes no torch: ``grow --help`` is to be quick."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from growth.arguments import meant
from growth.errors import IllegalGrowthError, shown
from growth.extension.request import counts_layers

MODEL_TYPE = "model_type"

_WORDS: Mapping[str, re.Pattern[str]] = {
    "vocab": re.compile(r"(^|_)vocab_size"),
    "positions": re.compile(r"(^|_)n?_?positions$|^max_position_embeddings$|^n_ctx$|^max_seq_len$"),
    "ties": re.compile(r"^tie_"),
    "rope": re.compile(r"^(rope|rotary|partial_rotary)_"),
    "epsilon": re.compile(r"eps(ilon)?$"),
    "activation": re.compile(r"^hidden_act|(^|_)act(_fn)?$|activation(_function|_fn|_type)?$"),
}
"""Word -> which config fields it stands for, besides ``layers``, which stands for their numbers."""

_SIZES = {
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "num_experts": "experts",
    "num_experts_per_tok": "experts_per_token",
}
"""Standard names of sizes, as the choices call them where that is another word."""

WORDS = ("layers", *_WORDS, *_SIZES.values(), MODEL_TYPE)
"""All words that are no names of fields."""


def words_for(name: str) -> list[str]:
    """The words under which a config field or a size can be kept, the one to recommend first.

    Example:
        >>> words_for("text_config.vocab_size")
        ['vocab', 'text_config.vocab_size', 'vocab_size']
    """
    last = name.rpartition(".")[2]
    words = [word for word, pattern in _WORDS.items() if pattern.search(last)]
    words += ["layers"] * counts_layers(last)
    words += [_SIZES[last]] if last in _SIZES else []
    return list(dict.fromkeys([*words, name, last]))


def is_kept(keep: Collection[str], *names: str) -> bool:
    """Whether something that goes by these names is to be kept.

    Example:
        >>> is_kept(("heads",), "decoder.num_attention_heads"), is_kept(("heads",), "hidden_size")
        (True, False)
    """
    return any(word in keep for name in names for word in words_for(name))


def check_words(keep: Iterable[str], names: Iterable[str]) -> None:
    """Refuse words that mean nothing.

    Args:
        keep: the words.
        names: of the config fields and sizes of both models.
    """
    known = {*WORDS, *(word for name in names for word in words_for(name))}
    for word in keep:
        if word not in known:
            raise IllegalGrowthError(
                f"keep names {shown(word)}, which is no word for anything that a model takes from another"
                f"{meant(word, known)}. Use {', '.join(WORDS)}, or the name of a config field."
            )


def to_add(words: Iterable[str]) -> str:
    """What to add to keep something, on the command line and in Python.

    Example:
        >>> to_add(["vocab", "layers"])
        "--keep vocab,layers (in Python keep=('vocab', 'layers'))"
    """
    unique = tuple(dict.fromkeys(words))
    return f"--keep {','.join(unique)} (in Python keep={unique})"
