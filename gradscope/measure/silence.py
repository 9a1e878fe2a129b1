"""For how many updates Adam's two averages have received no gradient, from their ratio alone.

Adam (Kingma and Ba 2015, algorithm 1) keeps m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g^2. Write
w_j = (1 - b1) b1^j and u_j = (1 - b2) b2^j for the weights they give the gradient of j updates ago. After n
updates with a gradient and k without one,

    m^2 / v  =  (b1^2 / b2)^k  x  A(n),

where A(n), the ratio at the last gradient, depends on what the gradients were like:

- noise of mean 0:       sum w_j^2 / sum u_j  =  r^2 (1 - b1^(2n)) / (1 - b2^n),  r^2 = (1 - b1) / (1 + b1)
- one sign:              (sum w_j)^2 / sum u_j, without limit in n: 1
- signs that alternate:  |sum (-1)^j w_j|^2 / sum u_j, without limit in n: r^4
- any gradients at all:  at most sum w_j^2 / u_j, by Cauchy and Schwarz

Adam's defaults give r = 0.229. A stationary gradient of any spectrum lies between alternating and one sign,
because these are the least and the largest gain of the filter that makes m from g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

RARE: Final = 0.01
"""Chance that a single draw falls below what ``luck`` allows for."""
PRECISION: Final = 0.01
"""Updates to which a curve is solved."""
_HALVINGS: Final = 60


@dataclass(frozen=True, kw_only=True)
class Decay:
    """The two averages of an optimizer that has done ``num_updates`` updates; b1^2 < b2."""

    beta1: float
    beta2: float
    num_updates: int

    @property
    def per_update(self) -> float:
        """Natural logarithm by which m / sqrt(v) falls at an update without a gradient."""
        return math.log(self.beta2) / 2 - math.log(self.beta1)

    def noise(self, silent: float) -> float:
        """ln(m^2 / v) after ``silent`` updates without a gradient that followed gradients like noise."""
        active = self.num_updates - silent
        gain = (1 - self.beta1) / (1 + self.beta1)
        start = gain * _rest(self.beta1, 2 * active) / _rest(self.beta2, active)
        return math.log(start) - 2 * self.per_update * silent

    def most(self, silent: float) -> float:
        """The largest ln(m^2 / v) that any gradients could have left."""
        active = self.num_updates - silent
        share = self.beta1**2 / self.beta2
        start = (1 - self.beta1) ** 2 / (1 - self.beta2) * _rest(share, active) / (1 - share)
        return math.log(start) - 2 * self.per_update * silent

    def least(self, silent: float) -> float:
        """ln(m^2 / v) after gradients whose signs alternate, the least that stationary ones leave."""
        active = self.num_updates - silent
        gain = (1 - self.beta1) / (1 + self.beta1)
        start = (gain * _rest(self.beta1, active)) ** 2 / _rest(self.beta2, active)
        return math.log(start) - 2 * self.per_update * silent

    def luck(self, num_independent: int, chance: float = RARE) -> float:
        """Updates by which ``num_independent`` averages that happen to be small look silent too long.

        Chernoff: P(chi-square of n / n <= x) <= (x exp(1 - x))^(n / 2), solved for ``chance``.
        """
        return -_smallest(num_independent, chance) / 2 / self.per_update


@lru_cache(maxsize=1024)
def _smallest(num_independent: int, chance: float) -> float:
    """Logarithm of the x above."""
    wanted = 2 * math.log(chance) / num_independent
    low, high = wanted - 1, 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = middle + 1 - math.exp(middle) < wanted
        low, high = (middle, high) if below else (low, middle)
    return low


def solved(curve: Callable[[float], float], log_ratio: float, num_updates: int) -> float:
    """The k at which a curve of ``Decay`` has this ln(m^2 / v).

    All curves fall with k (since b1^2 < b2), so bisection finds it; 0 where the ratio is larger than at
    k = 0, all but one update where it is smaller than at any k.
    """
    low, high = 0.0, max(num_updates - 1.0, 0.0)
    if log_ratio >= curve(low):
        return low
    for _ in range(_HALVINGS):
        if high - low <= PRECISION:
            break
        middle = (low + high) / 2
        low, high = (middle, high) if curve(middle) > log_ratio else (low, middle)
    return high


def _rest(base: float, power: float) -> float:
    """1 - base^power."""
    return -math.expm1(power * math.log(base))
