"""Folders that accelerate saves under FSDP, written and read by its own code on two gloo ranks.

accelerate does not choose FSDP on CPU by itself (``Accelerator(cpu=True, fsdp_plugin=...)`` becomes DDP), so it
is told (`fsdp_plugin`). All else is its own: ``prepare``, ``save_state``, ``load_state``. Ranks are forks of this
process, which has imported everything."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from support import ranks
from support.trainer_runs import MODELS as OTHERS

VOCAB = 127
RANKS = 2
_TEXT = torch.randint(0, VOCAB, (8, 12), generator=torch.Generator().manual_seed(1))


def llama(tied: bool) -> LlamaForCausalLM:
    """One whose rows no two ranks share evenly."""
    sizes: dict[str, Any] = {"hidden_size": 24, "intermediate_size": 41, "num_hidden_layers": 2, "vocab_size": VOCAB}
    return LlamaForCausalLM(
        LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=tied)
    )


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "tied": lambda: llama(True),
    "llama": lambda: llama(False),
    "mixtral": OTHERS["mixtral"],
    "gpt2": OTHERS["gpt2"],
}


def on_ranks(function: Callable[[int], Any], home: Path) -> list[Any]:
    """What a function returns on each of two ranks.

    Args:
        function: of the rank; it runs in a fork that is part of a process group.
        home: an empty folder, for the ranks to meet in.
    """
    home.mkdir()
    return list(ranks.on_ranks(home, _as_accelerate_expects, function, ranks=RANKS))


def _as_accelerate_expects(function: Callable[[int], Any]) -> Any:
    rank = dist.get_rank()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "ACCELERATE_USE_CPU": "true"}
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(rank)


def fsdp_plugin(mode: str, wrapped: str) -> tuple[Any, Any]:
    """(accelerator, plugin): an Accelerator that uses FSDP2 on CPU.

    Args:
        mode: ``SHARDED_STATE_DICT`` or ``FULL_STATE_DICT``.
        wrapped: name of the class of the layers.
    """
    from accelerate import Accelerator, FullyShardedDataParallelPlugin
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import DistributedType

    for state in (AcceleratorState, PartialState, GradientState):
        state._shared_state.clear()
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        state_dict_type=mode,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=[wrapped],
        cpu_offload=False,
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    for held in (AcceleratorState._shared_state, PartialState._shared_state):
        held["distributed_type"] = DistributedType.FSDP
    AcceleratorState._shared_state["fsdp_plugin"] = plugin
    return accelerator, plugin


def _grouped(kind: Callable[..., Optimizer], **settings: Any) -> Callable[[nn.Module], Optimizer]:
    """An optimizer with two groups, as people make them."""

    def made(model: nn.Module) -> Optimizer:
        decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
        return kind([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], **settings)

    return made


OPTIMIZERS = {
    "adamw": _grouped(AdamW, lr=1e-3),
    "amsgrad": _grouped(Adam, lr=1e-3, amsgrad=True),
    "nadam": _grouped(NAdam, lr=1e-3),
    "sgd": _grouped(SGD, lr=1e-2, momentum=0.9),
    "plain sgd": _grouped(SGD, lr=1e-2),
    "rmsprop": _grouped(RMSprop, lr=1e-3, momentum=0.9, centered=True),
    "adagrad": _grouped(Adagrad, lr=1e-2, initial_accumulator_value=0.1),  # which accelerate cannot save under FSDP2
}


def train(
    model: PreTrainedModel,
    *,
    steps: int,
    resume: Path | None = None,
    save: Path | None = None,
    mode: str = "SHARDED_STATE_DICT",
    optimizer: str = "adamw",
) -> dict[str, Any]:
    """Train a model under FSDP, on a rank.

    Args:
        model: whole, on every rank.
        steps: how many.
        resume: a folder to load first.
        save: one to save to at the end.
        mode: as in `fsdp_plugin`.
        optimizer: its name in `OPTIMIZERS`.

    Returns:
        The losses before each step and after the last, all on the same text.
    """
    layers = next(name for name in model._no_split_modules)
    accelerator, _ = fsdp_plugin(mode, layers)
    wrapped, stepper = accelerator.prepare(model.eval(), OPTIMIZERS[optimizer](model))
    if resume is not None:
        accelerator.load_state(str(resume))
    losses = []
    for step in range(steps + 1):
        loss = wrapped(input_ids=_TEXT, labels=_TEXT).loss
        losses.append(float(loss))
        if step < steps:
            accelerator.backward(loss)
            stepper.step()
            stepper.zero_grad()
    if save is not None:
        accelerator.save_state(str(save))
    return {"losses": losses}


def saved(folder: Path, home: Path, name: str, mode: str = "SHARDED_STATE_DICT", **changes: Any) -> list[float]:
    """Train a model of this name for two steps, and save it. Returns the losses."""

    def work(rank: int) -> dict[str, Any]:
        torch.manual_seed(0)
        return train(MODELS[name](), steps=2, save=folder, mode=mode, **changes)

    return list(on_ranks(work, home)[0]["losses"])


def resumed(folder: Path, home: Path, mode: str = "SHARDED_STATE_DICT", **changes: Any) -> list[float]:
    """Load a folder into a new model of its config, and train for two steps. Returns the losses."""

    def work(rank: int) -> dict[str, Any]:
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        return train(model, steps=2, resume=folder, mode=mode, **changes)

    return list(on_ranks(work, home)[0]["losses"])


def saved_alone(folder: Path, name: str, optimizer: str) -> None:
    """Train a model of this name in one process, and write by torch's own functions what accelerate would."""
    torch.manual_seed(0)
    model = MODELS[name]()
    trained = OPTIMIZERS[optimizer](model)
    for _ in range(2):
        model(input_ids=_TEXT, labels=_TEXT).loss.backward()
        trained.step()
        trained.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": get_model_state_dict(model)}, checkpoint_id=folder / "pytorch_model_fsdp_0")
        state = get_optimizer_state_dict(model, trained)
        dcp.save({"optimizer": state}, checkpoint_id=folder / "optimizer_0")


def write_config(folder: Path, name: str) -> Path:
    """The config of a model of this name, in a folder of its own. Returns the file."""
    model = MODELS[name]()
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    return folder / "config.json"


def whole(folder: Path, name: str, home: Path) -> dict[str, Any]:
    """What a folder of torch.distributed.checkpoint holds, read by torch's own converter."""
    file = home / f"{folder.name}-{name}.pt"
    dcp_to_torch_save(folder / name, file)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def trained_by_trainer(
    model: PreTrainedModel, folder: Path, *, steps: int, resume: Path | None = None, mode: str = "SHARDED_STATE_DICT"
) -> dict[str, Any]:
    """Train a model by `transformers.Trainer` under FSDP, on a rank, saving at every second step.

    Returns:
        The losses that it logs, and the number of steps at the end.
    """
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import DistributedType
    from transformers import Trainer, TrainingArguments

    class Told(Trainer):
        """A Trainer whose accelerator uses FSDP on CPU."""

        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            from accelerate import FullyShardedDataParallelPlugin

            plugin = FullyShardedDataParallelPlugin(
                fsdp_version=2,
                state_dict_type=mode,
                auto_wrap_policy="transformer_based_wrap",
                transformer_cls_names_to_wrap=[next(iter(model._no_split_modules))],
                cpu_offload=False,
            )
            for held in (AcceleratorState._shared_state, PartialState._shared_state):
                held["distributed_type"] = DistributedType.FSDP
            AcceleratorState._shared_state["fsdp_plugin"] = plugin
            self.is_fsdp_enabled = True

    for state in (AcceleratorState, PartialState, GradientState):
        state._shared_state.clear()
    arguments = TrainingArguments(
        str(folder),
        max_steps=steps,
        save_steps=2,
        logging_steps=1,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )
    rows = [{"input_ids": row, "labels": row} for row in _TEXT]
    trainer = Told(model.eval(), arguments, train_dataset=rows)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    logged = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    return {"losses": logged, "steps": trainer.state.global_step}
