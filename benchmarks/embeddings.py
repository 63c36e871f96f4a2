"""How far growth moves the cosine similarities of last hidden states, with a tied head.

A Qwen3ForCausalLM with a tied head, as embedding models are saved, is grown and read through
AutoModel, before and after: the last token's ``last_hidden_state`` of 12 random texts of 30 tokens,
and the cosines between all pairs. Each cell is the largest change of a cosine, and the mean one.

    python benchmarks/embeddings.py                     # random weights, float32
    python benchmarks/embeddings.py --dtype bfloat16    # weights in bfloat16; the models run in float32
    python benchmarks/embeddings.py MODEL               # a folder, of any class with a tied head
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModel, Qwen3Config, Qwen3ForCausalLM

import growth

SYMMETRIES = ("none", "split:1/2", "split:1/8:varied", "noise:0.1", "noise:1")
WIDTHS = ("2", "1.5", "2.5", "3")


def random_model(folder: Path, dtype: torch.dtype) -> None:
    """A Qwen3 of random weights, every gain away from 1."""
    config = Qwen3Config(
        hidden_size=96,
        intermediate_size=160,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        num_hidden_layers=3,
        vocab_size=500,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.copy_(torch.randn(parameter.shape) * spread + (1.0 if parameter.ndim == 1 else 0.0))
    model.to(dtype).save_pretrained(folder)  # type: ignore[call-arg]


@torch.no_grad()
def cosines(folder: Path) -> Tensor:
    """``[12, 12]``, between the last tokens' last hidden states."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vocabulary = AutoConfig.from_pretrained(folder).get_text_config().vocab_size
    texts = torch.randint(vocabulary, (12, 30), generator=torch.Generator().manual_seed(1))
    vectors = torch.nn.functional.normalize(model(texts).last_hidden_state[:, -1].double(), dim=-1)
    return vectors @ vectors.T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a folder; by default random weights")
    parser.add_argument("--dtype", default="float32", help="of the random weights")
    args = parser.parse_args()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as scratch:
        source = args.model or Path(scratch) / "source"
        if args.model is None:
            random_model(source, getattr(torch, args.dtype))
        before = cosines(source)
        print(f"{'symmetry':18}" + "".join(f"x{width:<20}" for width in WIDTHS))
        for symmetry in SYMMETRIES:
            cells = []
            for number, width in enumerate(WIDTHS):
                target = Path(scratch) / f"{symmetry}-{number}".replace("/", "_")
                try:
                    growth.widen_checkpoint(source, target, width=width, symmetry=symmetry)
                except growth.GrowthError as refusal:
                    cells.append(f"refused: {type(refusal).__name__}"[:20])
                    continue
                moved = (cosines(target) - before).abs()
                cells.append(f"{float(moved.max()):.1e} ({float(moved.mean()):.1e})")
            print(f"{symmetry:18}" + "".join(f"{cell:21}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
