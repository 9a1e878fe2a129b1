"""Activity and shift: of replays, of recorded batches, and of batches that VecNormalize moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from run.run_folders import checkpoint, normalizer, recorded, replay, rows, timeline

from gradscope.errors import UsageError
from gradscope.records import Status
from gradscope.run import open_run, scan_opened, with_associations, with_shift
from gradscope.run.guess import guessed
from gradscope.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.records import AssociationReport, Report

SAME = Settings(slices={"position": ("3:4",)}, slices_from="option")
OTHER = Settings(slices={"position": ("2:3",)}, slices_from="config")


def normalised_run(folder: Path) -> Path:
    """Rest is no longer 0, and open positions are the most frequent value."""
    for step in (40, 80):
        checkpoint(folder, step)
        normalizer(folder, step)
        recorded(folder, step, rows(16, 0.75) - np.float32(0.3), 12)
    return folder


def everything(folder: Path, settings: Settings | None = None) -> Report:
    opened = open_run(folder, settings=settings)
    return with_associations(with_shift(scan_opened(opened), opened), opened)


def association(folder: Path, settings: Settings | None = None) -> AssociationReport:
    (only,) = everything(folder, settings).associations
    return only


@pytest.mark.parametrize("settings", [Settings(), SAME])
def test_the_recorders_count_holds_wherever_the_same_columns_come_from(
    tmp_path: Path, settings: Settings
) -> None:
    report = everything(normalised_run(tmp_path), settings)
    assert [each.position_activity for each in report.snapshots] == [0.75, 0.75]


def test_other_columns_of_a_normalised_batch_are_unknown_with_a_reason(tmp_path: Path) -> None:
    (first, _) = everything(normalised_run(tmp_path), OTHER).snapshots
    assert first.position_activity is None
    assert first.reasons["position_activity"] == "normalised batch: the resting value is not known"


def test_a_normalised_run_with_replays_counts_their_rows(tmp_path: Path) -> None:
    normalised_run(tmp_path)
    for step in (40, 80):
        replay(tmp_path, f"rl_model_replay_buffer_{step}_steps.pkl", rows(40, 0.25))
    settings = Settings(slices={"position": ("3:4",), "all": ("2:4",)}, slices_from="config")
    report = everything(tmp_path, settings)
    assert report.shift is not None
    shares = {each.name: each.activity for each in report.shift.steps[0].slices}
    assert shares["position"] == pytest.approx(0.25, abs=0.02)
    assert report.snapshots[0].position_activity == 0.75


def test_shift_of_normalised_batches_tells_what_scan_tells_and_no_distance(tmp_path: Path) -> None:
    report = everything(normalised_run(tmp_path), SAME)
    assert report.shift is not None
    for step in report.shift.steps:
        slices = {each.name: each for each in step.slices}
        assert slices["position"].activity == 0.75
        assert slices["market"].activity is None
        for each in slices.values():
            assert each.status is Status.UNKNOWN
            assert (each.wasserstein, each.ks, each.fraction_shifted) == (None, None, None)
            assert {"wasserstein", "ks", "status"} <= set(each.reasons)
            assert each.rms is not None
            assert all(column.ks is None and "ks" in column.reasons for column in each.columns)
        assert "activity" in slices["market"].reasons


def test_the_reference_is_the_earliest_step_that_compares(tmp_path: Path) -> None:
    normalised_run(tmp_path)
    checkpoint(tmp_path, 120)
    for step in (80, 120):
        replay(tmp_path, f"rl_model_replay_buffer_{step}_steps.pkl", rows(40, 0.25, seed=step))
    report = everything(tmp_path, SAME)
    assert report.shift is not None
    assert [(each.step, each.is_reference) for each in report.shift.steps] == [
        (40, False),
        (80, True),
        (120, False),
    ]
    assert [each.slices[0].wasserstein is None for each in report.shift.steps] == [True, False, False]


def test_a_reference_is_refused_only_where_no_run_has_it(tmp_path: Path) -> None:
    for name, steps in (("a", (40, 80)), ("b", (40, 60))):
        folder = tmp_path / name
        folder.mkdir()
        for step in steps:
            checkpoint(folder, step)
            replay(folder, f"rl_model_replay_buffer_{step}_steps.pkl", rows(40, 0.5))
    opened = open_run(tmp_path, settings=SAME)
    shift = with_shift(scan_opened(opened), opened, "60").shift
    assert shift is not None
    assert {each.run for each in shift.steps} == {"b"}
    assert "40, 80" in shift.reasons["a"]
    with pytest.raises(UsageError, match="77"):
        with_shift(scan_opened(opened), opened, "77")


def test_a_timeline_counts_only_for_the_columns_and_tolerance_it_was_recorded_with(tmp_path: Path) -> None:
    timeline(tmp_path)
    for step in (40, 80):
        checkpoint(tmp_path, step)
        replay(tmp_path, f"rl_model_replay_buffer_{step}_steps.pkl", rows(40, 0.5))
    assert association(tmp_path).source == "timeline"
    assert association(tmp_path, SAME).source == "timeline"
    other = association(tmp_path, OTHER)
    assert other.source == "checkpoints"
    assert "position=3:4" in other.reason
    assert other.reason.endswith(other.reasons["source"] + ".")
    loose = association(tmp_path, Settings(zero_tolerance=1e-3))
    assert loose.source == "checkpoints"
    assert "tolerance" in loose.reasons["source"]
    assert "denser" not in loose.reason


def test_a_timeline_alone_is_compared_by_what_was_written(tmp_path: Path) -> None:
    timeline(tmp_path)
    assert association(tmp_path).source == "timeline"
    assert association(tmp_path, SAME).source == "timeline"
    assert association(tmp_path, OTHER).source == "checkpoints"


def test_nulls_of_an_association_have_reasons(tmp_path: Path) -> None:
    for step in (40, 80):
        checkpoint(tmp_path, step)
    found = association(tmp_path)
    keys = {"activity", "num_open_positions", "zero_fraction", "activity_change_step"}
    assert keys <= set(found.reasons)
    assert found.reason.startswith("the activity of 'position' is not known: ")
    assert "denser" not in found.reason
    assert association(normalised_run(tmp_path), OTHER).reason == (
        "the activity of 'position' is not known: normalised batch: the resting value is not known."
    )
    complete = timeline(tmp_path)
    assert complete.exists()
    assert not keys & set(association(tmp_path).reasons)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("none", "two steps or more"), ("one", "two steps or more"), ("flat", "no column is constant early")],
)
def test_why_no_slices_are_known_says_what_was_looked_at(tmp_path: Path, kind: str, words: str) -> None:
    for step in (40, 80):
        checkpoint(tmp_path, step)
        recorded(tmp_path, step, rows(16, 0.5), None, slices={})
        if kind == "flat" or (kind == "one" and step == 40):
            replay(tmp_path, f"rl_model_replay_buffer_{step}_steps.pkl", rows(40, 0.5))
    (first, _) = everything(tmp_path).snapshots
    assert words in first.reasons["position_activity"]


def test_dict_observations_and_images_are_said_to_be_not_guessed_from() -> None:
    vectors = [{"account": np.zeros((3, 2)), "market": np.ones((3, 4))}] * 2
    assert guessed(vectors, None)[1].endswith(
        "Dict observations are not guessed from; try --slice position=key:NAME (account, market)"
    )
    assert "images" in guessed([{"": np.zeros((2, 3, 200, 200), np.uint8)}] * 2, None)[1]
    moved = [{"": rows(40, 0.0)}, {"": rows(40, 0.5)}]
    assert guessed(moved, None) == ({"position": ("3",)}, "")


def test_files_that_nothing_claims_are_notes(tmp_path: Path) -> None:
    for step in (40, 80):
        checkpoint(tmp_path, step)
    replay(tmp_path, "replay_buffer.pkl", rows(40, 0.5))
    timeline(tmp_path, name="a")
    timeline(tmp_path, name="b")
    report = everything(tmp_path)
    assert "replay_buffer.pkl is not used: it has no step, so no snapshot could claim it" in report.notes
    names = "a_gradscope_timeline.jsonl is used, not b_gradscope_timeline.jsonl"
    assert f"of several timelines {names}" in report.notes
    assert "replay_buffer.pkl" in report.snapshots[0].reasons["position_activity"]


def test_a_layer_filter_is_told_and_must_fit_something(tmp_path: Path) -> None:
    checkpoint(tmp_path, 40)
    opened = open_run(tmp_path, settings=Settings(layers=("*weight",)))
    assert "only layers that fit '*weight': 1 of 1" in scan_opened(opened).notes
    for settings in (Settings(layers=("*wight",)), Settings(skip_layers=("zzz",))):
        with pytest.raises(UsageError, match=r"Near: net\.weight"):
            open_run(tmp_path, settings=settings)
    with pytest.raises(UsageError, match="leave none"):
        open_run(tmp_path, settings=Settings(skip_layers=("*",)))


def test_models_of_other_observations_in_one_folder_are_left_out_not_a_crash(tmp_path: Path) -> None:
    for step, width in ((40, 4), (80, 6), (120, 3)):
        checkpoint(tmp_path, step)
        values = np.random.default_rng(step).normal(size=(40, width)).astype(np.float32)
        replay(tmp_path, f"rl_model_replay_buffer_{step}_steps.pkl", values)
    assert everything(tmp_path).shift is not None
    report = everything(tmp_path, SAME)
    assert report.shift is not None
    assert [each.step for each in report.shift.steps] == [40]
    assert [each.position_activity is None for each in report.snapshots] == [False, True, True]
    opened = open_run(tmp_path / "rl_model_80_steps.pt", settings=SAME)
    assert scan_opened(opened).snapshots[0].position_activity == 1.0
