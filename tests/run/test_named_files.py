"""A PATH that is a file: that file and what belongs to it, and nothing of its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from run.run_folders import POSITION, checkpoint, recorded, replay, rows, timeline

from gradscope.errors import NothingReadable
from gradscope.run import open_run, scan, with_shift
from gradscope.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Settings(slices={"position": ("3:4",)}, slices_from="option")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (40, 80, 120):
        checkpoint(tmp_path, step)
        replay(tmp_path, f"rl_model_replay_buffer_{step}_steps.pkl", rows(step, 0.9 if step > 40 else 0.0))
        recorded(tmp_path, step, rows(16, 0.5), 8)
    timeline(tmp_path)
    return tmp_path


def test_several_files_are_only_those_files(folder: Path) -> None:
    report = scan(folder / "rl_model_40_steps.pt", folder / "rl_model_120_steps.pt", settings=SETTINGS)
    assert [each.step for each in report.snapshots] == [40, 120]
    assert [each.step for each in report.replays] == [40, 120]


def test_a_file_beside_a_folder_takes_nothing_from_the_folder(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    checkpoint(other, 5)
    checkpoint(other, 6)
    report = scan(other, folder / "rl_model_40_steps.pt", settings=SETTINGS)
    assert [(each.run, each.step) for each in report.snapshots] == [(".", 40), ("other", 5), ("other", 6)]


def test_the_window_of_a_file_alone_begins_at_the_checkpoint_before_it(folder: Path) -> None:
    opened = open_run(folder / "rl_model_80_steps.pt", settings=SETTINGS)
    report = with_shift(scan(folder / "rl_model_80_steps.pt", settings=SETTINGS), opened)
    assert report.shift is not None
    assert [each.num_rows for each in report.shift.steps] == [40]


@pytest.mark.parametrize(
    "name",
    [
        "rl_model_80_steps.pt",
        "rl_model_gradscope_80_steps.safetensors",
        "rl_model_replay_buffer_80_steps.pkl",
    ],
)
def test_any_file_of_a_step_names_the_snapshot_of_that_step(folder: Path, name: str) -> None:
    (only,) = scan(folder / name, settings=SETTINGS).snapshots
    assert only.source == "rl_model_80_steps.pt"
    assert only.gradient_source == "rl_model_gradscope_80_steps.safetensors"


def test_a_file_alone_rests_where_its_run_rests(tmp_path: Path) -> None:
    for step in (40, 80):
        checkpoint(tmp_path, step)
        replay(tmp_path, f"rl_model_replay_buffer_{step}_steps.pkl", rows(step, 0.0 if step == 40 else 1.0))
    together = scan(tmp_path, settings=SETTINGS).snapshots[1].position_activity
    assert together == 1.0
    (alone,) = scan(tmp_path / "rl_model_80_steps.pt", settings=SETTINGS).snapshots
    assert alone.position_activity == together


@pytest.mark.parametrize("name", ["notes.txt", "broken.zip"])
def test_an_unknown_or_broken_file_alone_is_nothing_readable(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"hello")
    with pytest.raises(NothingReadable):
        scan(folder / name, settings=SETTINGS)
    report = scan(folder / name, folder / "rl_model_80_steps.pt", settings=SETTINGS)
    assert len(report.snapshots) == 1


def test_a_broken_sibling_is_not_the_named_files_fault(folder: Path) -> None:
    (folder / "broken.zip").write_bytes(b"hello")
    report = scan(folder / "rl_model_80_steps.pt", settings=SETTINGS)
    assert not report.unreadable
    assert not report.skipped


def test_python_reads_the_configuration_that_the_command_line_reads(folder: Path) -> None:
    (folder / "gradscope.toml").write_text(f'[slices]\nposition = "{POSITION["position"]}"\n')
    report = scan(folder)
    assert report.slices_from == "config"
    assert not report.skipped
    assert scan(folder, settings=Settings()).slices_from == "recorded"


def test_a_configuration_further_down_is_no_skipped_file_and_is_told(folder: Path) -> None:
    run = folder / "run"
    run.mkdir()
    checkpoint(run, 5)
    (run / "gradscope.toml").write_text("[limits]\nwarn = 0.2\n")
    report = scan(folder)
    assert not report.skipped
    assert [note for note in report.notes if note.startswith("run/gradscope.toml is not used")]
    assert report.limits["warn"] == 0.1
