"""Which files beside a model's weights and config belong to it whatever its width: tokenizer,
templates, processors, licence. They are known by exact names; a file that is merely called alike
(``tokenizer_training_corpus.jsonl``) is somebody's own."""

from __future__ import annotations

import re
from pathlib import Path

_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
    *("vocab.json", "vocab.txt", "merges.txt", "vocab-src.json", "vocab-tgt.json", "target_vocab.json"),
    *("entity_vocab.json", "sentencepiece.model", "sentencepiece.bpe.model", "spiece.model", "spm.model"),
    *("spm_char.model", "source.spm", "target.spm", "bpe.codes", "dict.txt", "prophetnet.tokenizer"),
    *("byte_maps.json", "emoji.json", "normalizer.json", "word_pronunciation.json", "word_shape.json"),
    *("tekken.json", "qwen.tiktoken", "tiktoken.model"),
)
"""All that the tokenizers of transformers write, and the names that Mistral and Qwen give theirs."""

_PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
_OTHERS = ("audio_tokenizer_config.json", "generation_config.json", "chat_template.jinja", "chat_template.json")

_EXACT = frozenset((*_TOKENIZER, *_PROCESSORS, *_OTHERS))
_VERSIONED = re.compile(r"tokenizer\.model\.v\d+(m\d+)?|tokenizer(\.\d+)+\.json")
"""``tokenizer.model.v3``, and ``tokenizer.4.0.0.json`` for versions of transformers from 4.0.0."""

_OF_WHAT = r"mit|apache|bsd|[al]?gpl|mpl|cc0?|model|code|data|weights|agreement"
_LEGAL = re.compile(
    rf"(([a-z0-9.]+[-_ ])?licen[cs]es?([-_. ]({_OF_WHAT}))?([-_. ](by|nc|sa|nd|clause|v?\d[\d.]*))*"
    r"|copying(\.lesser|\.lib)?|copyright|notices?|(acceptable[-_ ]?)?use[-_ ]?policy"
    r"|third[-_ ]?party([-_ ]?(notices?|licen[cs]es?))?)(\.(txt|md|rst|html|pdf))?",
    re.IGNORECASE,
)
"""Licences are spelled in many ways: ``LICENCE.md``, ``LICENSE-APACHE-2.0``, ``Gemma-License.pdf``."""

_PLAIN_LEGAL = re.compile(r"(licen[cs]e|copying|notice|use_policy)(\.txt|\.md)?", re.IGNORECASE)

_WEIGHTS = re.compile(r"(model(-\d{5}-of-\d{5})?\.safetensors|pytorch_model(-\d{5}-of-\d{5})?\.bin)")
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

MODULE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
MODULE_FILES = ("config.json", "lstm_config.json", "cnn_config.json", *MODULE_WEIGHTS)
"""What the folder of a module of sentence-transformers holds."""

SENTENCE_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""What it calls the config of a transformer, in the order in which it looks for one."""

FETCHED = (
    *("*.json", "model*.safetensors", "*.md", "*.txt", *sorted(_EXACT), "tokenizer.model.v*"),
    *("additional_chat_templates/*.jinja", "LICENSES/*.txt"),
    *("[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*", "*[-_][Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*", "COPYING*", "NOTICE*", "*POLICY*"),
    *("[0-9]*_*/*",),
)
"""What is downloaded of a hub model: all that may be needed; what is copied of it is decided here."""


def is_weights(name: str) -> bool:
    """Whether ``save_pretrained`` gives weights, or a part of them, this name.

    Example:
        >>> is_weights("model-00001-of-00002.safetensors"), is_weights("model_backup.safetensors")
        (True, False)
    """
    return _WEIGHTS.fullmatch(name) is not None


def is_standard(name: str) -> bool:
    """Whether a file of this name, in the main folder of a model, can only be the tokenizer's, a
    template, a processor's or a licence. Narrower than `companions`, since it says what is deleted
    where a model is replaced: ``my-license.txt`` is worth copying, and not to be lost.

    Example:
        >>> is_standard("tokenizer.json"), is_standard("LICENSE"), is_standard("my-license.txt")
        (True, True, False)
    """
    return name in _EXACT or any(form.fullmatch(name) for form in (_VERSIONED, _PLAIN_LEGAL))


def companions(folder: Path) -> list[Path]:
    """The files of a folder that go with the model whatever its width, sorted.

    Example:
        >>> companions(Path("small"))
        [PosixPath('small/LICENCE'), PosixPath('small/tokenizer.json')]
    """
    found = {path for path in folder.iterdir() if is_standard(path.name) or _LEGAL.fullmatch(path.name)}
    found |= {*folder.glob("additional_chat_templates/*.jinja"), *folder.glob("LICENSES/*.txt")}
    return sorted(path for path in found if path.is_file())
