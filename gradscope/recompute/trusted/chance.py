"""Chance that the user's code meets: the process's generators, set to ours for a while.

Dropout and the like draw from the global generators, between the draws of our own losses. For the
library's order of draws both must come from one stream.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMPY: Final = np.random.mtrand._rand  # noqa: SLF001  numpy's global state, which user code draws from


@contextmanager
def borrowed(noise: torch.Generator, rows: np.random.RandomState | None = None) -> Iterator[torch.Generator]:
    """Global generators in the state of ours; what is drawn from them goes on in ours afterwards.

    Args:
        noise: becomes torch's global generator, which is what the block is given to draw from.
        rows: becomes numpy's global one. Python's own is seeded as ``noise`` was.
    """
    kept = torch.get_rng_state(), _NUMPY.get_state(), random.getstate()
    try:
        torch.set_rng_state(noise.get_state())
        random.seed(noise.initial_seed())
        if rows is not None:
            _NUMPY.set_state(rows.get_state())
        yield torch.default_generator
        noise.set_state(torch.get_rng_state())
        if rows is not None:
            rows.set_state(_NUMPY.get_state())
    finally:
        torch.set_rng_state(kept[0])
        _NUMPY.set_state(kept[1])
        random.setstate(kept[2])
