"""Tiny models trained by the real `transformers.Trainer`, for the tests of its checkpoints."""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import growth

BYTES = 128
_TEXT = (Path(growth.__file__).parent / "assets" / "excerpt.txt").read_bytes()[:16384]
_ROWS = torch.tensor(list(_TEXT)).clamp(max=BYTES - 1).reshape(-1, 32)
DATA = [{"input_ids": row, "labels": row} for row in _ROWS]

MODELS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            **{
                "hidden_size": 24,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 40,
                "num_hidden_layers": 2,
            },
            **{
                "vocab_size": BYTES,
                "max_position_embeddings": 64,
                "attention_bias": True,
                "tie_word_embeddings": False,
            },
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            **{
                "n_embd": 24,
                "n_head": 4,
                "n_inner": 40,
                "n_layer": 2,
                "vocab_size": BYTES,
                "n_positions": 64,
                "use_cache": False,
            },
            **{"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2},
        )
    ),
    "mixtral": lambda: MixtralForCausalLM(
        MixtralConfig(
            **{
                "hidden_size": 24,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 20,
                "num_hidden_layers": 1,
            },
            **{"vocab_size": BYTES, "max_position_embeddings": 64, "num_local_experts": 3, "num_experts_per_tok": 2},
        )
    ),
}


class Seen(TrainerCallback):
    """What the optimizer holds, and what it is set to, when training begins: after Trainer has
    loaded it."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.held = by_name(kwargs["model"], kwargs["optimizer"])
        self.groups = [
            {k: v for k, v in group.items() if k != "params"}
            for group in kwargs["optimizer"].state_dict()["param_groups"]
        ]


@dataclass
class Run:
    trainer: Trainer
    seen: Seen

    @property
    def losses(self) -> dict[int, float]:
        return self.logged("loss")

    def logged(self, what: str) -> dict[int, float]:
        return {entry["step"]: entry[what] for entry in self.trainer.state.log_history if what in entry}


def run(
    model: PreTrainedModel,
    folder: Path,
    resume: Path | None = None,
    steps: int = 60,
    save: int = 30,
    groups: list[dict[str, Any]] | None = None,
    rate: bool = True,
    made: tuple[Any, dict[str, Any]] | None = None,
    loss: Any = None,
    **changes: Any,
) -> Run:
    """A run of Trainer. ``groups``: of AdamW; ``rate``: whether it is told the learning rate too; ``made``: the class
    of another optimizer, and its settings."""
    settings: dict[str, Any] = {
        **{
            "max_steps": steps,
            "save_steps": save,
            "save_strategy": "steps",
            "logging_steps": 1,
            "per_device_train_batch_size": 8,
        },
        **{
            "learning_rate": 3e-3,
            "warmup_steps": 10,
            "lr_scheduler_type": "cosine",
            "weight_decay": 0.1,
            "optim": "adamw_torch",
        },
        **{"use_cpu": True, "report_to": [], "disable_tqdm": True, "dataloader_pin_memory": False, "seed": 3},
    }
    seen = Seen()
    arguments = TrainingArguments(str(folder), **{**settings, **changes})
    if groups is not None:
        made = torch.optim.AdamW, {"params": groups, **({"lr": arguments.learning_rate} if rate else {})}
    trained = Trainer(
        model,
        arguments,
        train_dataset=DATA,
        callbacks=[seen],
        compute_loss_func=loss,
        optimizer_cls_and_kwargs=made,
    )
    trained.remove_callback(PrinterCallback)
    trained.train(resume_from_checkpoint=None if resume is None else str(resume))
    return Run(trained, seen)


def by_name(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    return {
        name: copy.deepcopy(dict(optimizer.state[p])) for name, p in model.named_parameters() if p in optimizer.state
    }


def checkpoint(folder: Path, kind: str, **changes: Any) -> tuple[Path, PreTrainedModel, torch.optim.Optimizer]:
    """A checkpoint after two steps, and what was in memory."""
    torch.manual_seed(1)
    model = MODELS[kind]()
    done = run(model, folder / "out", steps=2, save=2, **changes)
    return folder / "out" / "checkpoint-2", model, done.trainer.optimizer.optimizer


def stopped(model: PreTrainedModel, folder: Path) -> tuple[PreTrainedModel, torch.optim.Optimizer]:
    """A checkpoint of any model after a step, with states that say whose they are, and what is in
    memory."""
    model.save_pretrained(folder)
    arguments = TrainingArguments(str(folder.parent), use_cpu=True, report_to=[], optim="adamw_torch")
    optimizer = Trainer(model, arguments).create_optimizer()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    mark(folder, model, optimizer)
    torch.save({}, folder / "scheduler.pt")
    (folder / "trainer_state.json").write_text('{"global_step": 1}')
    return model, optimizer


def same(a: dict[str, dict[str, Any]], b: dict[str, dict[str, Any]]) -> bool:
    """Whether two states are one, bit for bit."""
    return a.keys() == b.keys() and all(
        a[name].keys() == b[name].keys()
        and all(torch.equal(torch.as_tensor(a[name][k]), torch.as_tensor(b[name][k])) for k in a[name])
        for name in a
    )


def loaded(folder: Path) -> tuple[PreTrainedModel, torch.optim.Optimizer]:
    """The model of a checkpoint and its optimizer, as Trainer loads them."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    arguments = torch.load(folder / "training_args.bin", weights_only=False)
    resumed = Trainer(model, arguments)
    optimizer = resumed.create_optimizer()
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    return model, optimizer


def mark(folder: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    """Write the optimizer again, with states that say whose they are."""
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.ndim:
                value.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(zlib.crc32(f"{name} {key}".encode())))
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
