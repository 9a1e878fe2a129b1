"""Input shift per step and slice: what it says of planted shifts, and its silence without one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradscope.measure import ShiftWindow, resolve_slices, shift, slice_shift, step_shifts
from gradscope.records import SliceShift, Status

NAMES = ("ret_1", "ret_2", "ret_3", "position_long", "position_short")
SLICES = resolve_slices({"position": ("position_*",)}, shapes={"": (5,)}, feature_names=NAMES)


def rows(seed: int, num_rows: int = 600, *, position: float = 0.0, level: float = 0.0) -> Any:
    """Healthy market columns and two position columns, active in spells of ten rows."""
    draw = np.random.default_rng(seed)
    values = draw.normal(level, 1, size=(num_rows, 5)).astype(np.float32)
    is_open = np.repeat(draw.uniform(size=(-(-num_rows // 10), 2)) < 0.8, 10, axis=0)[:num_rows]
    values[:, 3:] *= position * is_open
    return values


def window(step: int, raw: Any, **changes: Any) -> ShiftWindow:
    values = {"run": ".", "step": step, "source": f"{step}.pkl", "raw": {"": raw}, "inputs": {"": raw}}
    return ShiftWindow(**(values | changes))


def shifts(*raws: Any, **options: Any) -> list[dict[str, SliceShift]]:
    windows = [window(1000 * place, raw) for place, raw in enumerate(raws)]
    found = step_shifts(windows, slices=SLICES, **({"feature_names": NAMES} | options))
    return [{each.name: each for each in step.slices} for step in found]


def test_opened_positions_shift_their_slice_and_only_theirs() -> None:
    _, quiet, opened = shifts(rows(0), rows(1), rows(2, position=30.0))
    assert {name: each.status for name, each in quiet.items()} == {"market": Status.OK, "position": Status.OK}
    assert quiet["position"].activity == 0
    assert quiet["position"].fraction_shifted == 0
    assert opened["market"].status is Status.OK
    position = opened["position"]
    assert position.status is Status.WARN
    assert position.fraction_shifted == 1
    assert position.activity == pytest.approx(0.96, abs=0.03)
    assert position.rms_ratio == pytest.approx(30 * math.sqrt(0.8), rel=0.1)
    column = position.columns[0]
    assert (column.index, column.name, column.active_fraction_reference) == (3, "position_long", 0)
    assert column.active_fraction == pytest.approx(0.8, abs=0.1)
    assert column.reasons == {"wasserstein": slice_shift.POOLED}
    assert column.p_value_adjusted is not None
    assert column.p_value_adjusted < 0.001


def test_a_moved_market_is_critical_in_reference_deviations() -> None:
    market = shifts(rows(0), rows(1, level=2.0))[1]["market"]
    assert market.status is Status.CRITICAL
    assert market.wasserstein == pytest.approx(2.0, abs=0.15)
    assert market.wasserstein_max is not None
    assert market.wasserstein_max >= market.wasserstein
    assert (market.fraction_shifted, market.activity) == (1, 1)


def test_the_reference_is_0_from_itself_and_not_tested() -> None:
    steps = step_shifts([window(0, rows(0)), window(1, rows(1))], slices=SLICES, reference=1)
    assert [each.is_reference for each in steps] == [False, True]
    for each in steps[1].slices:
        assert (each.wasserstein, each.ks, each.fraction_shifted, each.status) == (0, 0, 0, Status.OK)
        assert each.columns[0].p_value_adjusted is None
        assert each.columns[0].reasons["p_value_adjusted"] == slice_shift.IS_REFERENCE
        assert each.columns[0].psi == 0


def test_holm_is_over_all_columns_and_steps() -> None:
    raws = [rows(seed) for seed in range(4)]
    raws[3][:, 0] += 0.3
    alone = shifts(raws[0], raws[3])[1]["market"].columns[0].p_value_adjusted
    together = shifts(*raws)[3]["market"].columns[0].p_value_adjusted
    assert alone is not None
    assert together == pytest.approx(3 * alone)


def test_a_window_without_rows_is_unknown_with_reasons() -> None:
    found = shifts(rows(0), rows(1)[:0])[1]
    for each in found.values():
        assert each.status is Status.UNKNOWN
        for key in (
            "activity",
            "wasserstein",
            "wasserstein_max",
            "ks",
            "fraction_shifted",
            "rms",
            "rms_ratio",
        ):
            assert getattr(each, key) is None
            assert each.reasons[key] == slice_shift.NO_ROWS
        column = each.columns[0]
        for key in ("wasserstein", "ks", "psi", "p_value_adjusted", "active_fraction", "rms"):
            assert getattr(column, key) is None
            assert column.reasons[key] == slice_shift.NO_ROWS


def test_an_empty_reference_leaves_everything_unknown() -> None:
    found = shifts(rows(0)[:0], rows(1))[1]["market"]
    assert (found.status, found.wasserstein) == (Status.UNKNOWN, None)
    assert found.reasons["wasserstein"] == slice_shift.NO_REFERENCE_ROWS
    assert found.rms == pytest.approx(1, abs=0.1)


def test_values_that_are_not_finite_are_left_out_and_said() -> None:
    spoiled = rows(1)
    spoiled[:7, 0] = [math.nan, math.inf, -math.inf, math.nan, math.nan, math.inf, math.nan]
    spoiled[:, 1] = math.nan
    market = shifts(rows(0), spoiled)[1]["market"]
    assert market.status is Status.OK
    few, none = market.columns[:2]
    assert few.wasserstein is not None
    assert few.reasons == {"nonfinite": "7 non-finite values left out, reference and window together"}
    assert (none.wasserstein, none.rms, none.active_fraction) == (None, None, None)
    assert none.reasons["wasserstein"] == slice_shift.NOT_FINITE


def test_rms_is_of_the_inputs_and_distances_of_the_raw_values() -> None:
    raw = rows(1, position=30.0)
    scaled = window(1, raw, inputs={"": raw / 10})
    found = {each.name: each for each in step_shifts([window(0, rows(0)), scaled], slices=SLICES)[1].slices}
    plain = shifts(rows(0), raw)[1]
    assert found["market"].rms == pytest.approx(plain["market"].rms / 10 if plain["market"].rms else None)
    assert found["market"].wasserstein == plain["market"].wasserstein
    assert found["position"].rms_ratio == pytest.approx(plain["position"].rms_ratio)


def test_no_ratio_is_made_of_nothing() -> None:
    alone = step_shifts([window(0, rows(0))], slices=SLICES[:1])[0].slices[0]
    assert alone.reasons["rms_ratio"] == slice_shift.NO_OTHER
    market = shifts(rows(0))[0]["market"]
    assert (market.rms_ratio, market.reasons["rms_ratio"]) == (None, slice_shift.OTHERS_AT_ZERO)


def test_bars_and_flat_sequences_give_the_newest_bars_shift() -> None:
    old = [np.full((600, 5), 99.0, np.float32), rows(8)]
    bars = [np.stack([past, raw], axis=1) for past, raw in zip(old, [rows(0), rows(1)], strict=True)]
    wanted = shifts(rows(0), rows(1))
    assert shifts(*bars) == wanted
    assert shifts(*(each.reshape(600, 10) for each in bars), sequence_length=2) == wanted


def test_many_columns_are_taken_in_blocks_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    raws = [rows(0), rows(1, position=3.0)]
    wanted = shifts(*raws)
    monkeypatch.setattr(shift, "COLUMNS_AT_ONCE", 2)
    for found, each in zip(shifts(*raws)[1].values(), wanted[1].values(), strict=True):
        assert replace(found, columns=()) == replace(each, columns=())
        for one, other in zip(found.columns, each.columns, strict=True):
            # Sums round differently in other blocks, single-precision correlation times most.
            assert one.p_value_adjusted == pytest.approx(other.p_value_adjusted, rel=1e-4)
            assert one.psi == pytest.approx(other.psi)
            rest = [replace(one_of, p_value_adjusted=None, psi=None) for one_of in (one, other)]
            assert rest[0] == rest[1]


def test_the_window_is_described_and_slices_may_be_none() -> None:
    one = window(7, rows(0), truncated=True, notes=("a note",))
    found = step_shifts([one], slices=())[0]
    assert (found.step, found.num_rows, found.window_truncated, found.notes) == (7, 600, True, ("a note",))
    assert (found.run, found.source, found.slices) == (".", "7.pkl", ())
    assert step_shifts([], slices=SLICES) == ()


def test_slow_healthy_markets_do_not_count_as_shifted() -> None:
    """Random-walk-like indicators differ between any two windows: the effect is shown, the p-value silent."""
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(2600, 5))
    for row in range(1, len(noise)):
        noise[row] += 0.98 * noise[row - 1]
    found = shifts(noise[600:1600], noise[1600:])[1]
    assert [each.fraction_shifted for each in found.values()] == [0, 0]
