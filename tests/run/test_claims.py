"""Two runs that saved into one folder: each checkpoint is measured on its own run's buffer, or on none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.run import open_run, scan_opened
from gradscope.run.claims import words

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.run.join import Moment


@pytest.fixture
def both(sb3_files: Callable[[str], Path], tmp_path: Path) -> Path:
    """Runs of SAC and TD3, called runA and runB."""
    for name, algorithm in (("runA", "SAC"), ("runB", "TD3")):
        for file in sb3_files(algorithm).iterdir():
            shutil.copy(file, tmp_path / file.name.replace("rl_model", name))
    return tmp_path


def claimed(folder: Path) -> dict[str, tuple[str | None, str | None]]:
    def names(moment: Moment) -> tuple[str | None, str | None]:
        replay = moment.replay.replay.source.name if moment.replay else None
        return replay, moment.normalizer.source.name if moment.normalizer else None

    return {each.main.source.name: names(each) for each in open_run(folder).runs[0].moments}


def test_every_checkpoint_has_the_files_of_its_run(both: Path, sb3_files: Callable[[str], Path]) -> None:
    assert claimed(both) == {
        f"{run}_{step}_steps.zip": (
            f"{run}_replay_buffer_{step}_steps.pkl",
            f"{run}_vecnormalize_{step}_steps.pkl",
        )
        for run in ("runA", "runB")
        for step in (64, 128)
    }
    found = {(each.source, each.norm) for each in scan_opened(open_run(both)).snapshots}
    alone = scan_opened(open_run(sb3_files("TD3"))).snapshots
    assert {(each.source.replace("rl_model", "runB"), each.norm) for each in alone} <= found


def test_what_is_named_for_another_run_is_nobody_elses(both: Path) -> None:
    for kind in ("replay_buffer", "vecnormalize"):
        (both / f"runB_{kind}_64_steps.pkl").unlink()
    assert claimed(both)["runB_64_steps.zip"] == (None, None)
    assert claimed(both)["runA_64_steps.zip"][0] == "runA_replay_buffer_64_steps.pkl"


def test_a_buffer_of_no_ones_name_serves_all(both: Path) -> None:
    for run in ("runA", "runB"):
        (both / f"{run}_replay_buffer_64_steps.pkl").rename(both / "buffer_64_steps.pkl")
    assert claimed(both)["runB_64_steps.zip"][0] == "buffer_64_steps.pkl"


def test_a_double_is_measured_on_the_buffer_of_what_it_doubles(
    sb3_files: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(sb3_files("SAC"), tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "rl_model_128_steps.zip", tmp_path / "best_model.zip")
    assert claimed(tmp_path)["best_model.zip"][0] == "rl_model_replay_buffer_128_steps.pkl"


def buffers_of(folder: Path, names: dict[str, str | None]) -> None:
    """Checkpoints of two runs and their buffers under these names; what each is measured on."""
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        torch.save({"model": nn.Linear(2, 2).state_dict()}, folder / f"{name}.pt")
    for buffer in filter(None, names.values()):
        np.savez(folder / f"{buffer}.npz", obs=np.ones((5, 2)), act=np.ones(5))
    found = {each.main.source.stem: each.replay for each in open_run(folder).runs[0].moments}
    assert {name: each and each.replay.source.stem for name, each in found.items()} == names


@pytest.mark.parametrize(
    "names",
    [
        {"runA_step_2000": "runA_buffer_step_2000", "runB_step_2000": "runB_buffer_step_2000"},
        {"runA_step_2000": "runA_buffer_step_2000", "runB_step_2000": None},
        {"runA_2000": "replay_buffer_runA_2000", "runB_2000": "replay_buffer_runB_2000"},
        {"runA_ckpt_2000": "runA_replay_2000", "runB_ckpt_2000": "runB_replay_2000"},
        {"SAC_A_2000": "sac_a_buffer_2000", "SAC_B_2000": "sac_b_buffer_2000"},
        {"sac_2000": "sac_buffer_2000", "sac_critic_2000": "sac_buffer_2000"},
        {"sac_2000": "sac_buffer_2000", "sac_fast_2000": "sac_fast_buffer_2000"},
        {"actor_2000": "buffer_2000", "critic_2000": "buffer_2000"},
        {"actor_2000": "halfcheetah_2000", "critic_2000": "halfcheetah_2000"},
    ],
)
def test_however_files_are_named(tmp_path: Path, names: dict[str, str | None]) -> None:
    buffers_of(tmp_path, names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rl_model_2000_steps.zip", {"rl"}),
        ("rl_model_replay_buffer_2000_steps.pkl", {"rl"}),
        ("rl_model_vecnormalize_2000_steps.pkl", {"rl"}),
        ("a-replay-buffer-7.npz", {"a"}),
        ("model_100.pt", set()),
        ("2000.pt", set()),
        ("x" * 255, {"x" * 255}),
    ],
)
def test_whose_a_file_is(name: str, expected: set[str]) -> None:
    assert words(Path(name)) == expected
