"""Which files beside a model's weights and config belong to it whatever its width: tokenizer,
templates, processors, licence."""

from __future__ import annotations

import re
from pathlib import Path

_PATTERNS = (
    *("tokenizer*", "vocab*", "*_vocab.json", "merges*", "special_tokens_map.json", "added_tokens.json"),
    *(
        "*.model",
        "*.model.v*",
        "spiece*",
        "sentencepiece*",
        "*.spm",
        "*.tiktoken",
        "*.bpe",
        "*.tokenizer",
        "bpe.codes",
        "dict.txt",
    ),
    *("tekken.json", "byte_maps.json", "normalizer.json", "emoji.json", "word_*.json"),
    *("*.jinja", "chat_template*", "additional_chat_templates/*"),
    *("*processor_config.json", "generation_config.json"),
)
"""Of files whose content does not depend on the width. Anything else (optimizer states, other
frameworks' weights) may describe the old sizes."""

_LEGAL = re.compile(
    r"licen[cs]e|copying|copyright|notice|(acceptable[-_ ]?)?use[-_ ]?policy|third[-_ ]?party", re.IGNORECASE
)
"""Licences are spelled in many ways: ``LICENCE.md``, ``license.txt``, ``COPYING``, ``Gemma-License.pdf``."""

FETCHED = (
    *("*.json", "model*.safetensors", "*.md", "*.txt", *_PATTERNS),
    *("[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*", "*_[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*", "COPYING*", "NOTICE*", "*POLICY*"),
    *("[0-9]*_*/*",),
)
"""What is downloaded of a hub model: the same, its weights and its sentence-transformers modules."""

_NEVER = (".bin", ".safetensors", ".pt", ".pth", ".msgpack", ".h5", ".onnx", ".gguf", ".py", ".so")
"""Weights, which may have the old sizes, and code, whatever they are called."""


def companions(folder: Path) -> list[Path]:
    """The files of a folder that go with the model whatever its width, sorted.

    Example:
        >>> companions(Path("small"))
        [PosixPath('small/LICENCE'), PosixPath('small/tokenizer.json')]
    """
    found = {path for pattern in _PATTERNS for path in folder.glob(pattern)}
    found |= {path for path in folder.iterdir() if _LEGAL.search(path.name)}
    found |= {path for path in folder.glob("LICENSES/*")}
    return sorted(path for path in found if path.suffix not in _NEVER and path.is_file())
