from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.records import ZeroAnatomy
from gradscope.records.percent import percent
from gradscope.show.rows import bar, count, kinds, number, safe, short_layer


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (None, "?"),
        (0.0, "0.0 %"),
        (1e-9, "<0.1 %"),
        (0.0442, "4.4 %"),
        (0.4619, "46.2 %"),
        (0.24996, "24.9 %"),
        (0.27405, "27.4 %"),
        (0.09996, "9.9 %"),
        (0.0999999, "9.9 %"),
        (0.29, "29.0 %"),
        (0.00099, "<0.1 %"),
        (0.9996, ">99.9 %"),
        (0.99999, ">99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_percent_never_rounds_up_to_a_limit_nor_to_nothing_or_all(fraction: float | None, text: str) -> None:
    assert percent(fraction) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "?"), (0.0, "0"), (1.9, "1.90"), (999.7, "1,000"), (12345.0, "12,300"), (4.1e-9, "4.1e-09")],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(0, 1), st.integers(1, 40), st.booleans())
def test_bars_fit_and_show_any_zero_at_all(fraction: float, width: int, ascii_only: bool) -> None:
    drawn = bar(fraction, width, ascii_only=ascii_only)
    assert len(drawn) <= width
    assert bool(drawn) == (fraction > 0)
    assert not ascii_only or drawn.isascii()


@given(st.text(), st.integers(8, 60))
def test_layer_names_fit_and_keep_their_end(name: str, width: int) -> None:
    shown = short_layer(name, width)
    assert len(shown) <= width
    assert safe(name).endswith(shown.removeprefix("…"))


@given(st.text())
def test_safe_names_hold_no_control_characters_and_plain_ones_stay(name: str) -> None:
    assert all(char.isprintable() or char.isspace() for char in safe(name))
    assert "\n" not in safe(name)
    if name.isascii() and name.isprintable():
        assert safe(name) == name


def test_kinds_come_most_first() -> None:
    assert kinds(ZeroAnatomy(dead_input=5, dead_unit=7000)) == "dead units 7,000, dead inputs 5"
    assert kinds(ZeroAnatomy()) == "none"
    assert kinds(None) == count(None) == "?"
