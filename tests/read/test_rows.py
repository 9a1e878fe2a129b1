"""Rows under other people's names: which entry is what, environments, ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradscope.read.file_bytes import Malformed
from gradscope.read.rows import named_rows, replay_of

N = 5
OBS = np.arange(N * 3, dtype=np.float32).reshape(N, 3)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["obs", "act", "rew"], {"observations": "obs", "actions": "act", "rewards": "rew"}),
        (["State", "Next_State"], {"observations": "State", "next_observations": "Next_State"}),
        (["observations", "obs", "actions"], {"observations": "observations", "actions": "actions"}),
        (["timesteps", "results", "ep_lengths"], {}),
        (["obs"], {}),
        (["actions", "rewards"], {}),
        ([], {}),
    ],
)
def test_usual_names(entries: list[str], expected: dict[str, str]) -> None:
    assert named_rows(entries, {}) == expected


def test_the_users_names_come_first() -> None:
    found = named_rows(["x", "obs", "act"], {"observations": "x", "actions": "obs"})
    assert found == {"observations": "x", "actions": "obs"}
    with pytest.raises(Malformed, match="has no entry 'nothing'"):
        named_rows(["x"], {"observations": "nothing"})


def replay(**rows: Any) -> Any:
    return replay_of(Path("buffer_300_steps.npz"), "numpy", rows)


def test_one_environment() -> None:
    found = replay(
        observations=OBS, actions=np.zeros((N, 2)), rewards=np.ones((N, 1)), dones=np.eye(N)[0] > 0
    )
    assert found.observations[""].shape == (N, 1, 3)
    assert found.actions.shape == (N, 1, 2)
    assert found.rewards.shape == found.ends.shape == (N, 1)
    assert found.ends.tolist() == [[1], [0], [0], [0], [0]]
    assert (found.num_rows, found.num_environments, found.step, found.step_from) == (N, 1, 300, "name")


def test_several_environments() -> None:
    found = replay(observations=np.zeros((N, 4, 3)), actions=np.zeros((N, 4)), rewards=np.zeros((N, 4)))
    assert (found.num_environments, found.num_rows) == (4, 20)
    assert found.actions.shape == (N, 4, 1)


def test_numbers_as_observations_and_dicts_of_them() -> None:
    assert replay(observations=np.arange(N), rewards=np.ones(N)).observations[""].shape == (N, 1, 1)
    found = replay(observations={"image": np.zeros((N, 2, 2), np.uint8), "state": OBS}, rewards=np.ones(N))
    assert {key: each.shape for key, each in found.observations.items()} == {
        "image": (N, 1, 2, 2),
        "state": (N, 1, 3),
    }


def test_a_time_limit_is_no_end() -> None:
    dones, limits = np.array([0, 1, 0, 0, 1]), np.array([0, 0, 0, 0, 1])
    assert replay(observations=OBS, dones=dones, timeouts=limits).ends.ravel().tolist() == [0, 1, 0, 0, 0]
    found = replay(observations=OBS, dones=dones, terminations=dones - limits, timeouts=limits)
    assert found.ends.ravel().tolist() == [0, 1, 0, 0, 0]
    assert replay(observations=OBS, rewards=dones).ends is None


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ({"rewards": np.ones(N)}, "no observations"),
        ({"observations": OBS, "rewards": np.ones(N + 1)}, "different numbers of rows"),
        ({"observations": OBS.astype("U8"), "rewards": np.ones(N)}, "no rows of numbers"),
        ({"observations": OBS, "rewards": np.array(1.0)}, "no rows of numbers"),
    ],
)
def test_no_replay(rows: dict[str, Any], problem: str) -> None:
    with pytest.raises(Malformed, match=problem):
        replay(**rows)
