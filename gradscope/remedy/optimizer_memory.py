"""What an optimizer remembers of single rows or columns, and how it forgets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from gradscope.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

MOMENTS: Final = (
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "momentum_buffer",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "sum",
)
"""Entries of torch's optimizers that hold one number per weight, made of its past gradients."""
STARTS_AT_ONE: Final = {("RMSpropTFLike", "square_avg")}
"""Stable-Baselines3's RMSprop for A2C; every other moment starts at 0."""


def forget(
    optimizer: torch.optim.Optimizer,
    changed: Sequence[tuple[torch.Tensor, int, torch.Tensor]],
    *,
    reset_step: bool = True,
) -> None:
    """Set the moments of single rows or columns to what they are in a fresh optimizer, in place.

    Args:
        optimizer: whose memory it is.
        changed: parameter, axis, and the numbers along that axis.
        reset_step: also count the steps of these parameters from 0, which bias correction needs. (NAdam's
            ``mu_product`` goes with the step.)

    Raises:
        UsageError: the optimizer does not step one of the parameters.
    """
    stepped = {id(each) for group in optimizer.param_groups for each in group["params"]}
    for parameter, _, _ in changed:
        if id(parameter) not in stepped:
            message = (
                f"a weight {list(parameter.shape)}: {type(optimizer).__name__} does not step it. "
                "Pass the optimizer of these layers."
            )
            raise UsageError(message)
    for parameter, axis, numbers in changed:
        # Not through [..]: that would make an entry for a parameter that has none.
        state = optimizer.state.get(parameter, {})
        _forget_moments(type(optimizer).__name__, state, parameter, axis, numbers)
        if reset_step:
            _restart(state)


def _forget_moments(
    optimizer: str, state: dict[str, Any], parameter: torch.Tensor, axis: int, numbers: torch.Tensor
) -> None:
    for name in MOMENTS:
        moment = state.get(name)
        if isinstance(moment, torch.Tensor) and moment.shape == parameter.shape:
            start = 1.0 if (optimizer, name) in STARTS_AT_ONE else 0.0
            moment.index_fill_(axis, numbers.to(moment.device), start)


def _restart(state: dict[str, Any]) -> None:
    for name, start in (("step", 0), ("mu_product", 1)):
        value = state.get(name)
        if isinstance(value, torch.Tensor):
            value.fill_(start)
        elif value is not None:
            state[name] = start
