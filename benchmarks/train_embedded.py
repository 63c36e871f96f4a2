"""Train the small Llama model that is shipped in `growth/assets/austen-llama`, from one text file.

    python benchmarks/train_embedded.py austen.txt

The last tenth of the text is held out; an excerpt of it goes to `growth/assets/excerpt.txt`. The
first nine tenths train a byte-level BPE tokenizer of 1,024 tokens and a Llama model of 0.39 M
parameters (3 layers, width 96, float32). On one thread of a 2-core CPU, with the other core busy at
times, training took 22 minutes."""

import argparse
import json
import math
import re
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BEGIN, END = "<|begin|>", "<|end|>"
VOCABULARY, SHORT, LONG, BATCH, EXCERPT_BYTES, DECAY = 1024, 256, 512, 2048, 280_000, 0.1
LONG_SHARE = 0.25  # of the steps train on LONG windows: without them the loss rises past position SHORT
CHAPTER = re.compile(r"^(?=chapter [ivxlc\d]+)", re.IGNORECASE | re.MULTILINE)

CARD = """\
---
license: mit
language: en
pipeline_tag: text-generation
---

# austen-llama

A Llama language model of {parameters:,} parameters in float32, trained from scratch on the six novels of Jane Austen
(1811-1818, public domain). It is a demo model: big enough to write lines that look like her prose, far too small for
them to make sense. It is here so that examples and tests can run on a trained model without a download.

| | |
|---|---|
| size | {config.num_hidden_layers} layers of width {config.hidden_size}, feed-forward {config.intermediate_size} |
| heads | {config.num_attention_heads} query, {config.num_key_value_heads} key-value, each {config.head_dim} wide |
| context | {config.max_position_embeddings} tokens |
| vocabulary | {config.vocab_size:,} tokens, input and output embedding tied |
| tokenizer | byte-level BPE, lossless; `<|begin|>` opens a chapter, `<|end|>` closes it and is the padding |
| trained on | the first nine tenths of the text: {train_bytes:,} bytes, {train_tokens:,} tokens |
| tokens seen | {seen:,} in {steps:,} steps; windows of {short} tokens, in {long_share:.0%} of the steps {long} |
| optimizer | AdamW, peak learning rate {args.lr:g}, warm-up and cosine, weight decay {decay} |
| training time | {minutes:.0f} minutes, CPU threads: {args.threads} |

On the held-out last tenth ({held_bytes:,} bytes, {held_tokens:,} tokens), in consecutive windows:

| window | loss per token | perplexity per token | bits per byte |
|---|---|---|---|
{scores}

The held-out part is the second half of a novel whose first half was trained on: expect worse on any other text.

To make it again, up to rounding on another machine:

    python benchmarks/train_embedded.py austen.txt
"""


def split(text: str) -> tuple[str, str]:
    """The training text and the held-out last tenth, cut where a paragraph ends."""
    cut = text.rfind("\n\n", 0, len(text) * 9 // 10) + 2
    return text[:cut], text[cut:]


def excerpt(text: str) -> str:
    """As many whole paragraphs from the start of `text` as fit in `EXCERPT_BYTES`."""
    head = text.encode()[:EXCERPT_BYTES].decode(errors="ignore")
    return head if head == text else head[: head.rfind("\n\n") + 1]


def train_tokenizer(text: str) -> PreTrainedTokenizerFast:
    """A lossless byte-level BPE tokenizer, which adds no special token by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[BEGIN, END], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([text], trainer)
    settings = {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "clean_up_tokenization_spaces": False}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A freshly initialised model."""
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=256,
        max_position_embeddings=LONG,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        initializer_range=0.06,
        dtype="float32",
        **special,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=False, **special)
    return model


def next_token_loss(model: LlamaForCausalLM, windows: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of every token of `windows` but the first, given those before it."""
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction=reduction)


@torch.no_grad()
def evaluate(model: LlamaForCausalLM, tokens: Tensor, length: int) -> float:
    """Mean loss over consecutive windows: every token but the first is predicted exactly once."""
    model.eval()
    windows = [tokens[None, start : start + length + 1] for start in range(0, len(tokens) - 1, length)]
    return sum(next_token_loss(model, window, "sum").item() for window in windows) / (len(tokens) - 1)


def train(model: LlamaForCausalLM, tokens: Tensor, args: argparse.Namespace) -> tuple[int, float]:
    """Train on random windows for `args.minutes` or `args.steps`; return the steps and minutes it
    took."""
    model.train()
    groups = [{"params": [p], "weight_decay": DECAY if p.ndim > 1 else 0.0} for p in model.parameters()]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))
    began, step, done = time.monotonic(), 0, 0.0
    with tqdm(total=1.0, bar_format="{percentage:5.1f}% {elapsed}<{remaining}{postfix}", mininterval=5) as bar:
        while done < 1:
            for group in optimizer.param_groups:
                group["lr"] = args.lr * min(1.0, done / 0.02 + 1e-3) * (1 + math.cos(math.pi * done)) / 2
            length = LONG if torch.rand(()).item() < LONG_SHARE else SHORT
            starts = torch.randint(len(tokens) - length, (BATCH // length, 1))
            loss = next_token_loss(model, tokens[starts + torch.arange(length + 1)])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            minutes = (time.monotonic() - began) / 60
            done = min(1.0, minutes / args.minutes if args.minutes else step / args.steps)
            bar.set_postfix(step=step, loss=loss.item(), refresh=False)
            bar.update(done - bar.n)
    return step, minutes


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the small model that is shipped with growth.")
    parser.add_argument("text", type=Path, help="the corpus, UTF-8")
    parser.add_argument("--out", type=Path, default=Path("growth/assets/austen-llama"))
    parser.add_argument("--excerpt", type=Path, default=Path("growth/assets/excerpt.txt"))
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, default=8000)
    budget.add_argument("--minutes", type=float, help="train for this long, in place of a number of steps")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    text, held_out = split(args.text.read_text(encoding="utf-8"))
    args.excerpt.parent.mkdir(parents=True, exist_ok=True)
    args.excerpt.write_text(excerpt(held_out), encoding="utf-8")
    tokenizer = train_tokenizer(text)
    tokens = torch.tensor(tokenizer.encode("".join(BEGIN + chapter + END for chapter in CHAPTER.split(text))))
    held = torch.tensor(tokenizer.encode(held_out))
    model = build_model(tokenizer)
    steps, minutes = train(model, tokens, args)

    facts = {"parameters": model.num_parameters(), "config": model.config, "args": args, "minutes": minutes}
    facts |= {"steps": steps, "seen": steps * BATCH, "short": SHORT, "long": LONG}
    facts |= {"train_bytes": len(text.encode()), "train_tokens": len(tokens), "long_share": LONG_SHARE, "decay": DECAY}
    facts |= {"held_bytes": len(held_out.encode()), "held_tokens": len(held)}
    rows = []
    for length in (SHORT, LONG):
        loss = evaluate(model, held, length)
        bits = loss * (len(held) - 1) / math.log(2) / len(held_out.encode())
        rows.append(f"| {length} | {loss:.4f} | {math.exp(loss):.2f} | {bits:.3f} |")
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    # Compact, and with the class name that transformers 4 knows too.
    for name, change in (("tokenizer", {}), ("tokenizer_config", {"tokenizer_class": "PreTrainedTokenizerFast"})):
        path = args.out / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8")) | change
        path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    (args.out / "README.md").write_text(CARD.format(scores="\n".join(rows), **facts), encoding="utf-8")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
