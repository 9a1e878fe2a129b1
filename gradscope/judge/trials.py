"""Whether a remedy helps: zeros with it against zeros without it, seed by seed."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.records import TrialVerdict
from gradscope.settings import BASELINE_MARGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

MARGIN: Final = BASELINE_MARGIN
"""Smallest difference of zero fractions that counts: as for a layer beyond a fresh network."""
CONFIDENCE: Final = 0.95
LEAST_SEEDS: Final = 2
ONE_SEED: Final = "one seed: no interval"


@dataclass(frozen=True, kw_only=True)
class TrialDifference:
    """Of zero fractions, with a remedy minus without."""

    difference: float
    interval: tuple[float, float] | None
    """95 % over seeds; None for one seed."""
    verdict: TrialVerdict


def trial_difference(without: Sequence[float], with_it: Sequence[float]) -> TrialDifference | None:
    """Paired by seed; the interval is Student's t of the differences.

    ``helps`` and ``harms`` where the interval leaves 0 out and the mean is at least MARGIN away from it;
    ``no effect`` where the whole interval lies within MARGIN; else, and with a single seed, ``unclear``.

    Args:
        without: zero fraction of each seed's training without the remedy, 0..1.
        with_it: the same with it, of the same seeds.

    Returns:
        None where there is no seed, or a fraction is not finite.

    Raises:
        ValueError: of different lengths.
    """
    pairs = list(zip(without, with_it, strict=True))
    if not pairs or not all(math.isfinite(each) for pair in pairs for each in pair):
        return None
    differences = [after - before for before, after in pairs]
    mean = statistics.fmean(differences)
    if len(pairs) < LEAST_SEEDS:
        return TrialDifference(difference=mean, interval=None, verdict=TrialVerdict.UNCLEAR)
    half = _quantile(len(pairs) - 1) * statistics.stdev(differences) / math.sqrt(len(pairs))
    interval = mean - half, mean + half
    return TrialDifference(difference=mean, interval=interval, verdict=_verdict(mean, interval))


def _verdict(mean: float, interval: tuple[float, float]) -> TrialVerdict:
    low, high = interval
    if high < 0 and mean <= -MARGIN:
        return TrialVerdict.HELPS
    if low > 0 and mean >= MARGIN:
        return TrialVerdict.HARMS
    return TrialVerdict.NO_EFFECT if low >= -MARGIN and high <= MARGIN else TrialVerdict.UNCLEAR


def _quantile(freedom: int) -> float:
    """Student's t, two-sided."""
    from scipy.special import stdtrit  # noqa: PLC0415  scipy.stats would take ten times as long to load

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
