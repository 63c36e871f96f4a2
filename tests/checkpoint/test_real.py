"""Real trained weights, widened and verified from the command line, as a user would."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, BertForMaskedLM, BertForPreTraining

from support.real_checkpoints import minilm, rxnfp, smollm2

pytestmark = pytest.mark.real

SMOLLM2_360M = Path(__file__).parents[1] / "support" / "configs" / "smollm2-360m.json"
LIKE_360M = ["--like", str(SMOLLM2_360M)]
Widened = Callable[..., Path]
SENTENCES = [
    "A man is playing the guitar.",
    "Someone plays a guitar on stage.",
    "The stock market fell sharply on Monday, and bonds rose.",
    "Shares lost value today.",
    "Bread needs flour, water, salt and time.",
]
REACTION = "CC(=O)O.OCCc1ccccc1>>CC(=O)OCCc1ccccc1.O"


def grow(*arguments: str | Path) -> str:
    """What ``grow`` prints; a failure, with its message, if it exits with an error."""
    command = [str(Path(sys.executable).parent / "grow"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def widened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Widened]:
    """(source, *options) -> the folder that ``grow widen`` makes of it, once per worker. Deleted at
    the end, since these take gigabytes."""
    folder = tmp_path_factory.mktemp("widened")
    made: dict[tuple[str | Path, ...], Path] = {}

    def widen(source: Path, *options: str) -> Path:
        if (source, *options) not in made:
            target = folder / f"{len(made)}-{source.name}"
            record = json.loads(grow("widen", source, target, *options, "--json"))
            assert record["proof"] and record == json.loads((target / "growth.json").read_text(encoding="utf-8"))
            made[source, *options] = target
        return made[source, *options]

    yield widen
    shutil.rmtree(folder)


def verify(source: Path, target: Path, dtype: str) -> dict[str, Any]:
    """The report of ``grow verify`` on the excerpt, where the two must be apart by the rounding
    floor at most."""
    report: dict[str, Any] = json.loads(grow("verify", source, target, "--dtype", dtype, "--json"))
    difference, floor = report["difference"], report["floor"]
    assert report["equal"] is True and report["diverges_at"] is None, report
    assert (report["dtype"], report["tokens"]) == (dtype, 512)
    # Rounding in other places is expected, more rounding is not.
    assert difference["largest"] <= 3 * floor["largest"] and difference["mean"] <= 2 * floor["mean"], report
    # The floor must be low enough to show an error: a wrong model is off by the size of its output.
    assert floor["mean"] <= (1e-4 if dtype == "float32" else 0.3), report
    return report


@pytest.mark.parametrize("converted", [False, True], ids=["float32", "to-bfloat16"])
def test_minilm_verifies(widened: Widened, converted: bool) -> None:
    target = widened(minilm(), *(["--dtype", "bfloat16"] if converted else []))
    for dtype in ["bfloat16"] if converted else ["float32", "bfloat16"]:
        assert verify(minilm(), target, dtype)["output"] == "last_hidden_state"


@pytest.mark.parametrize(
    ("stored", "options"),
    [
        ("float32", []),
        ("float32", ["--attention", "head-dim"]),
        ("float32", ["--attention", "head-dim", "--rope", "pairs"]),
        ("bfloat16", []),
        ("bfloat16", ["--attention", "head-dim"]),
        # SmolLM2-360M, and a ratio that leaves coordinates with one copy and with two.
        ("float32", LIKE_360M),
        ("bfloat16", ["--width", "1.5", "--kv-heads", "keep", "--symmetry", "split:1/2"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(os.path.basename, value[1::2])) or "heads",
)
def test_smollm2_verifies(widened: Widened, stored: str, options: list[str]) -> None:
    target = widened(smollm2(stored), *options)
    for dtype in ["float32", "bfloat16"] if stored == "float32" else ["bfloat16"]:
        report = verify(smollm2(stored), target, dtype)
        before, after = report["perplexity"]
        assert report["output"] == "logits" and before < 60, (
            "these are not the trained weights, or the text is not English"
        )
        assert after == pytest.approx(before, rel=1e-5 if dtype == "float32" else 0.02)
        assert report["difference"]["kl"] <= (1e-9 if dtype == "float32" else 0.01)
        assert report["difference"]["top1"] >= (0.995 if dtype == "float32" else report["floor"]["top1"] - 0.03)


@pytest.mark.parametrize("options", [[], ["--attention", "head-dim"]], ids=["heads", "head-dim"])
def test_smollm2_answers_the_same(widened: Widened, options: list[str]) -> None:
    target = widened(smollm2(), *options)
    before, after = answer(smollm2()), answer(target)
    assert before.startswith("The capital of France is Paris.")
    assert after == before


def test_smollm2_135m_runs_under_the_config_of_the_360m(widened: Widened, tmp_path: Path) -> None:
    """The published config, its epsilon aside, in place of the one that was written."""
    target = widened(smollm2(), *LIKE_360M)
    grown, published = (json.loads(path.read_text()) for path in (target / "config.json", SMOLLM2_360M))
    for file in target.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    own = {name: grown[name] for name in ("rms_norm_eps", "bos_token_id", "eos_token_id", "pad_token_id")}
    assert own["rms_norm_eps"] == pytest.approx(1.2 * published["rms_norm_eps"], rel=1e-6)
    (tmp_path / "config.json").write_text(json.dumps({**published, **own}))
    assert answer(tmp_path) == answer(smollm2())


def answer(folder: Path) -> str:
    """24 tokens, decoded greedily in float32 with the KV cache."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    tokens = model.generate(**prompt, do_sample=False, use_cache=True, min_new_tokens=24, max_new_tokens=24)[0]
    text: str = tokenizer.decode(tokens[prompt["input_ids"].shape[1] :])
    return text


def test_minilm_embeds_sentences_the_same(widened: Widened) -> None:
    target = widened(minilm())
    before, after = embeddings(minilm()), embeddings(target)
    assert after.shape == (len(SENTENCES), 2 * before.shape[1])
    similarity = before @ before.T
    assert similarity[0, 1] > 0.5 > similarity[0, 2], "these are not the trained weights"
    torch.testing.assert_close(after @ after.T, similarity, atol=1e-5, rtol=0)


def embeddings(folder: Path) -> torch.Tensor:
    """As sentence-transformers computes them: the mean over tokens, normalised."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def test_minilm_stays_a_sentence_transformer(widened: Widened) -> None:
    source, target = minilm(), widened(minilm())
    old, new = (
        json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8")) for folder in (source, target)
    )
    assert old["word_embedding_dimension"] == 384 and new == {**old, "word_embedding_dimension": 768}
    for name in (
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "tokenizer.json",
        "vocab.txt",
    ):
        assert (target / name).read_bytes() == (source / name).read_bytes()


def test_old_pickle_with_both_of_berts_heads(widened: Widened) -> None:
    source, target = rxnfp(), widened(rxnfp())
    assert verify(source, target, "float32")["output"] == "prediction_logits"
    grown, info = BertForPreTraining.from_pretrained(target, output_loading_info=True)
    assert not any(info.values()), info
    assert (grown.config.hidden_size, grown.config.intermediate_size, grown.config.num_attention_heads) == (
        512,
        1024,
        8,
    )

    vocabulary = {
        token: index for index, token in enumerate((source / "vocab.txt").read_text(encoding="utf-8").splitlines())
    }
    tokens = ["[CLS]", *re.findall(r">>|.", REACTION), "[SEP]"]
    ids = torch.tensor([[vocabulary[token] for token in tokens]])
    masked = ids.clone()
    masked[0, 5::6] = vocabulary["[MASK]"]
    models = [
        *(BertForMaskedLM.from_pretrained(folder) for folder in (source, target)),
        BertForPreTraining.from_pretrained(source),
        grown,
    ]
    with torch.no_grad():
        before, after, both_before, both_after = (model(input_ids=masked) for model in models)
    assert (before.logits.argmax(-1) == ids).float().mean() > 0.8, "these are not the trained weights"
    torch.testing.assert_close(after.logits, before.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(both_after.prediction_logits, before.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        both_after.seq_relationship_logits, both_before.seq_relationship_logits, atol=1e-5, rtol=0
    )
