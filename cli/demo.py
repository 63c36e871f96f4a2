"""``grow demo``: the main job on the model that comes along, with the proof on screen."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

import growth
from growth.checkpoint.verify import check_equivalence
from growth.checkpoint.widen import widen_checkpoint

from .render import table

EMBEDDED = Path(growth.__file__).parent / "assets" / "austen-llama"
PROMPT = "It is a truth universally acknowledged, that"
GROWTHS: tuple[tuple[str, dict[str, object]], ...] = (
    ("heads", {}),
    ("heads, noise 0.1", {"noise": 0.1}),
    ("head-dim, slots", {"attention": "head-dim"}),
    ("head-dim, pairs", {"attention": "head-dim", "rope": "pairs"}),
    ("head-dim, orthogonal", {"attention": "head-dim", "scaling": "orthogonal"}),
)


def run_demo(keep: Path | None = None, new_tokens: int = 48) -> None:
    """Widen by every attention choice; print one table and one continuation.

    Raises:
        GrowthError: if a proof fails, so that the command's exit code says so.
    """
    with tempfile.TemporaryDirectory() as scratch:
        home = keep or Path(scratch)
        said = _continue(EMBEDDED, new_tokens)
        rows = []
        for label, options in tqdm(GROWTHS, desc="growing", leave=False, disable=None):
            target = home / label.replace(", ", "-").replace(" ", "-")
            grown = widen_checkpoint(EMBEDDED, target, width=2, overwrite=keep is not None, **options)  # type: ignore[arg-type]
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
        sizes = grown.plan
        click.echo(
            f"austen-llama: {sizes.parameters(new=False):,} parameters, hidden size {sizes.old_sizes['hidden_size']} "
            "-> ",
            nl=False,
        )
        click.echo(
            f"{sizes.new_sizes['hidden_size']}, {sizes.parameters(new=True):,} parameters; max |difference of "
            "logits|:\n"
        )
        head = ("grown by", "exact", "float32", "floor", "bfloat16", "floor", "greedy text")
        click.echo(table(head, rows, right=(1, 2, 3, 4, 5)))
        click.echo(f"\nAll of them write, token for token:\n\n  {PROMPT}{said}\n")
        click.echo("exact: the twin in float64. floor: how far the source is from itself in wider arithmetic.")


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
