"""Run folders as people leave them: copies, links, step folders, several runs in one tree."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from checkpoints_made import saved

from gradscope import scan
from gradscope.run import one_run, open_run, scan_opened, with_associations

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.records import Report


def listed(report: Report) -> list[tuple[str, int | None, str]]:
    return [(each.run, each.step, each.source) for each in report.snapshots]


def test_steps_are_in_the_order_of_their_numbers_whatever_names_them(tmp_path: Path) -> None:
    saved(tmp_path / "agent_900.pt")
    saved(tmp_path / "1e6.pt")
    saved(tmp_path / "ckpt_500k.pth")
    saved(tmp_path / "epoch=1-step=20.ckpt")
    saved(tmp_path / "z.pt", step=7)
    report = scan(tmp_path)
    assert [each.step for each in report.snapshots] == [7, 20, 900, 500_000, 1_000_000]


def test_a_folder_that_names_a_step_is_a_step_of_the_run_above(tmp_path: Path) -> None:
    for step in (1000, 200):
        saved(tmp_path / "run" / f"step_{step}" / "model.pt")
    saved(tmp_path / "other" / "epoch_3" / "policy.pth", step=3000)
    report = scan(tmp_path)
    assert listed(report) == [
        ("other", 3000, "other/epoch_3/policy.pth"),
        ("run", 200, "run/step_200/model.pt"),
        ("run", 1000, "run/step_1000/model.pt"),
    ]
    assert [each.step_from for each in report.snapshots] == ["step", "folder", "folder"]


def test_a_folder_of_several_steps_is_a_run_whatever_it_is_called(tmp_path: Path) -> None:
    for step in (1, 2):
        saved(tmp_path / "iter_5" / f"model_{step}.pt")
    saved(tmp_path / "iter_5" / "final.pt", seed=1)
    report = scan(tmp_path)
    assert listed(report) == [
        ("iter_5", 1, "iter_5/model_1.pt"),
        ("iter_5", 2, "iter_5/model_2.pt"),
        ("iter_5", None, "iter_5/final.pt"),
    ]
    assert "its folder holds others" in report.snapshots[2].reasons["step"]
    assert "run iter_5: no step is known of final.pt: listed last, by name, and in no series" in report.notes


def test_a_step_folder_named_alone_is_the_run(tmp_path: Path) -> None:
    saved(tmp_path / "step_1000" / "model.pt")
    assert listed(scan(tmp_path / "step_1000")) == [(".", 1000, "model.pt")]


def test_seeds_side_by_side_are_runs(tmp_path: Path) -> None:
    for seed in ("0", "seed_1", "version_2"):
        saved(tmp_path / seed / "ckpt_10.pt")
    opened = open_run(tmp_path)
    assert [run.files.run for run in opened.runs] == ["0", "seed_1", "version_2"]
    assert listed(scan_opened(one_run(opened, "seed_1"))) == [("seed_1", 10, "seed_1/ckpt_10.pt")]


def test_a_link_to_a_file_of_the_tree_is_another_name_of_it(tmp_path: Path) -> None:
    saved(tmp_path / "ckpt_3000.pt")
    (tmp_path / "a_latest.pt").symlink_to("ckpt_3000.pt")
    (tmp_path / "last").symlink_to(tmp_path)
    os.link(tmp_path / "ckpt_3000.pt", tmp_path / "zz.pt")
    report = scan(tmp_path)
    assert listed(report) == [(".", 3000, "ckpt_3000.pt")]
    assert {each.source: each.reason for each in report.skipped} == {
        "a_latest.pt": "a link to ckpt_3000.pt, which is looked at itself",
        "zz.pt": "the same file (hard link) as ckpt_3000.pt, which is looked at itself",
        "last": "a link to a folder is not followed. Name it as PATH",
    }
    assert listed(scan(tmp_path / "a_latest.pt")) == [(".", None, "a_latest.pt")]


def test_a_link_to_a_folder_of_the_tree_says_which(tmp_path: Path) -> None:
    saved(tmp_path / "ckpt_3000" / "model.pt")
    (tmp_path / "latest").symlink_to("ckpt_3000")
    (only,) = scan(tmp_path).skipped
    assert only.reason == "a link to ckpt_3000, which is looked at itself"


def test_copies_and_best_beside_a_numbered_file_are_listed_and_count_once(tmp_path: Path) -> None:
    numbered = [saved(tmp_path / f"model_{step}.pt", seed=step, step=step) for step in range(1, 13)]
    shutil.copy(numbered[3], tmp_path / "best_model.pt")
    shutil.copy(numbered[4], tmp_path / "a_copy.pt")
    saved(tmp_path / "last.pt", seed=99, step=12)
    opened = open_run(tmp_path)
    report = scan_opened(opened)
    doubles = {each.source: each.double_of for each in report.snapshots if each.double_of}
    assert doubles == {"best_model.pt": "model_4.pt", "a_copy.pt": "model_5.pt", "last.pt": "model_12.pt"}
    notes = "\n".join(report.notes)
    assert "best_model.pt: holds the same bytes as model_4.pt, step 4: it counts once" in notes
    assert "last.pt: step 12 is claimed by model_12.pt too" in notes
    (found,) = with_associations(report, opened).associations
    assert [point.step for point in found.series] == [*range(1, 13)]


def test_a_copy_that_tells_no_step_is_recognised_by_its_bytes(tmp_path: Path) -> None:
    shutil.copy(saved(tmp_path / "model_4.pt"), tmp_path / "best.pt")
    saved(tmp_path / "other.pt", seed=3)
    found = {each.source: each.double_of for each in scan(tmp_path).snapshots}
    assert found == {"model_4.pt": None, "best.pt": "model_4.pt", "other.pt": None}


def test_actor_and_critic_of_one_step_both_count(tmp_path: Path) -> None:
    saved(tmp_path / "step_5" / "actor.pt")
    saved(tmp_path / "step_5" / "critic.pt", seed=1)
    report = scan(tmp_path)
    assert [each.double_of for each in report.snapshots] == [None, None]
    assert "step_5/actor.pt: step 5 is claimed by step_5/critic.pt too" in report.notes


def test_unknown_steps_are_listed_by_number_and_never_called_an_order(tmp_path: Path) -> None:
    for number in (10, 9):
        saved(tmp_path / f"actor{number}.pt", seed=number)
    report = scan(tmp_path)
    assert [each.source for each in report.snapshots] == ["actor9.pt", "actor10.pt"]
    assert "no step is known of actor9.pt, actor10.pt: listed last, by name, and in no series" in report.notes


def test_shapes_that_change_between_steps_are_told(tmp_path: Path) -> None:
    saved(tmp_path / "model_1.pt")
    saved(tmp_path / "model_2.pt", width=6)
    notes = [each for each in scan(tmp_path).notes if "another network" in each]
    (note,) = notes
    assert note.startswith("model_2.pt: another network than the step before? 0.weight from [4, 3] to [6, 3]")
    assert note.endswith("and 2 more layers")


@pytest.mark.parametrize("number", ["-5", "9" * 31])
def test_a_number_that_is_no_step_is_told(tmp_path: Path, number: str) -> None:
    saved(tmp_path / f"step_{number}.pt")
    (only,) = scan(tmp_path).snapshots
    assert only.step is None
    assert "the name's number is no step" in only.notes[0]
