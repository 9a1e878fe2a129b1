"""Distances between two samples against scipy and the slow oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats

from gradscope.measure.distance import distances, root_mean_square, sample
from gradscope.measure.significance import correlation_time, holm, ks_p_value
from gradscope.measure.slices import resting_values

VALUES = st.one_of(st.sampled_from([0.0, 0.0, 1.0, -2.0]), st.floats(-1e6, 1e6, width=32))


def column(size: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return hnp.arrays(np.float64, size, elements=VALUES)


def between(reference: Any, current: Any) -> Any:
    reference, current = np.asarray(reference, float), np.asarray(current, float)
    resting = resting_values(reference.reshape(len(reference), -1))
    one, other = (sample(each.reshape(len(each), -1)) for each in (reference, current))
    return distances(one, other, resting)


@settings(max_examples=200, deadline=None)
@given(column(st.integers(1, 30)), column(st.integers(1, 30)))
def test_distances_agree_with_scipy_and_the_oracle(reference: Any, current: Any) -> None:
    found = between(reference, current)
    resting = oracles.resting_value(reference.tolist())
    psi = oracles.stability_index(reference.tolist(), current.tolist(), resting)
    assert found.ks[0] == pytest.approx(stats.ks_2samp(reference, current, method="asymp").statistic)
    assert found.psi[0] == pytest.approx(psi, abs=1e-12)
    varies = reference.min() < reference.max()
    assert bool(found.pooled[0]) == (not varies and set(reference) != set(current))
    deviation = reference.std()
    if varies and deviation > 1e-6 * np.abs(reference).max():
        wanted = stats.wasserstein_distance(reference, current) / deviation
        assert found.wasserstein[0] == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_a_constant_reference_is_measured_in_pooled_deviations() -> None:
    current = np.array([0.0, 0.0, 3.0, 5.0])
    found = between(np.zeros(7), current)
    mixed = math.sqrt(current.std() ** 2 / 2 + current.mean() ** 2 / 4)
    assert found.wasserstein[0] == pytest.approx(current.mean() / mixed)
    assert found.pooled[0]
    more = between(np.zeros(7000), current)
    assert more.wasserstein[0] == pytest.approx(found.wasserstein[0], rel=1e-12)


def test_two_constants_are_0_apart_where_equal_and_2_where_not() -> None:
    found = between([[1.0, 1.0]] * 5, [[1.0, 4.0]] * 9)
    assert found.wasserstein.tolist() == [0, 2]
    assert found.ks.tolist() == [0, 1]
    assert found.pooled.tolist() == [False, True]


@pytest.mark.parametrize("size", [1e300, 1e-300, 1.0])
def test_the_unit_of_a_column_does_not_matter(size: float) -> None:
    draw = np.random.default_rng(0)
    reference, current = draw.normal(size=60), draw.normal(1, 2, size=40)
    found, wanted = between(reference * size, current * size), between(reference, current)
    assert found.wasserstein[0] == pytest.approx(wanted.wasserstein[0])
    assert found.ks[0] == wanted.ks[0]


def test_values_that_are_not_finite_are_left_out() -> None:
    draw = np.random.default_rng(0)
    reference, current = draw.normal(size=(40, 3)), draw.normal(size=(50, 3))
    spoiled = current.copy()
    spoiled[:5, 1] = [math.nan, math.inf, -math.inf, math.nan, math.inf]
    spoiled[:, 2] = math.nan
    found, wanted = between(reference, spoiled), between(reference[:, 1], current[5:, 1])
    for key in ("wasserstein", "ks", "psi"):
        assert getattr(found, key)[1] == pytest.approx(getattr(wanted, key)[0])
        assert math.isnan(getattr(found, key)[2])
    assert math.isnan(found.p_value[2])


def test_a_window_without_rows_has_no_distances() -> None:
    empty, filled = sample(np.zeros((0, 2))), sample(np.zeros((4, 2)))
    found = distances(empty, filled, np.zeros(2))
    for values in (found.wasserstein, found.ks, found.psi, found.p_value):
        assert np.isnan(values).all()


@settings(deadline=None)
@given(hnp.arrays(np.float64, (7, 3), elements=VALUES), st.permutations(range(7)))
def test_the_order_of_rows_matters_only_to_the_p_value(values: Any, order: Any) -> None:
    current = values + 1
    one, other = between(values, current), between(values[order], current[order[::-1]])
    for key in ("wasserstein", "ks", "psi"):
        assert np.array_equal(getattr(one, key), getattr(other, key))


@given(hnp.arrays(np.float64, 3, elements=st.floats(0, 1)), st.integers(1, 500), st.integers(1, 500))
def test_the_p_value_is_kolmogorovs(ks: Any, rows: int, rows_current: int) -> None:
    ones = np.ones(3)
    found = ks_p_value(
        ks, (ones.astype(int) * rows, ones.astype(int) * rows_current), (ones, ones * math.nan)
    )
    root = math.sqrt(rows * rows_current / (rows + rows_current))
    assert found == pytest.approx(special.kolmogorov((root + 0.12 + 0.11 / root) * ks), abs=1e-9)


def _chain(draw: np.random.Generator, phi: float, rows: int, columns: int) -> Any:
    noise = draw.normal(size=(rows + 300, columns))
    for row in range(1, len(noise)):
        noise[row] += phi * noise[row - 1]
    return noise[300:]


def test_the_autocorrelation_time_of_a_chain_is_found() -> None:
    draw = np.random.default_rng(0)
    for phi in (0.0, 0.5, 0.9):
        times = correlation_time(_chain(draw, phi, 4000, 20).T)
        assert np.median(times) == pytest.approx((1 + phi) / (1 - phi), rel=0.15)
    assert np.isnan(correlation_time(np.ones((2, 50)))).all()


def test_dependent_rows_do_not_raise_the_alarm() -> None:
    draw = np.random.default_rng(0)
    found = between(_chain(draw, 0.9, 1000, 400), _chain(draw, 0.9, 1000, 400))
    assert (found.p_value < 0.05).mean() < 0.08
    naive = stats.kstwo.sf(found.ks, 500)
    assert (naive < 0.05).mean() > 0.5


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_the_oracle(p_values: list[float]) -> None:
    assert holm(np.array(p_values)).tolist() == pytest.approx(oracles.holm(p_values))


def test_holm_leaves_out_what_is_not_known() -> None:
    found = holm(np.array([[0.01, math.nan], [0.04, 0.9]]))
    assert found[0, 0] == pytest.approx(0.03)
    assert found[1].tolist() == pytest.approx([0.08, 0.9])
    assert math.isnan(found[0, 1])


def test_rms_is_of_finite_values_and_does_not_overflow() -> None:
    values = np.array([[3e200, 1.0, math.nan, 0.0], [4e200, math.nan, math.inf, 0.0]])
    found = root_mean_square(values)
    assert found[:2] == pytest.approx([5e200 / math.sqrt(2), 1.0])
    assert math.isnan(found[2])
    assert found[3] == 0
