"""Effects against slow oracles, their properties, and how often nothing is called an effect."""

from __future__ import annotations

from statistics import NormalDist, fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradscope.measure.effect import EFFECT_MARGIN, LEAST_BATCHES, effect

FRACTIONS = st.lists(st.floats(0, 1), min_size=4, max_size=12)


def slow_interval(changes: list[float], seed: int = 0) -> tuple[float, float]:
    """The expanded percentile interval, written down from Hesterberg 2015."""
    num = len(changes)
    wide = (num / (num - 1)) ** 0.5 * stats.t.ppf(0.975, num - 1)
    tail = NormalDist().cdf(-wide)
    draw = np.random.default_rng(seed)
    picks = draw.integers(0, num, (2000, num))
    means = sorted(fmean(changes[at] for at in row) for row in picks)
    return tuple(float(np.quantile(means, at)) for at in (tail, 1 - tail))  # type: ignore[return-value]


def test_interval_is_hesterbergs() -> None:
    draw = np.random.default_rng(3)
    before, after = draw.uniform(0.2, 0.4, 8), draw.uniform(0.5, 0.6, 8)
    found = effect(before, after)
    assert found is not None
    assert found.interval == pytest.approx(slow_interval((after - before).tolist()), abs=1e-12)
    assert found.difference == pytest.approx(after.mean() - before.mean())
    assert (found.before, found.after) == pytest.approx((before.mean(), after.mean()))
    assert found.verdict == "effect"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([1.0] * 8, [1.0] * 8, "no effect"),
        ([0.5] * 8, [0.5 - EFFECT_MARGIN] * 8, "effect"),
        ([0.5] * 8, [0.5 - 0.9 * EFFECT_MARGIN] * 8, "no effect"),
        ([0.0, 1.0] * 4, [1.0, 0.0] * 4, "unclear"),
        ([0.5] * 3, [0.0] * 3, "unclear"),
    ],
)
def test_known_verdicts(before: list[float], after: list[float], verdict: str) -> None:
    found = effect(before, after)
    assert found is not None
    assert found.verdict == verdict
    assert (found.interval is None) == (len(before) < LEAST_BATCHES)


def test_nothing_to_compare_is_none() -> None:
    assert effect([], []) is None
    assert effect([0.1] * 8, [0.1] * 7 + [float("nan")]) is None
    with pytest.raises(ValueError, match="no pairs"):
        effect([0.1] * 8, [0.1] * 7)
    assert effect([0.1] * 8, [0.3] * 7, paired=False) is not None


@given(FRACTIONS, st.randoms(use_true_random=False))
def test_changing_sides_changes_the_sign(before: list[float], random: Any) -> None:
    after = [random.random() for _ in before]
    there, back = effect(before, after), effect(after, before)
    assert there is not None
    assert back is not None
    assert there.difference == pytest.approx(-back.difference)
    assert there.interval is not None
    assert there.interval[0] - 1e-9 <= there.difference <= there.interval[1] + 1e-9
    assert -1 <= there.difference <= 1


@given(FRACTIONS)
def test_what_stays_is_no_effect(before: list[float]) -> None:
    found = effect(before, before)
    assert found is not None
    assert found.interval == (0, 0)
    assert found.verdict == "no effect"


def simulated(
    shift: float, *, paired: bool, spread: float = 0.03, num: int = 8, trials: int = 400
) -> list[Any]:
    """Batches that differ among themselves, and by ``shift`` with the intervention."""
    draw = np.random.default_rng(1)
    results = []
    for _ in range(trials):
        common = draw.normal(0.4, 0.05, num)
        before = common + draw.normal(0, spread, num)
        base = common if paired else draw.normal(0.4, 0.05, num)
        results.append(effect(before, base + shift + draw.normal(0, spread, num), paired=paired))
    return results


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_cover_and_false_alarms_are_rare(paired: bool) -> None:
    found = simulated(0.0, paired=paired)
    covered = np.mean([each.interval[0] <= 0 <= each.interval[1] for each in found])
    alarms = np.mean([each.verdict == "effect" for each in found])
    # By design 5 % of intervals leave 0 out; the margin makes fewer of them effects.
    assert covered >= 0.92
    assert alarms <= (0.0 if paired else 0.03)
    large = simulated(-0.4, paired=paired, trials=100)
    assert all(each.verdict == "effect" for each in large)


def test_pairing_makes_sure_of_small_changes() -> None:
    paired, alone = (simulated(-0.06, paired=each, spread=0.005, trials=100) for each in (True, False))
    width = [np.mean([each.interval[1] - each.interval[0] for each in found]) for found in (paired, alone)]
    assert width[0] < width[1] / 3
