"""Logs of training runs: what is read, what is left out, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from growth.errors import CheckpointError, IllegalGrowthError
from growth.planner import training_logs
from growth.planner.training_logs import Log, TrainingLog, read_logs
from support import trainer_runs

TOKENS = [1e6 * number for number in range(1, 21)]
LOSS = [2 + (tokens / 1e6) ** -0.5 for tokens in TOKENS]
KEPT = sum(tokens >= 0.15 * TOKENS[-1] for tokens in TOKENS)


def read(log: Log, tokens_per_step: float | None = None) -> TrainingLog:
    return read_logs({"small": log}, tokens_per_step)["small"]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def rows(separator: str, tokens: list[float] = TOKENS, loss: list[float] = LOSS) -> str:
    return "".join(f"{one}{separator}{other}\n" for one, other in zip(tokens, loss, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        f"tokens,loss\n{rows(',')}",
        f"Tokens; val_loss\n{rows(';')}",
        f"num_tokens\ttrain_loss\n{rows(chr(9))}",
        "\ufeffstep,tokens,loss\n" + "".join(f"{step},{row}\n" for step, row in enumerate(rows(",").splitlines())),
        rows(","),
    ],
    ids=["commas", "semicolons", "tabs", "another column", "no header"],
)
def test_csv_files(text: str, tmp_path: Path) -> None:
    log = read(written(tmp_path / "log.csv", text))
    assert len(log.tokens) == KEPT and log.tokens[-1] == 2e7 and log.loss[-1] == LOSS[-1]
    assert log.held_out == ("val_loss" in text)


def test_columns_and_pairs() -> None:
    pairs = list(zip(TOKENS, LOSS, strict=True))
    for log in ({"tokens": TOKENS, "loss": LOSS}, pairs, np.array(pairs)):
        assert np.array_equal(read(log).loss, LOSS[-KEPT:])  # type: ignore[arg-type]


def test_a_real_trainer_run(tmp_path: Path) -> None:
    """Warm-up of 5 steps, constant, then a decay over the last 10; averages of two steps."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {"lr_scheduler_type": "warmup_stable_decay", "warmup_steps": 5, "logging_steps": 2}
    settings |= {"lr_scheduler_kwargs": {"num_decay_steps": 10}, "include_num_input_tokens_seen": True}
    folder = tmp_path / "out"
    done = trainer_runs.run(trainer_runs.MODELS["llama"](), folder, steps=40, save=40, **settings)
    done.trainer.save_state()  # with a closing entry: the mean loss of the whole run
    assert "train_loss" in (folder / "trainer_state.json").read_text()
    for place in (folder, folder / "checkpoint-40", folder / "checkpoint-40" / "trainer_state.json"):
        log = read(place)
        history = json.loads((folder / "checkpoint-40" / "trainer_state.json").read_text())["log_history"]
        logged = {entry["num_input_tokens_seen"] - 256: entry["loss"] for entry in history if "loss" in entry}
        assert 10 <= len(log.tokens) <= 14 and all(
            logged[tokens] == loss for tokens, loss in zip(log.tokens, log.loss, strict=True)
        )
        assert log.seen == 40 * 256 and log.tokens[-1] <= 32 * 256 and log.tokens[0] >= 6 * 256
        assert "learning rate falls" in " ".join(log.notes) and not log.held_out
    assert np.array_equal(read(folder, tokens_per_step=512).tokens, log.tokens)  # which the log says itself


def state(path: Path, **entry: float) -> Path:
    """The state of a run, each entry with a loss of its own and ``entry``."""
    history = [{"step": number, "loss": loss, **entry} for number, loss in enumerate(LOSS, 1)]
    path.mkdir(exist_ok=True)
    return written(path / "trainer_state.json", json.dumps({"log_history": history}))


def test_steps_need_their_tokens(tmp_path: Path) -> None:
    path = state(tmp_path / "run")
    with pytest.raises(CheckpointError, match="Give --tokens-per-step N"):
        read(path)
    for wrong in (0, -4, float("nan"), "many"):
        with pytest.raises(IllegalGrowthError, match="tokens_per_step must be a number above 0"):
            read(path, tokens_per_step=wrong)  # type: ignore[arg-type]
    log = read(path, tokens_per_step=1e6)
    assert log.tokens[-1] == 1.95e7  # an average over a step belongs to its middle


def test_a_log_may_begin_at_no_tokens() -> None:
    for log in ([(0, 10.8), *zip(TOKENS, LOSS, strict=True)], {"tokens": [0, *TOKENS], "loss": [10.8, *LOSS]}):
        assert np.array_equal(read(log, tokens_per_step=7).tokens, TOKENS[-KEPT:])  # type: ignore[arg-type]
    zeros = {"tokens": [0] * 20, "step": list(range(1, 21)), "loss": LOSS}
    assert read(zeros, tokens_per_step=1e6).tokens[-1] == 2e7


def test_a_training_loss_of_another_name(tmp_path: Path) -> None:
    history = [{"step": number, "train_loss": loss} for number, loss in enumerate(LOSS, 1)]
    history.append({"step": 20, "train_loss": 9.0, "total_flos": 3.0})
    path = written(tmp_path / "trainer_state.json", json.dumps({"log_history": history}))
    assert read(path, tokens_per_step=1e6).loss[-1] == LOSS[-1]


def test_held_out_losses_where_every_log_has_them() -> None:
    both = {"tokens": TOKENS, "loss": LOSS, "eval_loss": [loss + 1 for loss in LOSS]}
    plain = {"tokens": TOKENS, "loss": LOSS}
    assert read(both).held_out and read(both).loss[-1] == LOSS[-1] + 1
    mixed = read_logs({"small": both, "large": plain})
    assert not mixed["small"].held_out and mixed["small"].loss[-1] == LOSS[-1]
    few = {**both, "eval_loss": [float(number) if number < 4 else None for number in range(len(TOKENS))]}
    assert not read(few).held_out and np.array_equal(read(few).loss, read(plain).loss)
    with pytest.raises(CheckpointError, match="has 4 points at a constant"):
        read({"tokens": TOKENS[-4:], "eval_loss": LOSS[-4:]})
    with pytest.raises(
        CheckpointError, match="'large' has held-out losses alone, and another log has none or too few"
    ):
        read_logs({"small": few, "large": {"tokens": TOKENS, "eval_loss": few["eval_loss"]}})
    with pytest.raises(CheckpointError, match="20 of 20 held-out losses"):
        read({**both, "eval_loss": [float("nan")] * len(TOKENS)})
    alone = {"tokens": TOKENS, "eval_loss": LOSS}
    with pytest.raises(CheckpointError, match="Log the same loss in both runs"):
        read_logs({"small": alone, "large": plain})


def test_warm_up_and_decay_are_left_out() -> None:
    rates = [0.0, *[0.5] * 4, *[1.0] * 10, 0.95, 0.8, 0.6, 0.4, 0.2]
    log = read({"tokens": TOKENS, "loss": LOSS, "lr": rates})
    assert list(log.tokens) == TOKENS[5:16] and "falls after 1.6e+07 tokens" in log.notes[0]
    with_none = read({"tokens": TOKENS, "loss": LOSS})
    assert "no learning rates" in with_none.notes[0]


def test_a_rate_that_always_falls_leaves_too_little() -> None:
    with pytest.raises(CheckpointError, match=r"has 1 points at a constant learning rate.*constant_with_warmup"):
        read({"tokens": TOKENS, "loss": LOSS, "learning_rate": [20.0 - number for number in range(20)]})


def test_order_and_repeats() -> None:
    tokens, loss = [*TOKENS, TOKENS[10]], [*LOSS, 2.5]
    log = read({"tokens": tokens, "loss": loss})
    assert list(log.tokens) == TOKENS[-KEPT:] and log.loss[list(log.tokens).index(TOKENS[10])] == 2.5
    assert any("were sorted" in note for note in log.notes)


def test_what_is_no_number_is_left_out() -> None:
    loss = [*LOSS[:10], float("nan"), float("inf"), *LOSS[12:]]
    log = read({"tokens": TOKENS, "loss": loss})
    assert len(log.tokens) == KEPT - 2 and "2 points that are not finite" in log.notes[0]
    with pytest.raises(CheckpointError, match=r"11 of 20 training losses .* Check whether the run diverged"):
        read({"tokens": TOKENS, "loss": [*LOSS[:9], *[float("nan")] * 11]})


REFUSED: dict[str, tuple[str, str, str]] = {
    "missing": ("", "", "no such log"),
    "no losses": ("log.csv", "tokens,accuracy\n1,2\n", "has no losses"),
    "three columns": ("log.csv", "1,2,3\n4,5,6\n", r"has 3 columns and no line that names them"),
    "empty": ("log.csv", "\n", "is empty"),
    "few": ("log.csv", "tokens,loss\n1,3\n2,2.5\n3,2.2\n", "has 3 points at a constant learning rate"),
    "other JSON": ("config.json", "{}", "has no 'log_history'"),
    "no JSON": ("a.json", "{", "is not readable JSON"),
}


@pytest.mark.parametrize(("name", "text", "says"), REFUSED.values(), ids=REFUSED)
def test_refusals(name: str, text: str, says: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, text) if name else tmp_path / "gone.csv"
    with pytest.raises(CheckpointError, match=says) as error:
        read(path)
    assert str(error.value).count(". ") >= 1  # what, and the next step


def test_more_refusals(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no trainer_state\.json"):
        read(tmp_path)
    (tmp_path / "log.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="is no text"):
        read(tmp_path / "log.csv")
    with pytest.raises(CheckpointError, match="different lengths"):
        read({"tokens": [1.0], "loss": [1.0, 2.0]})
    with pytest.raises(CheckpointError, match="which is no log"):
        read([1.0, 2.0])  # type: ignore[list-item]


def test_a_reader_that_keeps_the_decay_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_logs, "DECAYED", 0.0)
    with pytest.raises(AssertionError):
        test_warm_up_and_decay_are_left_out()
