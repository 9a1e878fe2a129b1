"""The observations a gradient was computed on, and how many of them hold an open position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch.utils.hooks import RemovableHandle

    from gradscope.record.slices import SliceColumns

    Flat: TypeAlias = NDArray[np.float32]
    """One observation, flattened."""
    Resting: TypeAlias = Callable[[str], tuple[Flat, Flat] | None]
    """Key to the lowest and highest value each column has at rest; None where that is unknown."""

Observations: TypeAlias = "dict[str, torch.Tensor]"
"""[rows, *shape] by key; key "" for a plain space."""


class BatchWatch:
    """Keeps the last batch that entered one of the modules in training mode with gradients on.

    While it looks it hooks all modules of the process instead of the user's own ones: hooks kept
    in a module would travel into its pickles and copies.
    """

    def __init__(self, modules: Mapping[torch.nn.Module, Callable[[object], object]]) -> None:
        """``modules``: those observations enter by, and how their first argument becomes observations."""
        self._modules = {id(module): prepare for module, prepare in modules.items()}
        self._hook: RemovableHandle | None = None
        self.observations: Observations | None = None

    def look(self) -> None:
        """Start looking."""
        if self._hook is None:
            self._hook = register_module_forward_pre_hook(self._before_forward)

    def look_away(self) -> None:
        """Stop looking, and forget."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        self.observations = None

    def _before_forward(self, module: torch.nn.Module, arguments: tuple[object, ...]) -> None:
        prepare = self._modules.get(id(module))
        # Rollouts run without gradients, next observations too.
        if prepare is None or not arguments or not module.training or not torch.is_grad_enabled():
            return
        with torch.no_grad():
            seen = prepare(arguments[0])
            entries = seen if isinstance(seen, dict) else {"": seen}
            self.observations = {
                str(key): value.detach().clone()
                for key, value in entries.items()
                if isinstance(value, torch.Tensor)
            }


@dataclass(frozen=True, kw_only=True)
class PositionCounts:
    """Rows of a batch by what the slice ``position`` holds; None where that is not known."""

    num_rows: int | None = None
    num_active: int | None = None
    num_long: int | None = None
    num_short: int | None = None


def position_counts(
    observations: Observations | None, columns: SliceColumns | None, resting: Resting
) -> PositionCounts:
    """Rows where any column is away from rest, and of those named long or short."""
    if not observations:
        return PositionCounts()
    num_rows = len(next(iter(observations.values())))
    limits = None if columns is None else resting(columns.key)
    if columns is None or limits is None or columns.key not in observations:
        return PositionCounts(num_rows=num_rows)
    values = observations[columns.key].reshape(num_rows, -1)[:, list(columns.columns)]
    low, high = (torch.as_tensor(limit[list(columns.columns)]).to(values) for limit in limits)
    away = ((values < low) | (values > high)) & values.isfinite()
    groups = {"num_active": list(range(len(columns.columns)))}
    for word in ("long", "short"):
        groups[f"num_{word}"] = [i for i, name in enumerate(columns.names or ()) if word in name.lower()]
    known = {group: members for group, members in groups.items() if members}
    counts = torch.stack([away[:, members].any(1).sum() for members in known.values()]).tolist()
    return PositionCounts(num_rows=num_rows, **dict(zip(known, counts, strict=True)))
