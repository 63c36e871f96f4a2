"""What growing a model in memory does with its weights, where one process holds them whole.

`growth.training.sharded.Sharded` does the same with weights that are spread over the ranks of a process
group. All else of `growth.widen` is one code for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.hf.tensor_names import to_disk
from growth.plan.plan import Plan
from growth.training.rebuild import rebuild, share_weights
from growth.weights.fold import Fold
from growth.weights.model_weights import growing_tensors
from growth.weights.workers import working_on


class Unsharded:
    """The weights of a model that one process holds whole. Used as a context: inside it models grow."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def start(self, request: str) -> None:
        """Begin to grow.

        Args:
            request: what was asked for.
        """

    def any_rank(self, failed: str) -> str:
        """What failed, on any rank that grows the model; empty if nothing did. So all of them go on alike.

        Args:
            failed: what failed on this one, or is so on it.
        """
        return failed

    def building(self) -> AbstractContextManager[None]:
        """Inside, classes are built as a model built anew from its config needs it."""
        return nullcontext()

    def state(self, stock: PreTrainedModel, in_memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The model's tensors by their names on disk; of them only shapes and dtypes need be there."""
        return to_disk(stock, in_memory)

    def shared(self, same: PreTrainedModel, stock: PreTrainedModel) -> PreTrainedModel:
        """A class built anew, with the weights of a model."""
        return share_weights(same, stock)

    def grown(
        self,
        stock: PreTrainedModel,
        in_memory: Mapping[str, Tensor],
        plan: Plan,
        ties: dict[str, str],
        tables: torch.dtype,
        fold: Fold,
        allow_nonfinite: bool,
    ) -> PreTrainedModel:
        """The wider model with its weights.

        Args:
            stock: the model that grows.
            in_memory: its tensors, each tied one once, and ``ties`` the names left out
                (`growth.training.rebuild.without_ties`).
            plan: how it grows.
            tables: see `growth.training.rebuild.same_by_config`.
            fold: where reading back is recorded.
            allow_nonfinite: carry NaN and infinity over.
        """
        read = plan.reading(to_disk(stock, in_memory).__getitem__)
        growing = growing_tensors(plan, plan.tensors, read, plan.dtypes, fold, allow_nonfinite=allow_nonfinite)
        with working_on(plan, in_memory.values()) as each:
            grown = {tensor.name: tensor.whole(each) for tensor in growing}
        return rebuild(stock, plan, grown, ties, tables)

    def read(self, value: Tensor, name: str) -> Tensor:
        """A tensor, whole.

        Args:
            value: a weight, or a state of an optimizer.
            name: of it, for a message.
        """
        return value
