"""Columns are what the user said, never a guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradscope.errors import UsageError
from gradscope.remedy.columns import by_bar, column_numbers, repeated_columns, slice_columns

WRITTEN: list[tuple[Any, list[int]]] = [
    ("73:80", list(range(73, 80))),
    ("78:", [78, 79]),
    (":2", [0, 1]),
    (":", list(range(80))),
    (" 5 ", [5]),
    ("7, 3:5,4", [3, 4, 7]),
    ("80%:", list(range(64, 80))),
    ("99%:100%", [79]),
    (5, [5]),
    (np.int64(5), [5]),
    (range(73, 80, 2), [73, 75, 77, 79]),
    (slice(-2, None), [78, 79]),
    ((9, 3, 9), [3, 9]),
    (np.array([4, 1]), [1, 4]),
    (torch.tensor([4, 1]), [1, 4]),
]


@pytest.mark.parametrize(("columns", "numbers"), WRITTEN, ids=lambda each: repr(each)[:30])
def test_every_way_to_write_columns(columns: Any, numbers: list[int]) -> None:
    assert column_numbers(columns, 80) == tuple(numbers)


WRONG: list[Any] = [
    "",
    "5:5",
    "position_*",
    "-7:",
    "70:81",
    "80",
    "120%:",
    "1:2:3",
    (),
    range(0),
    [-1],
    [80],
    [True, False],
    np.array([True, False]),
    [1.5],
    80,
    slice(80, None),
    "٣",
]


@pytest.mark.parametrize("columns", WRONG, ids=repr)
def test_what_names_no_column_of_the_bar_is_refused(columns: Any) -> None:
    with pytest.raises(UsageError, match="columns"):
        column_numbers(columns, 80)


@given(st.integers(1, 300), st.integers(0, 99))
def test_a_percentage_leaves_no_column_in_two_parts_or_in_none(num_columns: int, percent: int) -> None:
    last = column_numbers(f"{percent}%:", num_columns)
    assert last[-1] == num_columns - 1
    if percent and num_columns * percent >= 100:
        assert (*column_numbers(f":{percent}%", num_columns), *last) == tuple(range(num_columns))


def test_columns_in_no_slice_are_the_market_or_other_where_that_name_is_taken() -> None:
    assert slice_columns({"position": "3:"}, 5) == {"position": (3, 4), "market": (0, 1, 2)}
    assert slice_columns({"position": "3:", "market": "0:2"}, 5)["other"] == (2,)
    assert list(slice_columns({"position": "3:", "market": "0:3"}, 5)) == ["position", "market"]
    with pytest.raises(UsageError, match="column 3 is in slices 'a' and 'b'"):
        slice_columns({"a": "3:", "b": "2:4"}, 5)
    with pytest.raises(UsageError, match="in no slice"):
        slice_columns({"market": 0, "other": 1}, 5)


def test_columns_are_repeated_in_every_bar() -> None:
    assert repeated_columns("3:", 10, 2) == (3, 4, 8, 9)
    assert repeated_columns("3:", 5, None) == (3, 4)
    with pytest.raises(UsageError, match="does not divide"):
        repeated_columns("3:", 10, 3)
    with pytest.raises(UsageError, match="at least 1"):
        repeated_columns("3:", 10, 0)


def test_a_flat_observation_becomes_bars_oldest_first() -> None:
    flat = torch.arange(20.0).reshape(2, 10)
    assert torch.equal(by_bar(flat, 5, 2)[0], torch.arange(10.0).reshape(2, 5))
    assert by_bar(flat, 10, None) is flat
    with pytest.raises(UsageError, match="not 1 x 5"):
        by_bar(flat, 5, None)
