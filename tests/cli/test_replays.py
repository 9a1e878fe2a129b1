"""Replays of other origins through the command line: named, beside checkpoints, under other names."""

from __future__ import annotations

import collections
import json
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from run_cli import gradscope
from samples_rows import npz_file

from gradscope.settings import Settings
from gradscope.store import state_key

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("observations", "next_observations", "actions", "rewards", "dones")


def exported(folder: Path, step: int) -> dict[str, Any]:
    buffer = pickle.loads((folder / f"rl_model_replay_buffer_{step}_steps.pkl").read_bytes())
    found = {name: getattr(buffer, name)[: buffer.pos, 0] for name in NAMES}
    found["dones"] = found["dones"] * (1 - buffer.timeouts[: buffer.pos, 0])
    return found


def scanned(directory: Path, *options: str) -> dict[str, Any]:
    result = gradscope("scan", *options, "--json", directory=directory)
    assert result.code == 0, result.err
    document: dict[str, Any] = json.loads(result.out)
    return document


def layers_of(document: dict[str, Any]) -> list[Any]:
    return [
        (layer["name"], layer["num_zero"], layer["norm"]) for layer in document["snapshots"][-1]["layers"]
    ]


@pytest.fixture
def own(sb3_files: Callable[[str], Path], tmp_path: Path) -> Path:
    """A run folder whose buffer somebody keeps as npz, with what lies about in such folders."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("rl_model_128_steps.zip", "rl_model_vecnormalize_128_steps.pkl"):
        shutil.copy(sb3_files("SAC") / name, folder)
    np.savez(folder / "rows_128_steps.npz", **exported(sb3_files("SAC"), 128))
    np.savez(folder / "evaluations.npz", timesteps=np.arange(3), results=np.ones((3, 5)))
    (folder / "args.pkl").write_bytes(pickle.dumps({"learning_rate": 3e-4}))
    return folder


def test_a_replay_beside_its_checkpoint(own: Path, sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    document = scanned(tmp_path, str(own))
    assert document["snapshots"][0]["origin"] == "recomputed"
    assert {each["source"] for each in document["skipped"]} == {"evaluations.npz", "args.pkl"}
    assert document["unreadable"] == []
    assert layers_of(document) == layers_of(scanned(tmp_path, str(sb3_files("SAC"))))
    shift = gradscope("shift", str(own), "--slice", "x=0:2", directory=tmp_path)
    assert shift.code == 0, shift.err
    assert gradscope("correlate", str(own), "--slice", "x=0:2", directory=tmp_path).code == 0


def test_a_named_deque_says_how_it_was_read(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    rows = exported(sb3_files("SAC"), 128)
    order = ("observations", "actions", "rewards", "next_observations", "dones")
    memory = collections.deque(zip(*(rows[name] for name in order), strict=True))
    (tmp_path / "memory.pkl").write_bytes(pickle.dumps(memory))
    options = ["--replay", str(tmp_path / "memory.pkl")]
    document = scanned(tmp_path, str(sb3_files("SAC")), *options)
    assert layers_of(document) == layers_of(scanned(tmp_path, str(sb3_files("SAC"))))
    shown = gradscope("scan", str(sb3_files("SAC")), *options, directory=tmp_path).out
    assert "--replay memory.pkl: transitions are read as (observation, action, reward" in " ".join(
        shown.split()
    )


def test_names_of_the_users_own(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    rows = exported(sb3_files("SAC"), 128)
    np.savez(
        tmp_path / "strange.npz", **{f"column {place}": each for place, each in enumerate(rows.values())}
    )
    options = [str(sb3_files("SAC")), "--replay", str(tmp_path / "strange.npz")]
    refused = gradscope("scan", *options, directory=tmp_path)
    assert refused.code == 2
    assert "Name them: --replay-keys" in refused.err
    keys = ",".join(f"{name}=column {place}" for place, name in enumerate(NAMES))
    named = scanned(tmp_path, *options, "--replay-keys", keys)
    assert layers_of(named) == layers_of(scanned(tmp_path, str(sb3_files("SAC"))))


def test_a_layout_that_does_not_fit_says_why(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "half.npz", obs=np.zeros((9, 3), np.float32), act=np.zeros((9, 1), np.float32))
    reasons = {
        npz_file(tmp_path, None): "no gradients: actor.mu has another number of outputs than 2",
        tmp_path / "half.npz": "no gradients: the replay has no next_observations, no rewards, no ends",
    }
    for path, reason in reasons.items():
        refused = gradscope("scan", str(sb3_files("SAC")), "--replay", str(path), directory=tmp_path)
        assert refused.code == 2
        assert reason in refused.err
        assert refused.err.count("\n") == 1


@pytest.mark.parametrize("command", ["scan", "shift", "report"])
def test_errors_show_the_path_of_replay_as_it_was_typed(command: str, own: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (own / "odd.npz").write_bytes(b"PK\x03\x04")
    done = gradscope(command, "../own", "--replay", "../own/odd.npz", directory=tmp_path / "here")
    assert done.code == 2
    assert done.err.startswith("gradscope: --replay ../own/odd.npz: is a zip of no known layout")
    keys = ("--replay", "../own/rows_128_steps.npz", "--replay-keys", "observations=nope")
    done = gradscope(command, "../own", *keys, directory=tmp_path / "here")
    assert done.code == 2
    assert done.err.startswith("gradscope: --replay ../own/rows_128_steps.npz: has no entry 'nope'. It has")
    assert "'observations'" in done.err


def test_a_replay_is_the_same_file_by_any_path(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    rows = own / "rows_128_steps.npz"
    assert state_key(Settings(replay=Path(rows.name)), [rows]) == state_key(Settings(replay=rows), [rows])


def test_a_name_that_no_replay_has_is_refused(tmp_path: Path) -> None:
    done = gradscope("scan", str(tmp_path), "--replay-keys", "nonsense=obs", directory=tmp_path)
    assert done.code == 2
    problem = "'nonsense' is no name of a replay's entries. Names: observations, next_observations,"
    assert done.err.startswith(f"gradscope: --replay-keys nonsense=obs: {problem}")


def test_names_without_effect_are_said_to_be(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    document = scanned(tmp_path, str(sb3_files("SAC")), "--replay-keys", "observations=nope")
    assert "--replay-keys is without effect: no buffer here has entries that need names" in document["notes"]


@pytest.mark.parametrize("command", [("explain", "--step"), ("try", "--from")])
def test_a_step_whose_file_is_broken_is_not_called_missing(
    sb3_files: Callable[[str], Path], tmp_path: Path, command: tuple[str, str]
) -> None:
    shutil.copytree(sb3_files("SAC"), tmp_path / "run")
    (tmp_path / "run" / "rl_model_128_steps.zip").write_bytes(b"PK\x03\x04cut")
    done = gradscope(command[0], "run", command[1], "128", directory=tmp_path)
    assert done.code == 2
    assert f"{command[1]} 128: rl_model_128_steps.zip could not be read. Steps" in done.err


def test_normalizers_of_no_snapshot_are_told(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(sb3_files("SAC"), tmp_path / "run")
    one = tmp_path / "run" / "rl_model_vecnormalize_64_steps.pkl"
    for step in range(1000, 1010):
        shutil.copy(one, one.with_name(f"rl_model_vecnormalize_{step}_steps.pkl"))
    told = [note for note in scanned(tmp_path, "run")["notes"] if "not used" in note]
    assert len(told) == 4
    assert told[0] == (
        "rl_model_vecnormalize_1000_steps.pkl is not used: it has step 1000, which no snapshot has, "
        "so no snapshot could claim it"
    )
    assert told[-1] == "7 more files are not used"
