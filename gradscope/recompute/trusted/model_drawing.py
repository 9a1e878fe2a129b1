"""Which rows the loss of --model is given, and what is done to their observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.recompute.changes import RowKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.changes import Change

    Array = NDArray[Any]
    Arrays = Mapping[str, Array]

OBSERVATIONS: Final = "observations"
FOLLOWING: Final = "next_observations"
"""Names of a replay buffer's rows; a Dict observation's entries are ``observations.KEY``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelDrawing:
    """Which batches are drawn."""

    rows: Arrays
    num_batches: int
    batch_size: int
    seed: int
    takes_all: bool
    """Whether all rows, in file order, are the one batch."""
    change: Change | None = None
    """Done to observations and to those that follow them; which rows are drawn stays the same."""
    allowed: Array | None = None
    """Numbers of the rows to draw from, with replacement; None: all, without."""

    @property
    def numbers(self) -> Array:
        """Every row."""
        return np.arange(num_rows(self.rows))

    @property
    def kind(self) -> RowKind:
        """Rows as the file holds them."""
        return RowKind(are_one_batch=self.takes_all)

    def stored(self, numbers: Array) -> Arrays:
        """Observations by key, [rows, *shape]; empty where no entry is called so."""
        return entries({name: each[numbers] for name, each in self.rows.items()}, OBSERVATIONS)

    def seen(self, stored: Arrays) -> Arrays:
        """The loss function gets them as they are."""
        return stored

    def batch(self, rows: np.random.RandomState) -> Arrays:
        """The next batch by name."""
        if self.allowed is not None:
            chosen = rows.choice(self.allowed, self.batch_size)
        elif self.takes_all:
            return self.rows if self.change is None else self._changed(self.rows, self.numbers)
        else:
            chosen = rows.choice(num_rows(self.rows), self.batch_size, replace=False)
        drawn = {name: each[chosen] for name, each in self.rows.items()}
        return drawn if self.change is None else self._changed(drawn, chosen)

    def _changed(self, batch: Arrays, drawn: Array) -> Arrays:
        assert self.change is not None
        found = dict(batch)
        for name in (OBSERVATIONS, FOLLOWING):
            if parts := entries(batch, name):
                changed = self.change(parts, drawn)
                found |= {f"{name}.{key}" if key else name: each for key, each in changed.items()}
        return found


def num_rows(rows: Arrays) -> int:
    """Of the shortest entry."""
    return min((len(each) for each in rows.values()), default=0)


def entries(batch: Arrays, name: str) -> dict[str, Array]:
    """By key of the observation, "" for a plain one."""
    if name in batch:
        return {"": batch[name]}
    start = f"{name}."
    return {key.removeprefix(start): each for key, each in batch.items() if key.startswith(start)}
