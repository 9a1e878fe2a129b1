"""Slices: which columns a selector means, whose values they are, when they are active."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradscope.errors import UsageError
from gradscope.measure import (
    active_rows,
    guess_slices,
    overlap_notes,
    ranges,
    resolve_slices,
    resting_values,
    slice_values,
)
from gradscope.records import Slice

NAMES = ("ret_1", "ret_2", "volatility", "position_long", "position_short")
BARS = {"": (4, 5)}


def columns(*selectors: str, **options: Any) -> tuple[int, ...]:
    options = {"shapes": BARS, "feature_names": NAMES} | options
    return resolve_slices({"market": selectors}, **options)[0].columns


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        ("1:3", (1, 2)),
        ("4", (4,)),
        ("3:", (3, 4)),
        (":2", (0, 1)),
        ("position_*", (3, 4)),
        ("volatility", (2,)),
        ("*_1", (0,)),
        ("flat:18:20", (18, 19)),
        ("flat:7", (7,)),
    ],
)
def test_a_selector_means_its_columns(selector: str, wanted: tuple[int, ...]) -> None:
    assert columns(selector) == wanted


def test_selectors_of_one_slice_add_up_once_each() -> None:
    assert columns("position_*", "2:4", "0") == (0, 2, 3, 4)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("3:9", "outside one bar's columns 0:5"),
        ("5", "outside"),
        ("flat:0:21", "outside the observation's columns 0:20"),
        ("2:2", "is empty"),
        ("flat:x", "is no range"),
        ("positon_*", "Near: position_"),
        ("key:image", "Only a Dict space has keys"),
        ("99999999999", "outside"),
        ("9" * 5000, "fits none"),
    ],
)
def test_a_wrong_selector_says_what_is_wrong_in_one_line(selector: str, message: str) -> None:
    with pytest.raises(UsageError, match="slice 'position'") as caught:
        resolve_slices({"position": (selector,)}, shapes=BARS, feature_names=NAMES)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": {"": (21,)}, "sequence_length": 4}, "does not divide"),
        ({"shapes": {"": (4, 5)}, "sequence_length": 3}, "has 4 bars"),
        ({"shapes": {"": (4, 6)}}, "5 names for the 6 columns"),
        ({"shapes": {"": (4, 5)}, "feature_names": None}, "needs feature names"),
        ({"shapes": {"a": (4,), "b": (2,)}}, "Try key:a, key:b"),
    ],
)
def test_a_contradiction_is_a_usage_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        columns("position_*", **options)


def test_an_empty_slice_and_a_mixed_one_are_refused() -> None:
    with pytest.raises(UsageError, match="no columns given"):
        columns()
    with pytest.raises(UsageError, match="mixes"):
        columns("0:2", "flat:0:2")


def test_market_is_every_other_column() -> None:
    market, position = resolve_slices({"position": ("position_*",)}, shapes=BARS, feature_names=NAMES)
    assert (market.name, market.columns, market.selector) == ("market", (0, 1, 2), "0:3")
    assert (position.columns, position.selector) == ((3, 4), "position_*")


def test_market_is_flat_where_a_slice_is_and_leaves_out_bars_columns_of_all_bars() -> None:
    given = {"position": ("4",), "account": ("flat:0:2",)}
    market = resolve_slices(given, shapes={"": (10,)}, sequence_length=2)[0]
    assert market == Slice(
        name="market", columns=(2, 3, 5, 6, 7, 8), selector="flat:2:4, flat:5:9", flat=True
    )


def test_no_market_is_made_where_nothing_or_too_much_is_left() -> None:
    assert [each.name for each in resolve_slices({"all": ("0:5",)}, shapes=BARS)] == ["all"]
    shapes = {"bars": (3,), "image": (2, 4, 4), "account": (2,)}
    assert [each.name for each in resolve_slices({"x": ("key:image",)}, shapes=shapes)] == ["x"]
    two = {"bars": (3,), "account": (2,)}
    market = resolve_slices({"position": ("key:account",)}, shapes=two)[0]
    assert (market.key, market.columns, market.selector) == ("bars", (0, 1, 2), "key:bars")


def test_overlaps_are_allowed_and_said() -> None:
    slices = resolve_slices({"a": ("0:3",), "b": ("2:5",), "c": ("flat:2:3",)}, shapes=BARS)
    assert overlap_notes(slices) == ("slices 'a' and 'b' share columns 2",)


def test_values_are_of_the_newest_bar() -> None:
    bars = np.arange(2 * 4 * 5).reshape(2, 4, 5)
    position = Slice(name="position", columns=(3, 4), selector="3:5")
    wanted = bars[:, 3, 3:]
    assert np.array_equal(slice_values({"": bars}, position), wanted)
    assert np.array_equal(slice_values({"": bars.reshape(2, 20)}, position, 4), wanted)
    assert np.shares_memory(slice_values({"": bars}, position), bars)
    assert np.array_equal(slice_values({"": bars.reshape(2, 20)}, position), [[3, 4], [23, 24]])
    apart = Slice(name="position", columns=(0, 4), selector="0, 4")
    assert np.array_equal(slice_values({"": bars}, apart), bars[:, 3][:, [0, 4]])


def test_values_of_flat_columns_keys_and_all_columns() -> None:
    bars = np.arange(2 * 4 * 5).reshape(2, 4, 5)
    flat = Slice(name="x", columns=(0, 19), selector="", flat=True)
    assert np.array_equal(slice_values({"": bars}, flat), [[0, 19], [20, 39]])
    assert np.array_equal(slice_values({"": bars}, None), bars[:, -1])
    image = Slice(name="x", columns=tuple(range(8)), selector="key:image", key="image")
    pixels = np.arange(16).reshape(2, 2, 2, 2)
    assert np.array_equal(slice_values({"image": pixels, "a": bars}, image, 4), pixels.reshape(2, 8))


def test_columns_that_start_to_move_are_guessed() -> None:
    early, late = np.random.default_rng(0).normal(size=(2, 50, 6))
    early[:, 3:] = [0, 7, math.nan]
    late[:, 5] = math.nan
    assert guess_slices([early, late]) == ("3:5",)
    assert guess_slices([np.zeros((0, 6)), early, early, late]) == ("3:5",)
    extremes = [np.stack([each.min(axis=0), each.max(axis=0)]) for each in (early, late)]
    assert guess_slices(extremes) == ("3:5",)
    late[:, 3] = 5
    assert guess_slices([early, late]) == ("3:5",)


def test_nothing_is_guessed_where_nothing_tells_the_slices_apart() -> None:
    alive = np.random.default_rng(0).normal(size=(50, 3))
    assert guess_slices([alive]) is None
    assert guess_slices([alive, alive]) is None
    assert guess_slices([np.zeros((50, 3)), alive]) is None
    assert guess_slices([]) is None


@given(st.sets(st.integers(0, 40)))
def test_ranges_name_exactly_the_columns(wanted: set[int]) -> None:
    selectors = ranges(sorted(wanted))
    if wanted:
        assert columns(*selectors, shapes={"": (50,)}, feature_names=None) == tuple(sorted(wanted))
    else:
        assert selectors == ()


VALUES = st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, math.nan, math.inf])


@settings(deadline=None)
@given(hnp.arrays(np.float64, st.tuples(st.integers(0, 9), st.integers(1, 4)), elements=VALUES))
def test_a_column_rests_at_its_majority_or_at_zero(reference: Any) -> None:
    found = resting_values(reference)
    assert found.tolist() == [oracles.resting_value(column) for column in reference.T.tolist()]


@settings(deadline=None)
@given(hnp.arrays(np.float64, (6, 3), elements=VALUES), hnp.arrays(np.float64, 3, elements=st.floats(-1, 1)))
def test_a_row_is_active_when_any_finite_value_left_its_rest(values: Any, resting: Any) -> None:
    wanted = [
        any(math.isfinite(v) and v != rest for v, rest in zip(row, resting, strict=True)) for row in values
    ]
    assert active_rows(values, resting).tolist() == wanted
