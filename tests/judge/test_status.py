"""Status of layers and snapshots and the crossings, with the case's own figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.judge import crossings, layer_status, snapshot_status
from gradscope.measure import unexpected_fraction, zero_count
from gradscope.records import LayerGradient, Origin, SnapshotGradient, Status, ZeroAnatomy
from gradscope.settings import Limits, Settings

LIMITS = Limits()
PROJECTION = "actor.features_extractor.temporal_projection.weight"
CASE = {2000: 866, 4000: 866, 6000: 5367, 8000: 12808}


def layer(num_zero: int | None, size: int = 100, **changes: Any) -> LayerGradient:
    values: dict[str, Any] = {
        "name": "w",
        "shape": (size,),
        "dtype": "float32",
        "origin": Origin.STORED,
        "num_elements": size,
        "num_zero": num_zero,
        "num_nonfinite": None if num_zero is None else 0,
        "zero_fraction": None if num_zero is None else num_zero / size,
        "anatomy": None if num_zero is None else ZeroAnatomy(dead_unit=num_zero),
    }
    return LayerGradient(**(values | changes))


def snapshot(step: int | None, *layers: LayerGradient, run: str = ".", **changes: Any) -> SnapshotGradient:
    values: dict[str, Any] = {
        "run": run,
        "step": step,
        "step_from": "name",
        "source": f"{step}.zip",
        "gradient_source": None,
        "format": "sb3",
        "origin": Origin.STORED,
        "layers": layers,
    }
    return SnapshotGradient(**(values | changes))


def found(*snapshots: SnapshotGradient, **settings: Any) -> list[tuple[str, str, int | None]]:
    return [(each.layer, each.limit, each.step) for each in crossings(snapshots, Settings(**settings))]


@pytest.mark.parametrize(
    ("fraction", "baseline", "status"),
    [
        (None, None, Status.UNKNOWN),
        (None, 0.1, Status.UNKNOWN),
        (0.0, None, Status.OK),
        (0.0999, None, Status.OK),
        (0.1, None, Status.WARN),
        (0.25, None, Status.CRITICAL),
        (0.5, None, Status.COLLAPSE),
        (1.0, None, Status.COLLAPSE),
        (0.45, 0.45, Status.OK),
        (0.49, 0.45, Status.OK),
        (0.25, 0.20, Status.CRITICAL),
        (0.30, 0.25, Status.CRITICAL),
        (0.2999, 0.25, Status.OK),
        (0.55, 0.0, Status.COLLAPSE),
    ],
)
def test_a_layer_reaches_a_limit_and_leaves_its_baseline(
    fraction: float | None, baseline: float | None, status: Status
) -> None:
    assert layer_status(fraction, baseline, LIMITS) is status


@given(st.integers(1, 10**6), st.data())
def test_a_limit_reached_exactly_counts(size: int, data: Any) -> None:
    zeros = data.draw(st.integers(1, size))
    limit = zeros / size
    limits = Limits(warn=limit, critical=limit, collapse=1.0)
    assert layer_status(zeros / size, None, limits) in {Status.CRITICAL, Status.COLLAPSE}
    assert layer_status((zeros - 1) / size, None, limits) is Status.OK


@given(st.floats(0, 1), st.floats(0, 1), st.none() | st.floats(0, 1))
def test_more_zeros_are_never_better(one: float, other: float, baseline: float | None) -> None:
    low, high = (layer_status(each, baseline, LIMITS).rank for each in sorted((one, other)))
    assert low <= high


def test_the_cases_figures() -> None:
    draw = np.random.default_rng(0)
    snapshots, percents, statuses = [], [], []
    for step, num_zero in CASE.items():
        gradient = draw.uniform(1, 2, size=(128, 153)).astype(np.float32)
        gradient.flat[draw.choice(gradient.size, num_zero, replace=False)] = 0
        count = zero_count(gradient, name=PROJECTION)
        status = layer_status(unexpected_fraction(count), None, LIMITS)
        one = layer(count.num_zero, count.num_elements, name=PROJECTION, status=status, anatomy=count.anatomy)
        assert snapshot_status([one]) is status
        percents.append(round(100 * count.num_zero / count.num_elements, 1))
        statuses.append(status.value)
        snapshots.append(snapshot(step, one))
    assert percents == [4.4, 4.4, 27.4, 65.4]
    assert statuses == ["ok", "ok", "critical", "collapse"]
    first = crossings(snapshots, Settings())
    assert [(each.layer, each.limit, each.step, round(each.zero_fraction, 3)) for each in first] == [
        (PROJECTION, "critical", 6000, 0.274),
        ("*", "critical", 6000, 0.274),
        (PROJECTION, "warn", 6000, 0.274),
        ("*", "warn", 6000, 0.274),
        (PROJECTION, "collapse", 8000, 0.654),
        ("*", "collapse", 8000, 0.654),
    ]


def test_small_layers_do_not_decide_a_snapshot() -> None:
    big = layer(5, 9901, status=Status.OK)
    small = layer(99, 99, status=Status.COLLAPSE)
    assert snapshot_status([big, small]) is Status.OK
    assert snapshot_status([layer(5, 9900, status=Status.OK), layer(100, 100, status=Status.COLLAPSE)]) is (
        Status.COLLAPSE
    )


def test_layers_without_gradient_hold_no_share() -> None:
    judged = layer(90, 100, status=Status.COLLAPSE)
    assert snapshot_status([layer(None, 10**6), judged]) is Status.COLLAPSE


def test_nothing_judged_is_unknown_and_many_equal_layers_all_decide() -> None:
    assert snapshot_status([]) is Status.UNKNOWN
    assert snapshot_status([layer(None)]) is Status.UNKNOWN
    assert snapshot_status([layer(0, status=Status.UNKNOWN)]) is Status.UNKNOWN
    many = [layer(1, status=Status.OK) for _ in range(300)]
    assert snapshot_status([*many, layer(60, status=Status.COLLAPSE)]) is Status.COLLAPSE


def test_a_crossing_is_the_first_step_in_order_of_steps() -> None:
    later, early = snapshot(300, layer(60)), snapshot(20, layer(60))
    unknown = snapshot(None, layer(60))
    assert {step for _, _, step in found(unknown, later, early)} == {20}
    assert {step for _, _, step in found(unknown, snapshot(1, layer(0)))} == {None}


def test_expected_zeros_and_the_baseline_cross_nothing() -> None:
    bias = layer(33, name="in_proj_bias", anatomy=ZeroAnatomy(expected=33))
    hidden = layer(45, baseline_zero_fraction=0.44)
    assert found(snapshot(1, bias)) == []
    assert found(snapshot(1, hidden)) == []


def test_the_plain_fraction_is_shown_where_the_other_decides() -> None:
    bias = layer(66, name="in_proj_bias", anatomy=ZeroAnatomy(expected=33, dead_unit=33))
    first = crossings([snapshot(1, bias)], Settings())
    assert [(each.layer, each.limit, each.zero_fraction) for each in first] == [
        ("in_proj_bias", "critical", 0.66),
        ("*", "critical", 0.66),
        ("in_proj_bias", "warn", 0.66),
        ("*", "warn", 0.66),
    ]


def test_the_pooled_total_is_over_elements_with_its_pooled_baseline() -> None:
    layers = (layer(40, 100, name="a", baseline_zero_fraction=0.4), layer(0, 100, name="b"))
    assert found(snapshot(1, *layers)) == []
    grown = (layer(60, 100, name="a", baseline_zero_fraction=0.4), layer(0, 100, name="b"))
    assert ("*", "critical", 2) in found(snapshot(1, *layers), snapshot(2, *grown))


def test_several_batches_are_shared_out() -> None:
    assert found(snapshot(1, layer(90), num_batches=10)) == []
    assert found(snapshot(1, layer(100), num_batches=10)) == [("w", "warn", 1), ("*", "warn", 1)]


def test_runs_and_layer_limits_are_kept_apart() -> None:
    snapshots = [snapshot(5, layer(30), run="b"), snapshot(1, layer(30), run="a")]
    first = crossings(snapshots, Settings(layer_limits={"w*": {"collapse": 0.3}}))
    assert [(each.run, each.layer, each.limit) for each in first if each.limit == "collapse"] == [
        ("b", "w", "collapse"),
        ("a", "w", "collapse"),
    ]


def test_a_gradient_without_a_finite_value_crosses_nothing() -> None:
    assert found(snapshot(1, layer(0, num_nonfinite=100), layer(None, name="frozen"))) == []


def test_an_unknown_layer_that_counts_leaves_no_snapshot_green() -> None:
    good, unknown = layer(0, status=Status.OK), layer(0, status=Status.UNKNOWN)
    bad = layer(60, status=Status.COLLAPSE)
    assert snapshot_status([good, unknown]) is Status.UNKNOWN
    assert snapshot_status([good, unknown, bad]) is Status.COLLAPSE
    small = layer(0, size=1, status=Status.UNKNOWN)
    assert snapshot_status([layer(0, size=1000, status=Status.OK), small]) is Status.OK
