"""What a new user's folders are told: once, truly, and by name where something can be done."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from typing import TYPE_CHECKING

import gymnasium
import numpy as np
import pytest
import torch
from checkpoints_made import saved
from run.run_folders import recorded, rows
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

from gradscope import scan, show_as
from gradscope.records import TRAINING_LOG
from gradscope.run import open_run, scan_opened, with_associations
from gradscope.show.scan_screen import MOST_STEPS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    environment = Monitor(gymnasium.make("Pendulum-v1"), str(folder / "monitor.csv"))
    model = SAC(
        "MlpPolicy",
        environment,
        seed=0,
        learning_starts=10,
        buffer_size=100,
        batch_size=8,
        policy_kwargs={"net_arch": [8]},
    )
    model.set_logger(configure(str(folder), ["csv", "json"]))
    model.learn(40, callback=CheckpointCallback(20, str(folder), save_replay_buffer=True))
    model.logger.record("some/number", 1.0)
    model.logger.record("other/number", 2.0)
    model.logger.dump(40)
    model.save(folder / "final_model")
    model.save_replay_buffer(folder / "final_buffer")
    return folder


def test_a_final_model_is_measured_on_the_final_buffer_not_on_the_one_a_transition_behind(run: Path) -> None:
    report = scan(run)
    (final,) = (each for each in report.snapshots if each.source == "final_model.zip")
    assert final.step == 40
    assert final.zero_fraction is not None
    assert not [note for note in report.notes if "final_buffer" in note]


def test_without_its_buffer_a_final_model_is_not_said_to_have_used_vec_normalize(
    run: Path, tmp_path: Path
) -> None:
    for name in ("final_model.zip", "rl_model_replay_buffer_40_steps.pkl"):
        shutil.copy(run / name, tmp_path)
    (final,) = scan(tmp_path).snapshots
    assert "or the checkpoint was saved one step after this buffer" in final.reasons["zero_fraction"]


def test_logs_beside_checkpoints_are_called_logs(run: Path) -> None:
    skipped = {each.source: each.reason for each in scan(run).skipped}
    assert skipped == dict.fromkeys(("monitor.csv", "progress.csv", "progress.json"), TRAINING_LOG)


def test_a_double_says_what_it_doubles_and_the_other_says_nothing(run: Path) -> None:
    notes = [note for note in scan(run).notes if "step 40" in note]
    assert len(notes) == 1
    assert notes[0].startswith(
        "final_model.zip: step 40 is claimed by rl_model_40_steps.zip too, which counts"
    )


def test_what_is_told_of_many_files_is_told_once(tmp_path: Path) -> None:
    for step in range(5):
        weights = torch.nn.Linear(2, 2).state_dict()
        content = {"model": weights, "args": argparse.Namespace(lr=0.1), "step": step}
        torch.save(content, tmp_path / f"{step}.pt")
    (note,) = scan(tmp_path).notes
    assert note.startswith("0.pt, 1.pt, 2.pt and 2 more: ")
    assert "argparse.Namespace" in note


def test_many_steps_fill_a_few_screens_and_what_tells_is_among_them(tmp_path: Path) -> None:
    for step in range(100):
        gradient = torch.zeros(4, 4) if step >= 71 else torch.ones(4, 4)
        content = {"model": {"0.weight": torch.ones(4, 4)}, "grads": {"0.weight": gradient}, "step": step}
        torch.save(content, tmp_path / f"{step}.pt")
    lines = show_as(scan(tmp_path), "terminal").split("Crossings")[0].splitlines()
    steps = [int(line.split()[0]) for line in lines if line.strip()[:1].isdigit() and "%" in line]
    assert len(steps) == MOST_STEPS
    assert (steps[0], steps[-1]) == (0, 99)
    assert 71 in steps
    assert f"and {100 - MOST_STEPS} snapshots between these; --json and -o list them all" in lines


def test_what_may_be_asked_for_is_skipped_by_name(tmp_path: Path) -> None:
    saved(tmp_path / "model_1.pt")
    np.savez(tmp_path / "odd.npz", foo=np.ones(3))
    (tmp_path / "README.md").write_text("mine")
    screen = show_as(scan(tmp_path), "terminal")
    assert "· 1 skipped: no known format" in screen
    assert "· skipped odd.npz: holds 'foo'" in screen


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a Unix file")
def test_a_fifo_that_was_named_is_called_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    saved(tmp_path / "model_1.pt")
    (left,) = scan(tmp_path / "pipe", tmp_path).unreadable
    assert left.reason.startswith("is a fifo, not a file")
    assert not scan(tmp_path).unreadable


@pytest.mark.parametrize("name", ["a_9_steps.zip", "a_4_steps.zip"])
def test_of_two_copies_the_one_that_a_recorder_file_belongs_to_counts(name: str, tmp_path: Path) -> None:
    for step in (2, 4):
        recorded(tmp_path, step, rows(32, 0.5), 16)
        content = {"model": {"net.weight": torch.ones(8, 4)}, "step": step}
        torch.save(content, tmp_path / f"rl_model_{step}_steps.zip")
    shutil.copy(tmp_path / "rl_model_4_steps.zip", tmp_path / name)
    opened = open_run(tmp_path)
    report = with_associations(scan_opened(opened), opened, "position")
    assert [point.zero_fraction for point in report.associations[0].series] == [0.0, 0.0]
    assert any(note.startswith(f"{name}: holds the same bytes as rl_model_4_steps") for note in report.notes)
    screen = show_as(report, "terminal", width=80)
    assert re.search(rf"^ +4 +{name} +[?] ", screen, re.MULTILINE), screen
    assert re.search(r"^ +4 +rl_model_4_steps.zip +50.0 %", screen, re.MULTILINE)
    assert f"| 4 | {name} | ? |".replace("_", r"\_") in show_as(report, "markdown")
