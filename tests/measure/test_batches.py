from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradscope.measure import fraction_interval, summed, zero_count

if TYPE_CHECKING:
    from gradscope.records import ZeroCount


def counts_of(fractions: list[float], size: int = 1000) -> list[ZeroCount]:
    found = []
    for fraction in fractions:
        gradient = np.ones(size, np.float32)
        gradient[: round(fraction * size)] = 0
        found.append(zero_count(gradient, name="a.bias"))
    return found


def test_sums_and_means_over_batches_against_one_gradient_behind_the_other() -> None:
    draw = np.random.default_rng(0)
    batches = [draw.normal(size=(6, 5)).astype(np.float32) for _ in range(4)]
    for gradient in batches:
        gradient[:, 1] = 0
        gradient[2, :3] = 0
    batches[1][:] = 0
    batches[3][0, 0] = np.nan
    counts = [zero_count(each, name="a.weight") for each in batches]
    found = summed(counts)
    whole = np.stack(batches)
    assert found.num_elements == 30
    assert found.num_zero == np.count_nonzero(whole == 0)
    assert found.num_nonfinite == 1
    assert sum(asdict(found.anatomy).values()) == found.num_zero
    assert found.anatomy.whole_layer == 30
    norms = [np.linalg.norm(each[np.isfinite(each)].astype(np.float64)) for each in batches]
    assert found.norm == pytest.approx(np.mean(norms))
    assert found.max_abs == pytest.approx(np.mean([np.nanmax(np.abs(each)) for each in batches]))


def test_batches_without_a_finite_value_have_no_size_and_do_not_lower_the_mean() -> None:
    finite = zero_count(np.full(4, 2.0), name="a.bias")
    nothing = zero_count(np.full(4, np.nan), name="a.bias")
    assert summed([finite, nothing]).norm == pytest.approx(4.0)
    assert summed([nothing]).norm is None
    with pytest.raises(ValueError, match="no batch"):
        summed([])


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=12))
def test_the_interval_is_students(zeros: list[int]) -> None:
    fractions = [each / 1000 for each in zeros]
    found = fraction_interval(counts_of(fractions))
    assert found is not None
    if len(set(zeros)) == 1:
        assert found == pytest.approx((fractions[0], fractions[0]))
        return
    scale = stats.sem(fractions)
    low, high = stats.t.interval(0.95, len(fractions) - 1, loc=np.mean(fractions), scale=scale)
    assert found == pytest.approx((max(0, low), min(1, high)), abs=1e-9)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        found = fraction_interval(counts_of((draw.binomial(1000, 0.3, size=8) / 1000).tolist()))
        assert found is not None
        hits += found[0] <= 0.3 <= found[1]
    assert math.isclose(hits / 400, 0.95, abs_tol=0.03)


def test_one_batch_or_no_element_has_no_interval() -> None:
    assert fraction_interval(counts_of([0.5])) is None
    assert fraction_interval([zero_count(np.ones((0, 3)), name="a")] * 3) is None
