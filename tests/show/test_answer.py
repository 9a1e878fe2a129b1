"""The answer says no more than was measured, and nothing that was measured is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from makers import CASE_LAYER, layer, quiet_snapshot, report, shift_report, snapshot

from gradscope.records import Crossing, Origin, Report, Status
from gradscope.show.answer import answer
from gradscope.show.order import layer_crossings, limit_of, step_rows
from gradscope.show.report_page import report_page
from gradscope.show.scan_screen import scan_screen
from gradscope.show.screen import Look

if TYPE_CHECKING:
    from gradscope.records import SnapshotGradient, StepShift

SMALL = "q_net.0.bias"

TWINS = ((2000, "a"), (2000, "best\x1b"), (4000, "c"))


def crossing(layer_name: str = CASE_LAYER, limit: str = "collapse", step: int = 1) -> Crossing:
    return Crossing(run=".", layer=layer_name, limit=limit, step=step, zero_fraction=0.6)


def answers(found: Report) -> dict[str, str]:
    return dict(answer(found, "."))


def nan_snapshot(step: int = 6000) -> SnapshotGradient:
    broken = layer(num_zero=0, num_nonfinite=19584, status=Status.UNKNOWN)
    return snapshot(step, num_nonfinite=19584, zero_fraction=0.0, status=Status.UNKNOWN, layers=(broken,))


@pytest.mark.parametrize("snapshots", [(nan_snapshot(),), (quiet_snapshot(), nan_snapshot())])
def test_gradients_without_numbers_are_not_called_healthy(snapshots: tuple[SnapshotGradient, ...]) -> None:
    found = report(snapshots=snapshots, crossings=())
    said = answers(found)
    assert "at step 6,000: 19,584 of 19,584 gradient values are NaN or infinite" in said["What"]
    for question in ("When", "Where"):
        assert said[question].startswith("Not known")
    for screen in (scan_screen, report_page):
        text = screen(found, Look(width=120))
        assert "· step 6,000: 19,584 of 19,584 gradient values are NaN or infinite" in text


def test_an_answer_about_nan_only_names_no_share_of_zeros() -> None:
    said = answers(report(snapshots=(nan_snapshot(),), crossings=()))["What"]
    assert said.startswith("Not known at step 6,000")
    assert "%" not in said


def with_ratio(ratio: float, status: Status = Status.OK) -> Report:
    shift = shift_report()
    steps: list[StepShift] = [
        replace(step, slices=tuple(replace(each, status=status, rms_ratio=ratio) for each in step.slices))
        for step in shift.steps
    ]
    return report(shift=replace(shift, steps=tuple(steps)))


def test_a_scale_mismatch_is_told_where_nothing_shifted() -> None:
    said = answers(with_ratio(1040.0))["Inputs"]
    assert "position did not shift; the rms of position is 1,040 times the other columns'" in said
    assert "mismatch" not in answers(with_ratio(3.0))["Inputs"]


def test_the_worst_mismatch_counts_not_the_one_at_the_largest_shift() -> None:
    shift = shift_report()
    first = replace(shift.steps[0], slices=(replace(shift.steps[0].slices[0], rms_ratio=90.0),))
    said = answers(report(shift=replace(shift, steps=(first, shift.steps[1]))))["Inputs"]
    assert "90.0 times the other columns' at step 4,000" in said


def test_one_step_is_not_called_no_shift() -> None:
    shift = shift_report()
    said = answers(report(shift=replace(shift, steps=shift.steps[:1])))["Inputs"]
    assert "did not shift" not in said
    assert said == "Not known: only one step has inputs, so there is nothing to compare."


def small_crossings(status: Status) -> Report:
    """A tiny layer collapses at step 1; the big one is as ``status`` says."""
    tiny = layer(SMALL, 5, num_elements=8, zero_fraction=0.625, status=Status.COLLAPSE)
    big = layer(status=status)
    return report(
        snapshots=(snapshot(status=status, layers=(big, tiny), num_elements=19592),),
        crossings=tuple(crossing(SMALL, limit) for limit in ("warn", "critical", "collapse"))
        + ((crossing(limit="warn", step=6000),) if status is Status.WARN else ()),
    )


def test_small_layers_are_counted_once_and_kept_apart() -> None:
    said = answers(small_crossings(Status.OK))
    assert "1 small layer reached a limit" in said["What"]
    assert said["When"].startswith("Only small layers: collapse from step 1;")
    mixed = answers(small_crossings(Status.WARN))
    assert mixed["When"].startswith("Warn from step 6,000;")
    assert "collapse" not in mixed["When"]


def test_layers_on_warn_are_counted() -> None:
    two = tuple(layer(name, status=Status.WARN) for name in ("a", "b"))
    found = report(snapshots=(snapshot(status=Status.WARN, layers=two, num_elements=2 * 19584),))
    assert "2 of 2 layers are on warn" in answers(found)["What"]


def test_first_to_cross_names_layers_that_count_in_the_snapshot_that_crossed() -> None:
    assert [row.first_layer for row in step_rows(small_crossings(Status.OK), ".")] == [""]
    healthy = replace(quiet_snapshot(6000), source="b.zip")
    twins = report(snapshots=(snapshot(), healthy), crossings=(crossing(limit="critical", step=6000),))
    assert [row.first_layer for row in step_rows(twins, ".")] == [CASE_LAYER, ""]


def test_rows_of_one_step_are_told_apart_by_their_files() -> None:
    snapshots = [replace(quiet_snapshot(step), run="r", source=f"r/{name}.zip") for step, name in TWINS]
    rows = step_rows(report(snapshots=tuple(snapshots)), "r")
    assert [row.file for row in rows] == ["a.zip", "best\\x1b.zip", ""]


def test_layers_without_a_gradient_are_mentioned() -> None:
    bare = layer("head.weight", 0, origin=Origin.NONE, status=Status.UNKNOWN, anatomy=None, num_elements=4)
    bare = replace(bare, num_zero=None, zero_fraction=None)
    said = answers(report(snapshots=(snapshot(layers=(layer(), bare)),)))["Not known"]
    assert "Gradients of 1 of 2 layers at step 6,000: not stored (head.weight)." in said


def test_a_layer_with_gradient_is_not_said_to_learn() -> None:
    last = layer("head.weight", 0, status=Status.OK)
    said = answers(report(snapshots=(snapshot(layers=(layer(), last), num_elements=2 * 19584),)))["Where"]
    assert "head.weight still gets gradient" in said
    assert "learn" not in said


def test_a_layers_own_limit_is_the_one_shown() -> None:
    own: dict[str, Any] = {"*": {"collapse": 0.4}, "*temporal_projection*": {"collapse": 0.3}}
    found = report(layer_limits=own, crossings=(crossing(step=6000),))
    assert layer_crossings(found, ".")
    assert limit_of(found, CASE_LAYER, "collapse") == 0.3
    assert limit_of(found, CASE_LAYER, "warn") == 0.1
    assert "≥ 30.0 %" in scan_screen(found, Look())


def test_a_status_without_layers_still_gets_an_answer() -> None:
    said = answers(report(snapshots=(snapshot(layers=()),), crossings=()))
    assert said["What"].startswith("CRITICAL at step 6,000")
    assert said["Where"] == "Not known: its layers are not listed."
