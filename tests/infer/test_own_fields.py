"""Which config fields of a module of one's own count something inside it; sections of its config."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from growth.hf.configs import Config
from growth.hf.own_build import builder
from growth.hf.own_configs import changed, config_fields, is_section
from growth.hf.own_inputs import given_inputs
from growth.hf.own_modules import OwnModule, own_wrapper
from growth.infer import own_fields
from growth.infer.own_fields import own_kind
from growth.infer.sizes import growing


def found(module: Any, config: Any, inputs: Any) -> dict[str, str]:
    """Path -> kind of the fields that grow."""
    wrapper = own_wrapper(module, OwnModule(config, builder(module, config), given_inputs(inputs, module)))
    raw = {**wrapper.config.to_dict(), "model_type": type(wrapper).config_class.model_type}
    return {field.path: field.kind for field in growing(Config(raw), type(wrapper))}


class Layers(nn.Module):
    """What goes in is read alone or written too, what comes out is read in no place, or in some."""

    def __init__(self, goes_in: int, inside: int, code: int, out: int, both: int) -> None:
        super().__init__()
        self.enc, self.mix, self.code = nn.Linear(goes_in, inside), nn.Linear(both, both), nn.Linear(inside, code)
        self.dec, self.head = nn.Linear(code, inside), nn.Linear(inside, out)

    def forward(self, x: Tensor, tokens: bool = True) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.enc(x))
        code = self.code(h + self.mix(h.transpose(1, 2)).transpose(1, 2))
        return self.head(torch.tanh(self.dec(code))), code


def test_what_goes_in_and_comes_out_stays() -> None:
    sizes = {"goes_in": 5, "inside": 12, "code": 6, "out": 3, "both": 7}
    assert found(Layers(**sizes), sizes, torch.randn(2, 7, 5)).keys() == {"inside"}


def test_by_names_alone_more_would_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_fields._Trials, "of", classmethod(lambda cls, config, kind: None))
    sizes = {"goes_in": 5, "inside": 13, "code": 6, "out": 3, "both": 7}
    assert found(Layers(**sizes), sizes, torch.randn(2, 7, 5)).keys() == sizes.keys()


class Stream(nn.Module):
    """It returns its hidden state too, which two layers read."""

    def __init__(self, c: Any) -> None:
        super().__init__()
        self.config = c
        self.embed, self.fc, self.back = (
            nn.Embedding(c.words, c.emb),
            nn.Linear(c.emb, c.n_ff),
            nn.Linear(c.n_ff, c.emb),
        )
        self.head = nn.Linear(c.emb, c.words)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.embed(x)
        h = h + self.back(self.fc(h).relu())
        return {"logits": self.head(h), "hidden": h}


def test_a_hidden_state_that_is_returned_grows() -> None:
    config = SimpleNamespace(words=11, emb=8, n_ff=12)
    assert found(Stream(config), config, torch.randint(11, (2, 5))).keys() == {"emb", "n_ff"}


def test_names_that_say_nothing_are_asked() -> None:
    names = (
        "base_channels",
        "n_code",
        "hidden_dim",
        "nhead",
        "n_layers",
        "dim_head",
        "d_state",
        "image_size",
        "top_k",
    )
    assert [own_kind(name, names) for name in names] == [
        *("width", "unknown", "hidden", "heads", "kept", "kept", "kept", "kept", "kept"),
    ]


def test_sections_of_a_config() -> None:
    config = Namespace(width=3, sub={"inner": 5, "deep": SimpleNamespace(size=(7, 8))}, names={0: "a"}, act=nn.GELU)
    assert config_fields(config) == {"width": 3, "sub": {"inner": 5, "deep": {"size": [7, 8]}}}
    new = changed(config, {"sub": {"deep": {"size": [9, 8]}}})
    assert new.sub == {"inner": 5, "deep": SimpleNamespace(size=(9, 8))} and config.sub["deep"].size == (7, 8)
    assert new.act is nn.GELU and new.names == {0: "a"} and not is_section(config.names)
