"""Units from counts and samples: known answers, slow oracles, properties."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gradscope.measure.units import (
    dormant_fractions,
    dormant_scores,
    effective_rank,
    num_cloned,
    unit_activity,
)

Array = np.ndarray[Any, Any]
NOISE = np.random.default_rng(3).normal(size=(64, 6)).astype(np.float32)
OUTPUTS = arrays(np.float32, (7, 4), elements=st.floats(-8, 8, width=16))


@dataclass(kw_only=True)
class Counts:
    """Written down by hand."""

    activation: str | None
    num_rows: int
    magnitude: Array
    is_flat: Array | None
    num_saturated: Array | None
    sample: Array
    outgoing_zero: Array | None = None
    outgoing_reason: str = "nothing takes them"
    layer: str = "net.0.weight"


def counts_of(outputs: Array, kind: str | None, slopes: Array | None = None, **more: Any) -> Counts:
    """Loops over rows and units."""
    rows, units = outputs.shape
    found = {name: np.zeros(units, int) for name in ("flat", "saturated")}
    sums = np.zeros(units)
    for row in range(rows):
        for unit in range(units):
            value = outputs[row, unit]
            sums[unit] += abs(float(value))
            is_flat = slopes is not None and slopes[row, unit] == 0
            found["flat"][unit] += is_flat
            found["saturated"][unit] += is_flat and value != 0
    return Counts(
        activation=kind,
        num_rows=rows,
        magnitude=sums,
        is_flat=None if slopes is None else found["flat"] == rows,
        num_saturated=None if slopes is None else found["saturated"],
        sample=outputs,
        **more,
    )


def relu(inputs: Array) -> Counts:
    return counts_of(np.maximum(inputs, 0), "ReLU", (inputs > 0).astype(float))


def test_a_dead_unit_is_told_from_a_small_one() -> None:
    inputs = np.abs(NOISE) + 1
    inputs[:, 2] = -1
    inputs[:, 4] /= 1000
    found = unit_activity(relu(inputs))
    assert found.dead == (2,)
    assert found.saturated == ()
    assert found.saturated_fraction == 0
    assert found.dormant_fractions == {"0": 1 / 6, "0.025": 2 / 6, "0.1": 2 / 6}
    assert found.num_rows == 64
    assert found.num_units == 6
    assert "no unit can saturate behind ReLU" in found.reasons["saturated"]
    assert "dead" not in found.reasons


def test_a_saturated_unit_is_told_from_a_constant_one() -> None:
    inputs = NOISE.copy()
    inputs[:, 1], inputs[:, 3] = 40, 0.5
    outputs = np.tanh(inputs, dtype=np.float32)
    found = unit_activity(counts_of(outputs, "Tanh", 1 - outputs * outputs))
    assert found.saturated == (1,)
    assert found.saturated_fraction == pytest.approx(1 / 6)
    assert found.dead == ()
    assert found.reasons["dead"].startswith("no unit can be dead behind Tanh")


def test_flat_on_every_row_is_dead_or_saturated_and_never_both() -> None:
    """ReLU6: 0 and 6 are both flat; a unit that is 6 on some row is no dead one."""
    outputs = np.array([[0, 0, 6, 6, 0], [0, 6, 6, 3, 3]], np.float32)
    slopes = ((outputs > 0) & (outputs < 6)).astype(float)
    found = unit_activity(counts_of(outputs, "ReLU6", slopes))
    assert (found.dead, found.saturated) == ((0,), (1, 2))
    assert found.saturated_fraction == 4 / 10


@pytest.mark.parametrize("kind", ["LeakyReLU", "PReLU", "ELU", "Tanh", "Softsign"])
def test_activations_behind_which_no_unit_can_be_dead(kind: str) -> None:
    zero = np.zeros((3, 2), np.float32)
    found = unit_activity(counts_of(zero, kind, np.ones((3, 2))))
    assert found.dead == ()
    assert f"no unit can be dead behind {kind}" in found.reasons["dead"]


def test_without_an_activation_nothing_is_dead_or_saturated() -> None:
    found = unit_activity(counts_of(NOISE, None))
    assert (found.dead, found.saturated, found.saturated_fraction) == ((), (), None)
    assert "no activation" in found.reasons["dead"]
    assert {"dead", "saturated", "saturated_fraction"} <= set(found.reasons)
    assert found.effective_rank is not None
    assert unit_activity(counts_of(NOISE, "LSTM")).reasons["dead"].startswith("slopes inside of LSTM")


def test_no_rows_and_values_that_are_not_finite_are_reasons() -> None:
    none = unit_activity(counts_of(np.empty((0, 3), np.float32), "ReLU", np.empty((0, 3))))
    for name in ("dead", "saturated", "dormant_fractions", "effective_rank", "num_cloned"):
        assert none.reasons[name] == "no rows"
    assert none.dormant_fractions == {}
    assert (none.saturated_fraction, none.effective_rank, none.num_cloned) == (None, None, None)
    inputs = np.abs(NOISE)
    inputs[3, 0] = np.nan
    inputs[:, 5] = -1
    lost = unit_activity(relu(inputs))
    assert lost.dead == (5,)
    assert lost.dormant_fractions == {}
    assert "1 units are not finite" in lost.reasons["dormant_fractions"]
    assert {"effective_rank", "num_cloned"} <= set(lost.reasons)


def test_weights_behind_a_unit() -> None:
    cut = counts_of(NOISE, None, outgoing_zero=np.array([0, 1, 0, 0, 1, 0], bool), outgoing_reason="")
    found = unit_activity(cut)
    assert found.outgoing_zero == (1, 4)
    assert "outgoing_zero" not in found.reasons
    assert unit_activity(counts_of(NOISE, None)).reasons["outgoing_zero"] == "nothing takes them"


def test_a_layer_that_gives_only_zeros_is_dormant_throughout() -> None:
    scores = dormant_scores(np.zeros(3), 5)
    assert not isinstance(scores, str)
    assert dormant_fractions(scores) == {"0": 1, "0.025": 1, "0.1": 1}
    assert effective_rank(np.zeros((4, 3))) == "all outputs are 0"
    assert num_cloned(np.zeros((4, 3))) == 0


@pytest.mark.parametrize(
    ("outputs", "rank"),
    [
        (np.eye(4), 4),
        (np.ones((5, 3)), 1),
        (np.diag([1e30, 1e30, 0]), 2),
        (np.diag([1e-30, 1e-30]), 2),
        (np.diag([3, 1]), math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))),
    ],
)
def test_effective_rank_of_known_matrices(outputs: Array, rank: float) -> None:
    assert effective_rank(outputs) == pytest.approx(rank)


def test_clones_are_equal_or_in_proportion() -> None:
    outputs = np.maximum(NOISE, 0)
    assert num_cloned(outputs) == 0
    copies = np.column_stack([outputs, outputs[:, 0], 3e-5 * outputs[:, 0], -0.7 * outputs[:, 1]])
    assert num_cloned(copies.astype(np.float32)) == 3
    near = np.column_stack([outputs, outputs[:, 0] * (1 + 1e-3 * np.sign(NOISE[:, 1]))])
    assert num_cloned(near.astype(np.float32)) == 0


def test_constant_and_rarely_active_units_are_no_clones() -> None:
    constant = np.tile(np.array([1, -1, 2], np.float32), (9, 1))
    assert num_cloned(constant) == 0
    rare = np.zeros((9, 2), np.float32)
    rare[4], rare[5] = (3, 6), (1, 2)
    assert num_cloned(rare) == 0


def slow_clones(outputs: Array) -> int:
    """Pair by pair: does one factor fit, to seven digits?"""
    units = [outputs[:, i].astype(float) for i in range(outputs.shape[1])]
    told = [u for u in units if len({x for x in u.tolist() if x}) >= 3]
    doubles = 0
    for place, one in enumerate(told):
        for other in told[:place]:
            top = int(np.abs(one).argmax())
            factor = other[top] / one[top]
            if factor and all(
                math.isclose(factor * a, b, abs_tol=1e-6) for a, b in zip(one, other, strict=True)
            ):
                doubles += 1
                break
    return doubles


@given(OUTPUTS)
@settings(max_examples=60, deadline=None)
def test_clones_as_found_pair_by_pair(outputs: Array) -> None:
    doubled = np.concatenate([outputs, outputs[:, 1:2] * 2], axis=1)
    assert num_cloned(doubled) == slow_clones(doubled)


@given(OUTPUTS)
@settings(max_examples=60, deadline=None)
def test_scores_and_rank_by_their_formulas(outputs: Array) -> None:
    units = outputs.shape[1]
    means = [sum(abs(float(x)) for x in outputs[:, i]) / len(outputs) for i in range(units)]
    scores = dormant_scores(np.abs(outputs.astype(float)).sum(0), len(outputs))
    assert not isinstance(scores, str)
    for unit in range(units):
        expected = means[unit] / (sum(means) / units) if sum(means) else 0
        assert scores[unit] == pytest.approx(expected)
    rank = effective_rank(outputs)
    if sum(means):
        gram = np.linalg.eigvalsh(outputs.astype(float) @ outputs.astype(float).T)
        values = np.sqrt(np.maximum(gram, 0))
        shares = values / values.sum()
        entropy = -sum(p * math.log(p) for p in shares if p > 0)
        assert rank == pytest.approx(math.exp(entropy), abs=1e-4)
        assert not isinstance(rank, str)
        assert 1 - 1e-9 <= rank <= 4 + 1e-9


@given(OUTPUTS, st.permutations(range(7)), st.permutations(range(4)))
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_and_units_changes_nothing(outputs: Array, rows: Any, units: Any) -> None:
    before = unit_activity(relu(outputs))
    after = unit_activity(relu(outputs[rows][:, units]))
    assert {units[unit] for unit in after.dead} == set(before.dead)
    assert after.num_cloned == before.num_cloned
    for tau, share in before.dormant_fractions.items():
        assert after.dormant_fractions[tau] == pytest.approx(share)
    if before.effective_rank is None:
        assert after.effective_rank is None
    else:
        assert after.effective_rank == pytest.approx(before.effective_rank)


@given(OUTPUTS, st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**30]))
@settings(max_examples=40, deadline=None)
def test_size_changes_nothing(outputs: Array, factor: float) -> None:
    """Powers of two round nothing."""
    before, after = unit_activity(relu(outputs)), unit_activity(relu(outputs * np.float32(factor)))
    assert (before.dead, before.dormant_fractions) == (after.dead, after.dormant_fractions)
    assert before.num_cloned == after.num_cloned
    assert (before.effective_rank or 0) == pytest.approx(after.effective_rank or 0)
