"""Slices that nobody set: what stays constant at first and varies later is offered as ``position``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure import guess_slices, slice_values
from gradscope.run.recorded import POSITION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
    Selectors: TypeAlias = dict[str, tuple[str, ...]]

MAX_GUESSED_COLUMNS: Final = 65_536
"""Wider observations are images: their columns are no features to guess slices from."""
NO_SLICES: Final = "no slices are set, and"
TRY: Final = "; try --slice position=A:B"


def guessed(windows: Iterable[Mapping[str, Array]], length: int | None) -> tuple[Selectors, str]:
    """Columns of the newest bar that are constant in the earliest replay and vary later; else why none.

    Args:
        windows: rows of the replays by key, of one shape, in order of collection.
        length: bars of a flat observation.
    """
    extremes: list[Array] = []
    for window in windows:
        if set(window) != {""}:
            keys = ", ".join(window)
            why = f"{NO_SLICES} Dict observations are not guessed from; try --slice position=key:NAME"
            return {}, f"{why} ({keys})"
        if np.prod(window[""].shape[1:]) > MAX_GUESSED_COLUMNS:
            return {}, f"{NO_SLICES} images are not guessed from{TRY}"
        bars = slice_values(window, None, length)
        extremes.append(np.stack([bars.min(axis=0), bars.max(axis=0)]))
    if len(extremes) < 2:  # noqa: PLR2004 - earliest and later
        return {}, f"{NO_SLICES} guessing takes replay buffers of two steps or more{TRY}"
    guess = guess_slices(extremes)
    if guess:
        return {POSITION: guess}, ""
    return {}, f"{NO_SLICES} no column is constant early and varies later{TRY}"
