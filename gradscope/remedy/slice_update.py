"""slice_learning_rate: a slice's weights keep only a part of each update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch

from gradscope.errors import UsageError
from gradscope.remedy.columns import repeated_columns
from gradscope.remedy.slice_gradients import check_factor, weight_of

if TYPE_CHECKING:
    from gradscope.remedy.columns import Columns


def slice_learning_rate(
    optimizer: torch.optim.Optimizer,
    weight: torch.nn.Module | torch.Tensor,
    columns: Columns,
    factor: float = 0.1,
    *,
    sequence_length: int | None = None,
) -> SliceLearningRate:
    """Give a slice of the first layer its own learning rate, from the next step on.

    Before each step the slice's weights are kept, after it only ``factor`` of what changed them stays.
    That is a learning rate of ``factor * lr`` on these columns under every optimizer, Adam included; its
    moments are as without it.

    Helps: where a slice with large inputs drives the first layer; this is what scaling its gradient was
    meant to do (SCIENCE section 7).

    Cannot help: against the size of the inputs themselves, which saturates or kills units through weights
    that are there already; nor can it revive a weight whose gradient is 0. Weight decay of the slice is
    scaled too.

    Args:
        optimizer: the one that steps the weight.
        weight: weight [out, in, ...] of the first layer, or a module with such a ``weight``.
        columns: the slice's columns of one bar, axis 1 of the weight.
        factor: of each update; 0 freezes the slice, 1 changes nothing.
        sequence_length: bars of a flat input, oldest first; the columns of every bar are meant.

    Returns:
        A handle; ``remove()`` ends it. State dicts, copies and pickles of the optimizer do not carry it, so
        attach it anew after loading.

    Raises:
        UsageError: the weight is not among the optimizer's, or columns or factor are wrong.
    """
    parameter = weight_of(weight)
    if not any(parameter is each for group in optimizer.param_groups for each in group["params"]):
        raise UsageError(f"weight {list(parameter.shape)}: {type(optimizer).__name__} does not step it.")
    check_factor(factor)
    chosen = repeated_columns(columns, parameter.shape[1], sequence_length)
    return SliceLearningRate(optimizer, parameter, chosen, factor)


class SliceLearningRate:
    """Handle of ``slice_learning_rate``; also ends with a ``with`` block."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, weight: torch.Tensor, columns: tuple[int, ...], factor: float
    ) -> None:
        self.factor = factor
        self._weight = weight
        self._columns = torch.tensor(columns)
        self._before: torch.Tensor | None = None
        self._hooks = (
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        )

    def remove(self) -> None:
        """Leave no hook behind."""
        for hook in self._hooks:
            hook.remove()
        self._before = None

    def __enter__(self) -> Self:
        """Nothing more: it works since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.remove()

    @torch.no_grad()
    def _before_step(self, *_: object) -> None:
        self._columns = self._columns.to(self._weight.device)
        self._before = self._weight.index_select(1, self._columns)

    @torch.no_grad()
    def _after_step(self, *_: object) -> None:
        if self._before is not None:
            after = self._weight.index_select(1, self._columns)
            self._weight.index_copy_(1, self._columns, torch.lerp(self._before, after, self.factor))
            self._before = None
