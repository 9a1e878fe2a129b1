"""Parts of the association test against slow oracles and known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import signal

from gradscope.measure import coincidence

SERIES = hnp.arrays(np.float64, st.integers(4, 25), elements=st.floats(-100, 100, width=32))


def noise(num_points: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=num_points)


@settings(deadline=None)
@given(SERIES)
def test_detrending_agrees_with_scipy(series: Any) -> None:
    assert coincidence.detrended(series) == pytest.approx(signal.detrend(series), abs=1e-6)
    assert np.array_equal(coincidence.detrended(series[None])[0], coincidence.detrended(series))


def test_a_straight_line_leaves_exactly_nothing() -> None:
    line = 0.1 + 0.003 * np.arange(777)
    assert not coincidence.detrended(line).any()
    assert not coincidence.detrended(line**2, 2).any()
    assert coincidence.detrended(line**2).any()


def test_shifted_correlations_agree_with_the_oracle() -> None:
    activity, layers = noise(31), noise(93, 1).reshape(3, 31)
    centred = layers - layers.mean(axis=1, keepdims=True)
    found = coincidence.shifted_correlations(activity - activity.mean(), centred)
    for shift in range(31):
        wanted = [oracles.shifted_correlation(activity, layer, shift) for layer in layers]
        assert found[:, shift] == pytest.approx(wanted)
    assert not coincidence.shifted_correlations(activity, np.zeros((1, 31))).any()


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=st.integers(-3, 3)))
def test_chances_agree_with_the_oracle(statistic: Any) -> None:
    alone, adjusted = coincidence.chances(statistic)
    assert adjusted == pytest.approx(oracles.step_down(statistic))
    assert alone == pytest.approx([(row >= row[0]).mean() for row in statistic])
    assert (adjusted >= alone).all()


def test_what_is_minus_infinite_is_pure_chance() -> None:
    alone, adjusted = coincidence.chances(np.array([[-math.inf, -math.inf], [3.0, 1.0]]))
    assert (alone.tolist(), adjusted.tolist()) == ([1, 0.5], [1, 0.5])


@settings(deadline=None)
@given(SERIES)
def test_the_change_of_level_agrees_with_the_oracle(series: Any) -> None:
    found = coincidence.level_change(series)
    if found is None:
        assert series.min() == series.max()
        return

    def left_over(place: int) -> float:
        return sum(float(((part - part.mean()) ** 2).sum()) for part in (series[:place], series[place:]))

    assert left_over(found) == pytest.approx(left_over(oracles.change_of_level(series)), rel=1e-6, abs=1e-6)


def test_the_onset_is_where_the_first_level_is_left_for_good() -> None:
    time = np.arange(400)
    steps = 0.09 + 0.1 * (time >= 200) + 0.15 * (time >= 240) + 0.25 * (time >= 290)
    assert coincidence.level_change(steps) not in {None, 200}
    assert coincidence.onset(steps) == 200
    assert coincidence.onset(steps + 0.01 * noise(400)) == pytest.approx(200, abs=1)
    dip = 0.09 - 0.04 * (time >= 200) + 0.4 * (time >= 300)
    assert coincidence.onset(dip) == 200
    ramp = np.clip((time - 200) / 100, 0, 1)
    assert coincidence.onset(ramp) == pytest.approx(202, abs=1)


@pytest.mark.parametrize(
    "series", [np.zeros(100), np.arange(100.0), noise(100), 5 * np.arange(100.0) + noise(100), noise(5)]
)
def test_noise_lines_and_constants_have_no_onset(series: Any) -> None:
    assert coincidence.onset(series) == coincidence.NO_ONSET


def test_closeness_counts_points_between_the_onsets_for_every_shift() -> None:
    found = coincidence.onset_closeness(3, np.array([5, -1]), 6)
    assert found[0].tolist() == [-2, -1, 0, -5, -4, -3]
    assert np.isneginf(found[1]).all()
    assert np.isneginf(coincidence.onset_closeness(-1, np.array([5]), 6)).all()


def test_effective_points_are_fewer_where_both_series_remember() -> None:
    phi, number = 0.9, 4000
    one, other = noise(number), noise(number, 1)
    assert coincidence.effective_points(one, other) == pytest.approx(number, rel=0.2)
    for series in (one, other):
        for place in range(1, number):
            series[place] += phi * series[place - 1]
    wanted = number * (1 - phi**2) / (1 + phi**2)
    assert coincidence.effective_points(one, other) == pytest.approx(wanted, rel=0.35)
