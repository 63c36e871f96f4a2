"""The text around an image or a sound, and everything in the inputs that is as long as the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.proof.pixels import ROWS, Inputs
from growth.proof.special_tokens import placeholder

BEFORE, AFTER = 4, 5
"""Text tokens before an image and after it."""

OPENINGS = {
    "image": ("vision_start", "image_start", "boi", "im_start"),
    "audio": ("audio_start", "boa", "audio_bos"),
}
"""Kind -> names of the token that comes before what is seen or heard."""


@dataclass(frozen=True)
class TextAround:
    """Text for one candidate.

    Args:
        model: decides which tokens are special.
        kind: ``image`` or ``audio``.
        taken: the arguments of its ``forward``.
        candidate: the images or sounds.
        seed: of the token ids.
    """

    model: PreTrainedModel
    kind: str
    taken: frozenset[str]
    candidate: Inputs
    seed: int = 0

    @property
    def token(self) -> int | None:
        """The token that stands for a feature; None where the text has none."""
        named = ("image", "video") if self.kind == "image" else ("audio", "speech")
        return next((token for what in named if (token := placeholder(self.model.config, what)) is not None), None)

    def inputs(self, count: int, *, padded: bool) -> Inputs:
        """Token ids ``[2, length]`` with ``count`` placeholders in each row, and what goes with them.

        Args:
            count: how many tokens stand for one image.
            padded: whether the first row is padded on the left.
        """
        token = self.token
        ids = self._ids(count if token is not None else 0, token)
        mask = torch.ones_like(ids)
        if padded:
            ids, mask = self._padded(ids, mask)
        here = (ids == token).long() if token is not None else torch.zeros_like(ids)
        length = ids.shape[1]
        more = {
            "attention_mask": mask,
            "mm_token_type_ids": here * (1 if self.kind == "image" else 3),
            "moe_mm_token_type_ids": here,
            "token_type_ids": here,
            "image_embeds_position_mask": self._leading(ids),
            "qformer_input_ids": self._random(5, 2),
            "bbox": torch.rand(ROWS, length, 4, generator=self._generator(3)).sort(-1).values,
        }
        if "_tiles" in self.candidate:
            more["cross_attention_mask"] = torch.ones(ROWS, length, 1, int(self.candidate["_tiles"]), dtype=torch.long)
        if "_image_attention" in self.candidate:
            more["image_attention_mask"] = torch.ones(ROWS, length, 1, dtype=torch.long)
        chosen = {name: value for name, value in more.items() if name in self.taken}
        return {"input_ids": ids, **chosen, **self.decoder()}

    def decoder(self) -> Inputs:
        """Token ids for a decoder, if the class has one."""
        if "decoder_input_ids" not in self.taken or not getattr(self.model.config, "is_encoder_decoder", False):
            return {}
        return {"decoder_input_ids": self._random(7, 1, decoder=True)}

    def _ids(self, count: int, token: int | None) -> Tensor:
        before, after = self._random(BEFORE + AFTER, 0).split([BEFORE, AFTER], 1)
        names = [f"{name}_{end}" for name in OPENINGS[self.kind] for end in ("token_id", "token_index", "id")]
        start = next((value for name in names if (value := self._special(name)) is not None), None)
        if start is not None and token is not None:
            before = torch.cat([before[:, :-1], torch.full_like(before[:, :1], start)], 1)
        return torch.cat([before, torch.full((ROWS, count), token or 0), after], 1)

    def _special(self, name: str) -> int | None:
        value = getattr(self.model.config, name, None)
        return value if type(value) is int else None

    def _padded(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The first row padded by two on the left, the second with two more tokens of text there."""
        pad = getattr(self.model.config.get_text_config(), "pad_token_id", None)
        left = ids[:, :1].expand(-1, 2).clone()
        left[0] = pad if type(pad) is int and pad >= 0 else 0
        front = torch.ones_like(left)
        front[0] = 0
        return torch.cat([left, ids], 1), torch.cat([front, mask], 1)

    def _leading(self, ids: Tensor) -> Tensor:
        """A mask of the places after the first one, as many as the model has queries for an image."""
        many = getattr(self.model.config, "latent_query_num", 1)
        places = torch.arange(ids.shape[1])
        return ((places >= 1) & (places < 1 + many)).expand_as(ids).clone()

    def _random(self, length: int, more: int, *, decoder: bool = False) -> Tensor:
        """Token ids of text alone, ``[2, length]``: the upper half of the vocabulary."""
        config = self.model.config.get_text_config(decoder=True) if decoder else self.model.config.get_text_config()
        vocabulary = int(getattr(config, "vocab_size", None) or _embedded(self.model))
        return torch.randint(max(vocabulary // 2, 3), vocabulary - 1, (ROWS, length), generator=self._generator(more))

    def _generator(self, more: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + more)


def _embedded(model: PreTrainedModel) -> int:
    """How many tokens a model has embeddings for, where its config does not say it."""
    weight: Any = model.get_input_embeddings().weight
    return int(weight.shape[0])
