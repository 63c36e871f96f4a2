"""Odd files beside weights and config."""

from __future__ import annotations

import json
from random import Random

from fuzz.sources import Files, Folder, Link, Pipe
from fuzz.values import TEXTS, damaged_text, junk

NAMES = (
    *("README.md", "LICENSE", "LICENSE.txt", "license", "NOTICE", "growth.json", "code.py", ".hidden"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "merges.txt", "special_tokens_map.json", "tokenizer"),
    *("chat_template.jinja", "chat_templates/one.jinja", "added_tokens.json", "spiece.model", "vocab"),
    *("modules.json", "1_Pooling/config.json", "2_Dense/config.json", "sentence_bert_config.json"),
    *("generation_config.json", "preprocessor_config.json", "adapter_config.json", "tf_model.h5"),
    *("model.fp16.safetensors", "consolidated.safetensors"),
)
CARDS = (
    *("---\nlicense: mit\n---\n# Model\n", "\ufeff---\r\nlicense: mit\r\n---\r\n", "---\nlicense: mit\n---", "---\n"),
    *("---\nlicense: mit\n--- \n# x", "-" * 10_000, "---\n---\n", "\n---\na: b\n---\n", "---\nx: \x00\n---\n"),
    "\x1b[31m",
)
OUTSIDE = ("../secret/secret.txt", "../secret", "/proc/self/environ", "../../../../../../../etc/passwd", "/dev/zero")
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]


def companion(rng: Random, files: Files) -> str:
    """Files beside the model that are odd, or lead outside."""
    name, what = rng.choice(NAMES), rng.choice("llllppdtjjjcsh")
    if what == "l":
        files[name] = Link(rng.choice((*OUTSIDE, name.rpartition("/")[2], "no", ".", "..", "config.json", "\x1b[31m")))
    elif what == "p":
        files[name] = rng.choice((Pipe(), Folder(), Folder(), b""))
    elif what == "d":
        name = rng.choice(("1_Pooling", "chat_templates", "2_Dense", "tokenizer"))
        files[name] = Link(rng.choice(("../secret", ".", "..", "/proc/self")))
    elif what == "t":
        name = rng.choice([text for text in TEXTS if 0 < len(text) < 100 and "/" not in text and "\x00" not in text])
        files[
            f"tokenizer{name}".encode("utf-8", "surrogateescape" if "\ud800" not in name else "replace").decode()
        ] = b"{}"
    elif what == "c":
        name = "README.md"
        files[name] = rng.choice(CARDS).encode() + rng.choice((b"", b"\xff\xfe", b"text"))
    elif what == "s":
        files["modules.json"] = json.dumps(MODULES[: rng.randint(1, 3)] if rng.random() < 0.7 else junk(rng)).encode()
        files["1_Pooling/config.json"] = json.dumps(
            rng.choice(({"word_embedding_dimension": 18}, {}, junk(rng)))
        ).encode()
        if rng.random() < 0.5:
            files["2_Dense/config.json"] = json.dumps({"in_features": 18, "out_features": 4}).encode()
        name = "sentence-transformers"
    elif what == "h":
        name = rng.choice(("config.json", "model.safetensors"))
        files[name] = rng.choice(
            (Link("../secret/secret.txt"), Link(name), Link("no"), Pipe(), Folder(), Link("/dev/zero"))
        )
    else:
        files[name] = damaged_text(rng, {"a": 1}) if rng.random() < 0.5 else json.dumps(junk(rng)).encode()
    return f"companion {name} ({what})"
