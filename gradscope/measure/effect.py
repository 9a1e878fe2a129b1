"""Zeros with and without an intervention: how far apart, and how surely.

Intervals are percentiles of 2,000 bootstrap resamples of the batches (Efron & Tibshirani 1993, ch. 13), moved
outwards for few batches: ``alpha' = Phi(-sqrt(n / (n - 1)) t_{n-1}(1 - alpha / 2))`` makes up for the
bootstrap being narrow in small samples ("expanded percentile", Hesterberg 2015, Am. Statistician 69:4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from gradscope.settings import BASELINE_MARGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

NUM_RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
EFFECT_MARGIN: Final = BASELINE_MARGIN
"""Change of a zero fraction (0..1) that matters: what a layer must lose beyond a fresh network to count."""
LEAST_BATCHES: Final = 4
"""Below, no resampling tells how sure a mean is: of 3 batches there are 10 different resamples."""
ROUNDING: Final = 1e-12
EFFECT: Final = "effect"
NO_EFFECT: Final = "no effect"
UNCLEAR: Final = "unclear"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean zero fractions (0..1) over batches, and how they differ."""

    before: float
    after: float
    difference: float
    """After minus before."""
    interval: tuple[float, float] | None
    """95 % interval of ``difference``; None below LEAST_BATCHES batches."""
    verdict: str
    """effect, no effect, unclear."""


def effect(
    before: Sequence[float] | Floats,
    after: Sequence[float] | Floats,
    *,
    paired: bool = True,
    seed: int = 0,
    margin: float = EFFECT_MARGIN,
) -> Difference | None:
    """Change of the mean zero fraction over batches, with a bootstrap interval.

    Verdict: ``effect`` where the interval leaves 0 out and the difference is at least ``margin``;
    ``no effect`` where the whole interval lies within -margin..margin; else ``unclear``.

    Args:
        before: zero fraction of each batch without the intervention.
        after: with it.
        paired: whether batch i holds the same rows in both; else both are resampled on their own.
        seed: of the resamples.
        margin: smallest change that matters.

    Returns:
        None where a side has no batch, or a fraction that is not finite.

    Raises:
        ValueError: paired sides of different lengths.
    """
    one, other = (np.asarray(each, dtype=np.float64) for each in (before, after))
    if paired and len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} batches are no pairs")
    if not (len(one) and len(other)) or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    difference = float((other - one).mean()) if paired else float(other.mean() - one.mean())
    interval = _interval(one, other, paired=paired, seed=seed)
    return Difference(
        before=float(one.mean()),
        after=float(other.mean()),
        difference=difference,
        interval=interval,
        verdict=_verdict(difference, interval, margin),
    )


def _verdict(difference: float, interval: tuple[float, float] | None, margin: float) -> str:
    if interval is None:
        return UNCLEAR
    low, high = interval
    # Rounding must not decide: 0.25 - 0.2 is 0.04999... in floats.
    if abs(difference) >= margin - ROUNDING and (low > ROUNDING or high < -ROUNDING):
        return EFFECT
    return NO_EFFECT if -margin <= low and high <= margin else UNCLEAR


def _interval(one: Floats, other: Floats, *, paired: bool, seed: int) -> tuple[float, float] | None:
    num_batches = min(len(one), len(other))
    if num_batches < LEAST_BATCHES:
        return None
    draw = np.random.default_rng(seed)
    means = _resampled(other - one, draw) if paired else _resampled(other, draw) - _resampled(one, draw)
    tail = _tail(num_batches)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(values: Floats, draw: np.random.Generator) -> Floats:
    """Means of resamples of the batches."""
    means: Floats = values[draw.integers(0, len(values), (NUM_RESAMPLES, len(values)))].mean(axis=1)
    return means


def _tail(num_batches: int) -> float:
    """Share of resamples beyond each end of the interval."""
    from scipy.special import ndtr, stdtrit  # noqa: PLC0415  scipy.stats would take ten times as long to load

    wide = np.sqrt(num_batches / (num_batches - 1)) * stdtrit(num_batches - 1, (1 + CONFIDENCE) / 2)
    return float(ndtr(-wide))
