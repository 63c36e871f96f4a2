"""`growth.widen`: a model in memory, with its optimizer and scheduler.

The same plan, proofs and arithmetic as for a checkpoint on disk (`growth.checkpoint.widen`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, Unpack, cast, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from growth.arguments import check_flag, check_kind, check_word
from growth.errors import CheckpointError
from growth.hf.custom_modules import inner_module
from growth.hf.expected_tensors import expected_tensors
from growth.hf.own_modules import OwnWrapper, own_config, remember
from growth.plan.choices import Choices, takes_choices
from growth.plan.options import Options, chosen
from growth.plan.plan import Plan
from growth.plan.text import grown_table, note_parts
from growth.proof.own_run import Trial, shapes, try_model
from growth.proof.proof import Proof
from growth.proof.run import prove_grown
from growth.proof.twin import prove_twin
from growth.text import Part, Shown
from growth.training.coordinates import masks_of
from growth.training.lr_schedulers import repoint
from growth.training.model_checks import check_state, check_ties, check_training, part_copies, warn_of_equal_copies
from growth.training.moments import Moments
from growth.training.optimizer import grow_optimizer
from growth.training.optimizer_checks import Hyper, not_kept, settings_of
from growth.training.ranks import grouped
from growth.training.rebuild import check_parts, same_by_config, without_ties
from growth.training.sharded import Shard, Sharded
from growth.training.shared_memory import check_memory
from growth.training.stock import as_stock, plan_of, raw_of
from growth.training.unsharded import Unsharded
from growth.training.wrappers import check_shard, check_unwrapped, uncompiled
from growth.weights.fold import Fold

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, repr=False)
class Grown(Shown, Generic[M]):
    """The result of `growth.widen`.

    Under ``symmetry="none"`` (the default is noise), and without ``uneven`` and ``born`` parameters,
    training continues exactly as the small model's would have.

    Args:
        model: the wider model, of the class of the one given.
        plan: how it grew.
        proof: what was proved about it.
        optimizer, scheduler: those of the grown model, if the old ones were given. The old ones
            still belong to the small model.
        uneven: parameters whose copies need different learning rates (or weight decays); they share
            the geometric mean.
        born: parameters with new coordinates that start at zero, or whose gradient the small model
            does not determine (their optimizer state starts at zero).
    """

    model: M
    plan: Plan
    proof: Proof
    optimizer: Optimizer | None = None
    scheduler: LRScheduler | None = None
    uneven: tuple[str, ...] = ()
    born: tuple[str, ...] = ()

    @property
    def config(self) -> Any:
        """The config of the grown model: of a module of your own an object of the kind it had, kept by
        the module or not."""
        return own_config(self.model)

    def new_coordinates(self) -> dict[str, Tensor]:
        """Which weights of the grown model are new.

        A weight is new unless it belongs to the first copy of an old coordinate along every
        dimension of its tensor. A parameter that no dimension of grew has no new weight; one that
        the old model does not have is new throughout. The weights that are not new are the
        old model's, times the factors of the plan: ``down_proj`` at twice the width holds halves.

        Returns:
            Parameter name, as in ``model.named_parameters()`` -> boolean tensor of the parameter's
            shape, on the CPU.

        Raises:
            IllegalGrowthError: the model is no longer the one that grew.

        Example:
            Three quarters of a matrix are new at twice the width, half of a gain:

            >>> grown = growth.widen(model, width=2)
            >>> {name: float(new.float().mean()) for name, new in grown.new_coordinates().items()}
            {..., 'model.layers.0.mlp.down_proj.weight': 0.75, 'model.norm.weight': 0.5}
        """
        return masks_of(self.model, self.plan)

    def _parts(self) -> Sequence[Part]:
        parts: list[Part] = [grown_table(self.plan), str(self.proof), *note_parts(self.plan)]
        if (run := self.proof.run) is not None and run.unseen:
            listed = "; ".join(run.unseen[:3]) + (f"; and {len(run.unseen) - 3} more" if len(run.unseen) > 3 else "")
            parts.append(f"not kept, as the wider model follows the config: {listed}")
        return parts

    def __repr__(self) -> str:
        return f"Grown({self.plan!r})"


@takes_choices
def widen(
    model: M,
    *,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    moments: Moments = "preserve",
    hyper: Hyper = "preserve",
    allow_nonfinite: bool = False,
    verify_inputs: Mapping[str, Any] | None = None,
    config: Any = None,
    build: Callable[[Any], nn.Module] | None = None,
    inputs: Any = None,
    shard: Shard | None = None,
    **choices: Unpack[Choices],
) -> Grown[M]:
    """A new, wider model that computes the same function. The one given is not touched.

    Kept: devices, dtypes, tied weights, ``requires_grad``, train or eval mode of every module,
    ``nn.Dropout.p``, ``nn.Embedding.padding_idx``, gradient checkpointing, the generation config.
    Not kept: gradients, attributes that the class does not have; and hooks of the model, its
    weights and the optimizer, methods that are not the class's, and attributes of dropout (these are
    listed when the result is printed). So grow between two steps. Dropout draws other masks in a
    wider model, so "the same function" is that of eval mode.

    The wider model is built from the config. So the model is run on a few tokens beside a new one
    of its class, config and weights, and refused if it computes something else (a replaced
    activation, a scaling set by hand, a hook that changes values, a config that was edited later), or
    if an attribute of a module is not what the config gives it;
    and the wider model is run on them too. Neither run leaves a trace in the model or in a random
    generator.

    The result has a new model *and* a new optimizer. An optimizer made for the small model goes on
    stepping the small model's parameters, without an error: the wide model then does not train. Use
    ``grown.optimizer``, or make a new one from ``grown.model.parameters()``.

    Args:
        model: of a transformers class of a declared architecture, or a module of your own, whose
            class may be registered. A model that torch.compile wraps is unwrapped: compile the result again.
            A sharded one needs ``shard``. Models under DDP or FSDP's wrapper class and models with PEFT
            adapters are refused. Inside a
            `transformers.Trainer` callback, do not use this: stop, and grow the checkpoint that
            Trainer saved (`growth.widen_checkpoint` with ``optimizer=True``).
        optimizer: of the model. Its state and settings grow too, and the result has one that
            continues where it was.
        scheduler: of that optimizer. The result has one that drives the grown optimizer from the
            same step on.
        moments: what becomes of the optimizer's state: ``preserve`` grows it, ``fresh`` grows it
            for the first copy of each coordinate only, ``reset`` drops it
            (`growth.training.optimizer.grow_optimizer`).
        hyper: ``preserve`` sets learning rate, epsilon and weight decay per tensor so that training
            continues as the small model's would; ``keep`` leaves them as they are.
        allow_nonfinite: carry NaN and infinity over instead of refusing them.
        verify_inputs: a batch to run the models on, as ``model(**verify_inputs)`` takes it. One row
            is enough. Default: a few random tokens, an image or a spectrogram.
        config: of a module of your own that does not keep it as ``module.config``: a dataclass, a
            namespace, a dictionary, or any object with plain attributes.
        build: how a module of your own is built from such a config, if neither ``type(module)(config)``
            nor the class with the config's fields does it.
        inputs: what a module of your own is run on: a tensor, a tuple, a dictionary by the names of
            ``forward``'s arguments, or a function of the config that makes one. Default: token ids
            if its first layer is an embedding, floats if it is a linear layer.
        shard: a function that shards a model of this class in place, with ``fully_shard``,
            ``parallelize_module`` or both. The result is sharded by it. Needed if ``model`` is sharded;
            one that is not may be given too, the same on every rank. Every rank of the default process
            group calls this with the same arguments. The function gets models whose parameters have no
            data yet (device meta); it may return the model. A rank never holds more than its parts of
            both models, what training holds in a forward pass, and one whole parameter at a time, old
            and grown. An error on one rank is raised on all (one in a forward pass of that rank alone
            there, and the others end as they do in training). The run is made on the sharded models; where
            model and config do not agree bit for bit, what rounding moves the outputs decides, and no
            module is named.

    Returns:
        The wider model, how it grew, what was proved, and the optimizer and scheduler to go on
        with.

    Raises:
        UnsupportedModelError: a class that is not declared, a wrapped model, or one that does not
            compute what its config says; the message says what to do.
        ProofError: a growth that is not exact.
        GrowthError: anything else that stands in the way.

    Example:
        >>> grown = growth.widen(model, width=2, optimizer=optimizer)
        >>> model, optimizer = grown.model, grown.optimizer

        Sharded, on every rank, by the function that sharded the small model:

        >>> grown = growth.widen(model, width=2, optimizer=optimizer, shard=shard)
    """
    model = cast(M, uncompiled(model))
    with Sharded(model, shard) if shard is not None and grouped() else Unsharded() as held:
        check_unwrapped(model)
        check_shard(model, shard)
        options = chosen(choices)
        check_word("moments", moments, get_args(Moments))
        check_word("hyper", hyper, get_args(Hyper))
        check_flag("allow_nonfinite", allow_nonfinite)
        if verify_inputs is not None:
            check_kind("verify_inputs", verify_inputs, Mapping, "a batch of inputs by name")
        usual = vars(chosen({}))
        asked = {key: value for key, value in vars(options).items() if value != usual[key] or key == "width"}
        held.start(
            f"widen a {type(model).__name__} by {asked}, moments='{moments}', hyper='{hyper}', "
            f"{settings_of(optimizer, scheduler)}, verify_inputs={shapes(verify_inputs or {})}"
        )
        stock = as_stock(model, config, build, inputs)
        check_training(stock, optimizer, scheduler, moments, hyper)
        in_memory, ties = without_ties(stock)
        plan, trial, tables = _tried(held, stock, in_memory, ties, options, verify_inputs, allow_nonfinite)
        twin, fold = prove_twin(plan), Fold()
        new = held.grown(stock, in_memory, plan, ties, tables, fold, allow_nonfinite)
        if isinstance(new, OwnWrapper):
            remember(new)
        result = Grown(
            cast(M, inner_module(new)), plan, Proof(twin, fold, prove_grown(trial, new, plan, held.any_rank))
        )
        if optimizer is None:
            return result
        warn_of_equal_copies(plan, part_copies(moments, optimizer.state.values()))
        if lost := not_kept(optimizer):
            note = f"not kept of the optimizer: {', '.join(lost)}; give it to the grown one"
            result = replace(result, plan=replace(plan, notes=(*plan.notes, note)))
        trained = grow_optimizer(optimizer, stock, new, plan, moments=moments, hyper=hyper, read=held.read)
        driven = None if scheduler is None else repoint(scheduler, trained.optimizer, trained.groups)
        return replace(result, optimizer=trained.optimizer, scheduler=driven, uneven=trained.uneven, born=trained.born)


def _tried(
    held: Unsharded,
    stock: PreTrainedModel,
    in_memory: Mapping[str, Tensor],
    ties: Mapping[str, str],
    options: Options,
    verify_inputs: Mapping[str, Any] | None,
    allow_nonfinite: bool,
) -> tuple[Plan, Trial, torch.dtype]:
    """How a model will grow, after it was compared with its class built anew; and the dtype of its
    tables (`same_by_config`)."""
    raw = raw_of(stock)
    check_memory(stock)
    if empty := next((key for key, value in in_memory.items() if value.device.type == "meta"), None):
        raise CheckpointError(f"tensor '{empty}' has no data (device meta). Load the model first.")
    state = held.state(stock, in_memory)
    expected, tied = expected_tensors(raw, type(stock))
    with held.building():
        same, tables = same_by_config(stock, raw)
    check_parts(stock, same)
    check_ties(ties, expected, tied)
    plan = plan_of(raw, options, state)
    check_state(plan, state, expected, type(inner_module(stock)).__name__)
    trial = try_model(stock, held.shared(same, stock), verify_inputs, allow_nonfinite, held.any_rank)
    return plan, trial, tables
