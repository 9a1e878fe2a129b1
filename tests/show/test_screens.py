from __future__ import annotations

import re
from dataclasses import replace

import pytest
from golden_files import assert_golden
from makers import CASE_LAYER, HOSTILE, association_report, layer, report, shift_report, snapshot
from rich.cells import cell_len

from gradscope.records import Crossing, LeftOut, Origin, Report, Status, ZeroAnatomy
from gradscope.show.correlate_screen import correlate_screen
from gradscope.show.report_page import report_page
from gradscope.show.scan_screen import scan_screen
from gradscope.show.screen import Look
from gradscope.show.shift_screen import shift_screen

SCREENS = {
    "scan": scan_screen,
    "shift": shift_screen,
    "correlate": correlate_screen,
    "report": report_page,
}
NUMBERS = {
    "scan": ["12,345,678", "100.0 %", "27.4 %", "critical"],
    "shift": ["12,345,678", "81.0 %", "0.0243", "1,040", "reference", "critical"],
    "correlate": ["12,345,678", "100.0 %", "-0.0239", "0.0110", "not associated"],
    "report": ["12,345,678", "100.0 %", "1,040", "-0.0239", "0.0110", "not associated", CASE_LAYER[-14:]],
}
"""What every width must show of ``large_report``."""


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", SCREENS)
def test_screens_are_as_they_were_looked_at(name: str, width: int) -> None:
    assert_golden(f"{name}_{width}.txt", SCREENS[name](report(), Look(width=width)))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("name", SCREENS)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    text = SCREENS[name](report(), Look(width=width))
    assert max(cell_len(line) for line in text.splitlines()) <= width


def large_report() -> Report:
    """Every number as long as real ones get."""
    shift = shift_report()
    big = {"wasserstein": 0.0243, "fraction_shifted": 0.571, "rms": 12345.0, "rms_ratio": 1040.0}
    steps = [
        replace(step, step=12_345_678, slices=tuple(replace(each, **big) for each in step.slices))
        for step in shift.steps
    ]
    together = association_report()
    series = tuple(replace(point, step=12_345_678, activity=1.0) for point in together.series)
    layers = (replace(together.layers[0], pearson=-0.0239, change_step=12_345_678, verdict="not associated"),)
    worst = snapshot(12_345_678, norm=0.000213, clip_coefficient=0.0363, position_activity=1.0)
    return report(
        snapshots=(worst, snapshot(None)),
        crossings=(
            Crossing(run=".", layer=CASE_LAYER, limit="critical", step=12_345_678, zero_fraction=1.0),
        ),
        shift=replace(shift, steps=tuple(steps)),
        associations=(replace(together, series=series, layers=layers),),
    )


@pytest.mark.parametrize("width", [60, 76, 80, 120])
@pytest.mark.parametrize("name", SCREENS)
def test_no_number_and_no_verdict_is_ever_cut(name: str, width: int) -> None:
    text = SCREENS[name](large_report(), Look(width=width))
    assert not re.search(r"[\d.,%a-z]…", text)
    for words in NUMBERS[name]:
        assert words in text
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_a_narrow_screen_drops_what_numbers_say_too() -> None:
    narrow, wide = (scan_screen(report(), Look(width=width)) for width in (60, 80))
    assert "█" in wide
    assert "first to cross" in wide
    assert "█" not in narrow
    assert "first to cross" not in narrow


def test_columns_that_differ_only_at_their_beginning_stay_apart() -> None:
    shift = shift_report()
    moved = shift.steps[1].slices[0]
    names = ["position_size_short_normalized", "position_pnl_short_normalized"]
    columns = tuple(replace(moved.columns[0], name=name) for name in names)
    steps = (shift.steps[0], replace(shift.steps[1], slices=(replace(moved, columns=columns),)))
    text = shift_screen(report(shift=replace(shift, steps=steps)), Look(width=60))
    assert all(name in text for name in names)


def test_every_further_run_stands_apart() -> None:
    text = scan_screen(report(snapshots=(snapshot(run="a"), snapshot(run="b"))), Look())
    assert "\n\nrun b: 1 snapshot" in text
    assert "\n\nrun a: 1 snapshot" not in text


def test_zeros_and_fresh_are_on_one_basis() -> None:
    bias = layer(num_zero=64, num_elements=192, zero_fraction=1 / 3, anatomy=ZeroAnatomy(expected=64))
    text = scan_screen(report(snapshots=(snapshot(layers=(layer(), bias)),)), Look(width=120))
    assert re.search(r" 0\.0 % +1\.0 % +-1\.0  critical  expected 64", text)
    assert "zeros and fresh leave expected zeros out" in text
    assert "expected zeros" not in scan_screen(report(), Look())


def test_columns_are_explained_where_they_stand() -> None:
    shifted = " ".join(shift_screen(report(), Look()).split())
    assert "shifted: share of columns moved by 0.25 or more and significantly so" in shifted
    together = " ".join(correlate_screen(report(), Look()).split())
    assert "pearson and spearman are of the series as they are. p adj. is after detrending" in together


@pytest.mark.parametrize("name", SCREENS)
def test_ascii_screens_hold_only_ascii(name: str) -> None:
    text = SCREENS[name](
        report(snapshots=(snapshot(layers=(layer(name="größe.weight"),)),)), Look(ascii_only=True)
    )
    assert text.isascii()


@pytest.mark.parametrize("name", SCREENS)
def test_hostile_names_cannot_steer_the_terminal(name: str) -> None:
    bad = layer(name=HOSTILE, status=Status.COLLAPSE)
    hostile = report(
        path=HOSTILE,
        slices={HOSTILE: HOSTILE},
        snapshots=(snapshot(None, run=HOSTILE, source=HOSTILE, layers=(bad,), notes=(HOSTILE,)),),
        crossings=(),
        unreadable=(LeftOut(source=HOSTILE, reason=HOSTILE),),
        notes=(HOSTILE,),
    )
    text = SCREENS[name](hostile, Look(width=300))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]x[/bold]" in text


def test_colors_are_there_when_asked_for_and_change_no_word() -> None:
    plain, colored = (scan_screen(report(), Look(width=100, color=color)) for color in (False, True))
    assert "\x1b[" in colored
    assert "\x1b" not in plain
    assert colored.count("critical") == plain.count("critical")


def test_without_gradients_the_screen_says_how_to_get_them() -> None:
    nothing = layer(origin=Origin.NONE, num_zero=0, zero_fraction=None, status=Status.UNKNOWN, anatomy=None)
    reasons = {"zero_fraction": "no replay buffer of this step: name one with --replay"}
    bare = snapshot(
        origin=Origin.NONE, zero_fraction=None, status=Status.UNKNOWN, layers=(nothing,), reasons=reasons
    )
    text = " ".join(scan_screen(report(snapshots=(bare,), crossings=()), Look()).split())
    assert f"no gradients at step 6,000: {reasons['zero_fraction']}" in text
    assert "unknown" in text


def test_without_gradients_no_answer_sounds_like_all_is_well() -> None:
    bare = snapshot(origin=Origin.NONE, zero_fraction=None, status=Status.UNKNOWN, layers=())
    text = " ".join(report_page(report(snapshots=(bare,), crossings=()), Look()).split())
    assert "No limit was crossed" not in text
    assert "Nowhere" not in text
    assert text.count("Not known: there are no gradients.") == 2


def test_report_reads_as_an_answer_and_claims_no_cause() -> None:
    text = " ".join(report_page(report(), Look(width=120)).split())
    for question in ("What", "When", "Where", "Inputs", "Together", "Not known"):
        assert question in text
    assert "CRITICAL at step 6,000" in text
    assert "37.0 times" in text
    assert "causes" not in text


def test_empty_parts_do_not_break_a_screen() -> None:
    empty = Report(path="x", zero_tolerance=1e-8, limits={"warn": 0.1})
    for screen in SCREENS.values():
        assert screen(empty, Look()).startswith("gradscope ")


def test_guessed_slices_are_called_guessed_on_every_screen_that_uses_them() -> None:
    guessed = report(slices_from="guessed", shift=None, associations=(association_report(),))
    assert "guessed" in scan_screen(guessed, Look())
    assert "guessed" in report_page(guessed, Look())
    shifted = shift_report()
    text = shift_screen(report(shift=type(shifted)(**(vars(shifted) | {"slices_from": "guessed"}))), Look())
    assert "guessed" in text
