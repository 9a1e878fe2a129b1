"""Numbers of a file as float32; what is too large for it becomes infinite without a word from numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def single(array: NDArray[Any]) -> NDArray[np.float32]:
    """The elements as float32; the array itself where they are."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)
