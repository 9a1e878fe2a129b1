"""ActivityLearningRate: a lower learning rate while a slice is active."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import torch

from gradscope.errors import UsageError
from gradscope.remedy.columns import by_bar, checked_sequence_length, column_numbers
from gradscope.remedy.slice_gradients import check_factor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch.utils.hooks import RemovableHandle

    from gradscope.remedy.columns import Columns

_NUM_BAR_AXES: Final = 3


@dataclass(kw_only=True)
class _Step:
    """One optimizer's learning rates while it steps."""

    rates: Sequence[Any]
    """Of each group, before anyone lowered them."""
    lowered_by: set[int] = field(default_factory=set)


_STEPS: Final[WeakKeyDictionary[torch.optim.Optimizer, _Step]] = WeakKeyDictionary()
"""Shared, so that several of them on one optimizer multiply, and all is given back at once."""


class ActivityLearningRate:
    """Multiplies the learning rate of every step by ``factor`` while the slice is active.

    The rate is lowered as the optimizer begins to step and put back as it ends, so no scheduler,
    no ``_update_learning_rate`` of Stable-Baselines3 and no state dict ever sees the lowered one.

    Helps: softens the first updates after a quiet spell, which are too large under Adam (Adam-Rel, arXiv
    2412.17113); the case's third fix.

    Cannot help: a slower step in a wrong direction is still one: a scale mismatch is only met later; exact
    zeros stay, whatever the rate (SCIENCE section 7). Rprop takes no notice of the rate.

    Args:
        optimizers: one or several.
        factor: of the learning rate.
        columns: the slice's columns of one bar, for ``observe``. None: set ``is_active`` yourself.
        sequence_length: bars of a flat observation, oldest first; the newest is looked at.
        resting: value of the columns while inactive, one for all or one for each.
        threshold: least share of rows (0..1) with the slice active; at 0 one row is enough.

    Pickles and copies take optimizers and hooks along; state dicts of the optimizers do not know of it.

    Raises:
        UsageError: an argument is out of range, or there is no optimizer.
    """

    def __init__(
        self,
        optimizers: torch.optim.Optimizer | Iterable[torch.optim.Optimizer],
        factor: float = 0.5,
        *,
        columns: Columns | None = None,
        sequence_length: int | None = None,
        resting: float | Sequence[float] = 0.0,
        threshold: float = 0.0,
    ) -> None:
        check_factor(factor)
        if not 0 <= threshold <= 1:
            raise UsageError(f"threshold={threshold}: not within 0..1. It is a share of rows.")
        given = [optimizers] if isinstance(optimizers, torch.optim.Optimizer) else list(optimizers)
        self._optimizers = list({id(each): each for each in given}.values())
        if not self._optimizers:
            raise UsageError("optimizers: none given. Pass at least one.")
        self.factor, self.threshold = factor, threshold
        self.is_active = False
        self.active_fraction: float | None = None
        """Share of rows at the last ``observe``."""
        self._columns, self._resting = columns, resting
        self._sequence_length = checked_sequence_length(sequence_length)
        self._hooks: list[RemovableHandle] = []
        self._attach()

    def observe(self, observations: Any) -> float:
        """Look at observations, set ``is_active``, and return the share of active rows.

        Raises:
            UsageError: as ``fraction_in``.
        """
        fraction = self.fraction_in(observations)
        self.set_fraction(fraction)
        return fraction

    def fraction_in(self, observations: Any) -> float:
        """Share of rows with the slice active in their newest bar, 0 without rows; decides nothing.

        A value that is not finite is no activity. A tensor on a device is waited for.

        Args:
            observations: tensor or array [rows, features], [rows, bars, features], or flat.

        Raises:
            UsageError: no columns were given, or they do not fit.
        """
        values = torch.as_tensor(observations).detach()
        if self._columns is None:
            raise UsageError("columns: not given, so activity cannot be seen. Set is_active yourself.")
        bars = _newest_bars(values, self._sequence_length)
        chosen = bars[:, list(column_numbers(self._columns, bars.shape[1]))]
        resting = torch.as_tensor(self._resting, dtype=chosen.dtype, device=chosen.device)
        active = ((chosen != resting) & chosen.isfinite()).any(dim=1)
        return int(active.sum()) / max(len(active), 1)

    def set_fraction(self, fraction: float) -> None:
        """Decide by a share of active rows that was counted elsewhere."""
        self.active_fraction = fraction
        self.is_active = fraction > 0 and fraction >= self.threshold

    def state_dict(self) -> dict[str, Any]:
        """Whether the slice is active; all else is in the constructor's arguments."""
        return {"is_active": self.is_active, "active_fraction": self.active_fraction}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken."""
        self.is_active, self.active_fraction = bool(state["is_active"]), state["active_fraction"]

    def remove(self) -> None:
        """Leave no hook behind; a rate that a failed step left lowered is put back."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        for optimizer in self._optimizers:
            _put_back(optimizer)

    def __getstate__(self) -> dict[str, Any]:
        """Without hooks, which belong to this object alone."""
        return {**self.__dict__, "_hooks": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """On its own copies of the optimizers."""
        self.__dict__.update(state)
        self._attach()

    def _attach(self) -> None:
        for optimizer in self._optimizers:
            self._hooks.append(optimizer.register_step_pre_hook(self._before_step))
            self._hooks.append(optimizer.register_step_post_hook(_after_step))

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        step = _STEPS.get(optimizer)
        if step is not None and id(self) in step.lowered_by:
            # It was lowered here already, so the last step failed before its end.
            _put_back(optimizer)
        if not self.is_active:
            return
        step = _STEPS.setdefault(optimizer, _Step(rates=[group["lr"] for group in optimizer.param_groups]))
        step.lowered_by.add(id(self))
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * self.factor


def _after_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
    _put_back(optimizer)


def _put_back(optimizer: torch.optim.Optimizer) -> None:
    step = _STEPS.pop(optimizer, None)
    if step is not None:
        # A group added since then comes last, and was not lowered.
        for group, rate in zip(optimizer.param_groups, step.rates, strict=False):
            group["lr"] = rate


def _newest_bars(values: torch.Tensor, sequence_length: int | None) -> torch.Tensor:
    if values.dim() == _NUM_BAR_AXES:
        return values[:, -1]
    flat = values.reshape(len(values), -1)
    if sequence_length is None:
        return flat
    return by_bar(flat, flat.shape[1] // sequence_length, sequence_length)[:, -1]
