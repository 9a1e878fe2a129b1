"""Seed by seed: the interval against scipy's paired t-test, and verdicts that can go both ways."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradscope.judge.trials import trial_difference
from gradscope.records import TrialVerdict

FRACTIONS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8)


@given(FRACTIONS)
def test_interval_is_that_of_a_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    without, with_it = (np.array(each) for each in zip(*pairs, strict=True))
    found = trial_difference(list(without), list(with_it))
    assert found is not None
    assert found.difference == pytest.approx(float(np.mean(with_it - without)), abs=1e-12)
    assert found.interval is not None
    if np.ptp(with_it - without) > 1e-6:
        expected = stats.ttest_rel(with_it, without).confidence_interval(0.95)
        assert found.interval == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("without", "with_it", "verdict"),
    [
        ([0.5, 0.55, 0.52], [0.02, 0.01, 0.03], TrialVerdict.HELPS),
        ([0.02, 0.01, 0.03], [0.5, 0.55, 0.52], TrialVerdict.HARMS),
        ([0.5, 0.55, 0.52], [0.5, 0.56, 0.52], TrialVerdict.NO_EFFECT),
        ([0.5, 0.1, 0.9], [0.1, 0.5, 0.2], TrialVerdict.UNCLEAR),
        # Sure, and too small to matter.
        ([0.50, 0.50, 0.50], [0.47, 0.47, 0.47], TrialVerdict.NO_EFFECT),
        ([0.5], [0.0], TrialVerdict.UNCLEAR),
    ],
)
def test_verdicts(without: list[float], with_it: list[float], verdict: TrialVerdict) -> None:
    found = trial_difference(without, with_it)
    assert found is not None
    assert found.verdict is verdict
    assert (found.interval is None) == (len(without) == 1)


def test_nothing_known_is_no_difference() -> None:
    assert trial_difference([], []) is None
    assert trial_difference([0.1, math.nan], [0.1, 0.2]) is None
    with pytest.raises(ValueError, match="zip"):
        trial_difference([0.1], [])
