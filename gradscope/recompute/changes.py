"""Interventions on the inputs of drawn rows: which rows and which noise are drawn stays as it was.

A change is made after VecNormalize and before the network's own preprocessing, in observations and in those
that follow them alike. What chance it needs comes from the numbers of the drawn rows, not from the stream
that draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Arrays = Mapping[str, Array]


class Change(Protocol):
    """What is done to the observations of one batch."""

    def __call__(self, observations: Arrays, drawn: Array) -> Arrays:
        """Changed copies of [rows, *shape] by key; ``drawn`` holds the number of each row."""


@dataclass(frozen=True, kw_only=True)
class RowKind:
    """What the rows are that batches are drawn from."""

    are_normalised: bool = False
    """Whether VecNormalize, where the run has one, has already changed them."""
    are_sequences: bool = False
    """Whether only neighbouring rows can be drawn."""
    are_one_batch: bool = False
    """Whether one batch holds all of them: every further one would be the same."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Where a slice lies in one entry of the observation, in all its bars."""

    key: str
    where: NDArray[np.bool_]
    """Of the observation's shape."""

    def of(self, observations: Arrays) -> Array:
        """The slice's values, [rows, columns of all bars]."""
        values: Array = observations[self.key][:, self.where]
        return values

    def put(self, observations: Arrays, values: Array) -> Arrays:
        """Observations with other values in the slice, [columns] or [rows, columns], in a copy."""
        changed = observations[self.key].copy()
        changed[:, self.where] = np.asarray(values).astype(changed.dtype, copy=False)
        return {**observations, self.key: changed}


def flat(columns: Columns, values: Array) -> Change:
    """The slice at the same ``values``, [columns of all bars], on every row."""

    def change(observations: Arrays, drawn: Array) -> Arrays:
        del drawn
        return columns.put(observations, values)

    return change


def permuted(columns: Columns, seed: int) -> Change:
    """The slice of another row of the batch on each row, all its columns and bars together."""

    def change(observations: Arrays, drawn: Array) -> Arrays:
        # The same for a row and the one that follows it: both get the slice of one other transition.
        order = np.random.default_rng([seed, *drawn.tolist()]).permutation(len(drawn))
        return columns.put(observations, columns.of(observations)[order])

    return change


def rescaled(columns: Columns, factors: Array) -> Change:
    """The slice times ``factors``, [columns of all bars]."""

    def change(observations: Arrays, drawn: Array) -> Arrays:
        del drawn
        return columns.put(observations, columns.of(observations) * factors)

    return change
