"""Fractions in words and tables, rounded one way everywhere."""

from __future__ import annotations

import math
from typing import Final

UNKNOWN: Final = "?"
"""What a screen shows for None."""
LEAST_SHOWN: Final = 0.001
"""Fractions below would print as 0.0 %, and as far from 1 as 100.0 %."""
_ROUNDING: Final = 1e-12
"""0.29 is 28.999... % in floats and still 29.0 %; far below one element's share."""


def percent(fraction: float | None, unknown: str = UNKNOWN) -> str:
    """0.2738 -> "27.4 %"; never rounded up to a whole percent: below a limit never looks like the limit."""
    if fraction is None:
        return unknown
    if 0 < fraction < LEAST_SHOWN:
        return "<0.1 %"
    if 1 - LEAST_SHOWN < fraction < 1:
        return ">99.9 %"
    rounded = round(1000 * fraction)
    if rounded % 10 == 0:
        rounded = math.floor(1000 * (fraction + _ROUNDING))
    return f"{rounded / 10:.1f} %"
