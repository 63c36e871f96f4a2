"""``grow demo``: the main job on the model that comes along, with the proof on screen."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import growth
from growth.checkpoint.verify import check_equivalence
from growth.checkpoint.widen import widen_checkpoint
from growth.text import Table, wrapped

from .progress import Progress

EMBEDDED = Path(growth.__file__).parent / "assets" / "austen-llama"
PROMPT = "It is a truth universally acknowledged, that"
GROWTHS: tuple[tuple[str, dict[str, object]], ...] = (
    ("more heads", {}),
    ("more heads, equal copies", {"symmetry": "none"}),
    ("wider heads, slots", {"attention": "head-dim"}),
    ("wider heads, pairs", {"attention": "head-dim", "rope": "pairs"}),
    ("wider heads, orthogonal", {"attention": "head-dim", "scaling": "orthogonal"}),
)
EXPLAINED = (
    "Rows, all twice as wide. More heads of the same size are the default; wider heads are --attention head-dim. "
    "Slots and pairs (--rope) are two ways to keep rotary positions; orthogonal (--scaling) divides activations by "
    "sqrt(2). Noise makes the copies of each weight differ, which is what you want to train on; equal copies "
    "(--symmetry none) train as one.",
    "Columns: the largest difference between logits of the small and of the wide model. float64: of a miniature with "
    "the same config, where a correct growth leaves only float64's own rounding. float32, bfloat16: of the two real "
    "models on 256 tokens of text. Its floor: how far the small model in that dtype is from itself in a wider one, so "
    "what rounding alone does; equal is what stays within ten times that.",
)


def run_demo(progress: Progress, keep: Path | None = None, new_tokens: int = 48) -> None:
    """Widen the small model in five ways; print one table and one continuation.

    Args:
        progress: shows what is going on.
        keep: where to leave the wide models; nothing that is there is replaced.
        new_tokens: how many each model writes.

    Raises:
        GrowthError: if a proof fails, so that the command's exit code says so, or if ``keep`` holds
            what would have to be replaced.
    """
    for there in (keep / _folder(label) for label, _ in GROWTHS) if keep else ():
        if os.path.lexists(there):
            raise growth.CheckpointError(f"{there} exists and was kept as it is. Name another folder: --keep FOLDER.")
    with tempfile.TemporaryDirectory() as scratch:
        home = keep or Path(scratch)
        said = _continue(EMBEDDED, new_tokens)
        rows = []
        for number, (label, options) in enumerate(GROWTHS, 1):
            progress.say(f"[{number}/{len(GROWTHS)}] {label}: widening, proving, running both models on text ...")
            target = home / _folder(label)
            grown = widen_checkpoint(EMBEDDED, target, width=2, **options)  # type: ignore[arg-type]
            reports = [
                check_equivalence(EMBEDDED, target, dtype=dtype, tokens=256) for dtype in ("float32", "bfloat16")
            ]
            same = _continue(target, new_tokens) == said
            measured = [
                f"{value:.0e}" for report in reports for value in (report.difference.largest, report.floor.largest)
            ]
            rows.append((label, f"{grown.proof.twin.difference:.0e}", *measured, "same" if same else "DIFFERENT"))
            if not (same and all(report.equal for report in reports)):
                raise growth.ProofError(
                    f"the demo's growth '{label}' does not compute the same function. Please report this."
                )
        progress.say("")
        plan = grown.plan
        click.echo(
            f"austen-llama, which comes along: {plan.parameters(new=False):,} parameters, hidden size "
            f"{plan.old_sizes['hidden_size']} -> {plan.parameters(new=True):,} parameters, hidden size "
            f"{plan.new_sizes['hidden_size']}\n"
        )
        head = ("grown by", "float64", "float32", "its floor", "bfloat16", "its floor", "greedy text")
        click.echo(f"{Table(head, rows, right=(1, 2, 3, 4, 5))}\n")
        for text in EXPLAINED:
            click.echo(f"{wrapped(text)}\n")
        written = wrapped(f"  {PROMPT}{_whole_words(said)}", indent="  ")
        click.echo(f"All of them write, token for token:\n\n{written}\n")
        kept = f"the wide models are in {keep}\n" if keep else ""
        click.echo(f"{kept}next: grow plan YOUR_MODEL --width 2, where YOUR_MODEL is a folder or a hub id")


def _folder(label: str) -> str:
    return label.replace(", ", "-").replace(" ", "-")


def _whole_words(text: str) -> str:
    """A text without the word it breaks off in."""
    return f"{text.rpartition(' ')[0]} ..."


def _continue(folder: Path, new_tokens: int) -> str:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        output = model.generate(  # type: ignore[misc]
            **inputs, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0
        )
    return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).replace(
        "\n", " "
    )
