"""scale_slice_gradients: the gradient columns of a slice times a factor.

Helps: under SGD, where the slice then learns ``factor`` times as fast; and where one global norm is clipped,
because the slice takes up less of it.

Cannot help: under Adam and all that divide by their own second moment. A constant factor per element stands
above and below the fraction line and cancels: x10 and x0.1 gave the same updates but for ``eps`` (SCIENCE
section 7; the case tried it in vain). ``slice_learning_rate`` does there what was meant here.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import torch

from gradscope.errors import UsageError
from gradscope.remedy.columns import repeated_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.utils.hooks import RemovableHandle

    from gradscope.remedy.columns import Columns

SELF_SCALING: Final = ("adam", "rms", "adagrad", "adadelta", "adafactor", "rprop", "lamb", "lion", "sophia")
"""Parts of the names of optimizers that divide by their own second moment, or take the sign."""
_MATRIX: Final = 2
_CANCELS: Final = (
    "scale_slice_gradients: {} divides by its own second moment, where the constant factor {:g} cancels. "
    "Use gradscope.remedy.slice_learning_rate."
)


def scale_slice_gradients(
    weight: torch.nn.Module | torch.Tensor,
    columns: Columns,
    factor: float = 0.1,
    *,
    sequence_length: int | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> RemovableHandle:
    """Multiply the gradient of a slice's weights, from the next backward pass on.

    Helps under SGD, cannot help under Adam and its like (see this file's docstring).

    Args:
        weight: weight [out, in, ...] of the first layer, or a module with such a ``weight``.
        columns: the slice's columns of one bar, axis 1 of the weight.
        factor: of the gradient.
        sequence_length: bars of a flat input, oldest first; the columns of every bar are scaled.
        optimizer: the one that steps the weight. Pass it: only then can this warn.

    Returns:
        A handle; ``remove()`` ends it. Copies and pickles of the weight do not carry it.

    Raises:
        UsageError: no weight with two axes that gets gradients, wrong columns, or a negative factor.

    Warns:
        UserWarning: once, where the factor cancels in ``optimizer``.
    """
    parameter = weight_of(weight)
    if not parameter.requires_grad:
        raise UsageError("weight: it gets no gradient. Pass one that requires_grad.")
    check_factor(factor)
    scaled = _scaling(parameter, repeated_columns(columns, parameter.shape[1], sequence_length), factor)
    if optimizer is not None and is_self_scaling(optimizer):
        warnings.warn(_CANCELS.format(type(optimizer).__name__, factor), UserWarning, stacklevel=2)
    # A hook on the tensor sees each backward pass once; after accumulation it would scale again and again.
    handle: RemovableHandle = parameter.register_hook(scaled)  # type: ignore[no-untyped-call]
    return handle


def _scaling(
    weight: torch.Tensor, columns: Sequence[int], factor: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    factors = torch.ones(weight.shape[1]).index_fill(0, torch.tensor(columns), factor)
    factors = factors.reshape(-1, *[1] * (weight.dim() - _MATRIX))

    def scaled(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * factors.to(gradient)

    return scaled


def weight_of(weight: torch.nn.Module | torch.Tensor) -> torch.Tensor:
    """The parameter itself, or a module's ``weight``.

    Raises:
        UsageError: it is no tensor with an input axis.
    """
    found = getattr(weight, "weight", None) if isinstance(weight, torch.nn.Module) else weight
    if not isinstance(found, torch.Tensor) or found.dim() < _MATRIX:
        raise UsageError(f"{type(weight).__name__}: no weight [out, in, ...]. Pass a layer, or its weight.")
    return found


def check_factor(factor: float) -> None:
    """Let only finite factors from 0 on pass.

    Raises:
        UsageError: it is none.
    """
    if not 0 <= factor < float("inf"):
        raise UsageError(f"factor={factor}: not a finite number from 0 on. Try 0.1.")


def is_self_scaling(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a constant factor on the gradient cancels in it, as far as its name or its betas tell."""
    names = [each.__name__.lower() for each in type(optimizer).__mro__]
    return "betas" in optimizer.defaults or any(part in name for name in names for part in SELF_SCALING)
