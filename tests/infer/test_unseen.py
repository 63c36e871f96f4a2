"""What two runs of a miniature do not show: parameters that take no part, sizes that the class rounds; and layers told
apart by their number, which they do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import Lfm2Config, Lfm2ForCausalLM, LongformerConfig, LongformerForMaskedLM

import growth
from growth.errors import IllegalShapeError, UnsupportedModelError

TOKENS = torch.randint(3, 30, (2, 9), generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Blocks of a feed-forward layer; the middle of a block is what a test makes of it."""

    def __init__(self, dim: int, ff: int, n_layers: int, vocab_size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, dim)
        self.up = nn.ModuleList(nn.Linear(dim, ff) for _ in range(n_layers))
        self.down = nn.ModuleList(nn.Linear(ff, dim) for _ in range(n_layers))
        self.head = nn.Linear(dim, vocab_size)

    def middle(self, x: Tensor, number: int) -> Tensor:
        return x

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for number, (up, down) in enumerate(zip(self.up, self.down, strict=True)):
            x = self.middle(x + down(torch.relu(up(x))), number)
        return self.head(x)


class WithValue(Net):
    """A head that another method uses."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.value = nn.Linear(sizes["dim"], 1)


class FourthApart(Net):
    """A layer that the code tells from the others by its number alone."""

    def middle(self, x: Tensor, number: int) -> Tensor:
        return x / (1 + x.pow(2).sum(-1, keepdim=True)) if number == 3 else x


SIZES = {"dim": 12, "ff": 20, "n_layers": 6, "vocab_size": 30}


@pytest.mark.parametrize("kind", [Net, FourthApart])
def test_all_layers_of_a_module_are_seen(kind: type[Net]) -> None:
    """With a sum of squares in one layer, the stream has to be copied at scale 1 / sqrt(2)."""
    net = kind(**SIZES).double().eval()
    grown = growth.widen(net, width=2, config=SIZES, build=lambda config: kind(**config))
    with torch.no_grad():
        assert float((grown.model(TOKENS) - net(TOKENS)).abs().max()) < 1e-10
        ratio = float(grown.model.embed.weight.norm() / net.embed.weight.norm())
    assert ratio == pytest.approx(2**0.5 if kind is Net else 1.0)


def test_a_parameter_that_takes_no_part_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'value\.weight' takes no part"):
        growth.widen(WithValue(**SIZES), width=2, config=SIZES, build=lambda config: WithValue(**config))


def test_attention_that_a_run_does_not_use_grows_as_layers_of_its_kind_and_is_named(tmp_path: Path) -> None:
    sizes = {
        "vocab_size": 60,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
    }
    torch.manual_seed(0)
    config = LongformerConfig(**sizes, attention_window=8, max_position_embeddings=70, pad_token_id=1)
    small = LongformerForMaskedLM(config).double().eval()
    grown = growth.widen(small, width=2)
    assert any("query_global" in note for note in grown.plan.notes)
    seen = {"input_ids": TOKENS, "global_attention_mask": (torch.arange(9) == 0).long().expand(2, 9)}
    with torch.no_grad():
        before, after = small(**seen).logits, grown.model(**seen).logits
        assert float((after - before).abs().max()) < 1e-10
        grown.model.longformer.encoder.layer[0].attention.self.value_global.weight.mul_(2)  # as if it were not divided
        assert float((grown.model(**seen).logits - before).abs().max()) > 1e-6


@pytest.mark.slow
def test_a_size_that_the_class_rounds_is_refused_before_anything_is_written() -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 6656, "num_attention_heads": 16, "num_key_value_heads": 8}
    config = Lfm2Config(**sizes, num_hidden_layers=2, layer_types=["conv", "full_attention"], block_multiple_of=256)
    config.architectures = [Lfm2ForCausalLM.__name__]
    with pytest.raises(IllegalShapeError, match="its class rounds a size"):
        growth.plan_widening(config, width=2)
    fits = {**sizes, "hidden_size": 2048, "intermediate_size": 12288, "num_attention_heads": 32}
    config = Lfm2Config(**fits, num_hidden_layers=2, layer_types=["conv", "full_attention"], block_multiple_of=256)
    config.architectures = [Lfm2ForCausalLM.__name__]
    assert growth.plan_widening(config, width=2).new_sizes["intermediate_size"] == 24576
