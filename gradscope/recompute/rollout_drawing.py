"""Which mini-batches of a rollout are drawn, and which cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.recompute.changes import RowKind
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.on_policy import A2C, RECURRENT
from gradscope.recompute.rollout_checks import number_of
from gradscope.settings import MAX_SEED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.changes import Change
    from gradscope.records import Rollout

    Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class RolloutDrawing:
    """Which mini-batches are drawn."""

    rollout: Rollout
    observations: Mapping[str, Array]
    """The rollout's, read once."""
    num_batches: int
    batch_size: int
    seed: int
    """As given to set_random_seed: numpy's."""
    change: Change | None = None
    """Done to what the policy sees; which rows are drawn stays the same."""
    allowed: Array | None = None
    """Numbers of the rows to draw from, with replacement; None: all, each once an epoch."""
    states: Mapping[str, Array] = field(default_factory=dict)
    """A recurrent policy's before each step, [steps, layers, environments, units], read once."""

    @property
    def num_rows(self) -> int:
        """Steps x environments."""
        return num_rows(self.rollout)

    @property
    def numbers(self) -> Array:
        """Every row, counted environment by environment."""
        return np.arange(self.num_rows)

    @property
    def kind(self) -> RowKind:
        """Rows as the policy saw them."""
        return RowKind(
            are_normalised=True,
            are_sequences=self.rollout.algorithm == RECURRENT,
            are_one_batch=self.batch_size == self.num_rows,
        )

    def stored(self, numbers: Array) -> Mapping[str, Array]:
        """Observations as the policy saw them, [rows, *shape]."""
        where = places(self, numbers)
        return {key: array[where] for key, array in self.observations.items()}

    def seen(self, stored: Mapping[str, Array]) -> Mapping[str, Array]:
        """They were stored after VecNormalize."""
        return stored

    def inputs(self, stored: Mapping[str, Array], rows: Array) -> Mapping[str, Array]:
        """What the policy sees of the drawn rows, changed where that is asked for."""
        return stored if self.change is None else self.change(stored, rows)


def num_rows(rollout: Rollout) -> int:
    """Steps x environments."""
    return int(np.prod(rollout.actions.shape[:2]))


def rollout_drawing(
    rollout: Rollout, num_batches: int, batch_size: int | None, seed: int
) -> tuple[RolloutDrawing, dict[str, str]]:
    """What is drawn, and what is not as one might think.

    Raises:
        Mismatch: such batches cannot be drawn.
    """
    rows, reasons = num_rows(rollout), {}
    size = _batch_size(rollout, batch_size)
    if num_batches < 1 or not 1 <= size <= rows:
        raise Mismatch(f"{num_batches} batches of {size} rows cannot be drawn from a rollout of {rows}")
    if not 0 <= seed <= MAX_SEED:
        raise Mismatch(f"the seed must be between 0 and {MAX_SEED}, not {seed}")
    if size == rows and num_batches > 1:
        num_batches = 1
        reasons["batches"] = f"one batch holds the whole rollout of {rows} rows"
    elif rows % size:
        reasons["batch_size"] = f"the smaller batch of {rows % size} rows that ends an epoch is left out"
    drawing = RolloutDrawing(
        rollout=rollout,
        observations=dict(rollout.observations),
        num_batches=num_batches,
        batch_size=size,
        seed=seed,
        states=dict(rollout.lstm_states) if rollout.algorithm == RECURRENT else {},
    )
    return drawing, reasons


def _batch_size(rollout: Rollout, asked: int | None) -> int:
    rows = num_rows(rollout)
    if rollout.algorithm == A2C:
        if asked not in {None, rows}:
            raise Mismatch(f"A2C trains on its whole rollout of {rows} rows at once, not on {asked}")
        return rows
    # The library draws one smaller batch where its own is larger than the rollout.
    return int(min(number_of(rollout, "batch_size"), rows)) if asked is None else asked


def whole_batches(drawing: RolloutDrawing) -> int:
    """Mini-batches of an epoch that have their full size."""
    return drawing.num_rows // drawing.batch_size


def epoch_order(drawing: RolloutDrawing, draw: np.random.RandomState) -> Array:
    """Numbers of all rows as one epoch goes through them.

    Sequences keep their order and are split once, at random: sb3_contrib/common/recurrent/buffers.py.
    """
    if drawing.states:
        return np.roll(drawing.numbers, -draw.randint(drawing.num_rows))
    return draw.permutation(drawing.num_rows)


def places(drawing: RolloutDrawing, rows: Array) -> tuple[Array, Array]:
    """Step and environment of rows that are counted environment by environment."""
    steps = drawing.rollout.actions.shape[0]
    return rows % steps, rows // steps
