"""What a user may call entries of a replay, and columns that stand alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradscope import open_replay
from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.read.table_columns import chosen
from gradscope.records import Replay

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["observations", "obs", "States"])
def test_entries_are_named_by_any_usual_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "odd.npz"
    np.savez(path, foo=np.arange(6.0).reshape(3, 2), t=np.array([0, 0, 1]))
    replay = open_replay(path, {name: "foo", "ends": "t"})
    assert replay.observations[""].ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert replay.ends is not None
    assert replay.ends.ravel().tolist() == [0, 0, 1]


def test_a_usual_name_of_an_entry_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    np.savez(path, foo=np.ones((3, 2)), t=np.zeros(3))
    with pytest.raises(UnreadableFile, match="no entry 'nope'"):
        open_file(path, {"obs": "foo", "ends": "nope"})


def test_one_numbered_column_is_an_array_where_its_name_is_usual() -> None:
    columns = chosen(["obs_0", "obs_1", "action_0", "reward", "x_0"], {})
    assert columns == {
        "observations": {"": ["obs_0", "obs_1"]},
        "actions": {"": ["action_0"]},
        "rewards": {"": ["reward"]},
    }
    assert chosen(["obs1", "obs2", "act"], {})["next_observations"] == {"": ["obs2"]}


@pytest.mark.parametrize(("kind", "expected"), [(np.float32, np.float32), (np.float64, np.float64)])
def test_text_of_single_numbers_comes_back_as_these(
    tmp_path: Path, kind: type[np.floating], expected: type[np.floating]
) -> None:
    numbers = np.random.default_rng(0).standard_normal((50, 5)).astype(kind)
    path = tmp_path / "rows.csv"
    lines = [
        ",".join([*map(str, row.tolist() if kind is np.float64 else row), "0.5", "0"]) for row in numbers
    ]
    path.write_text("\n".join(["obs_0,obs_1,next_obs_0,next_obs_1,reward,action_0,done", *lines]) + "\n")
    replay = open_file(path)
    assert isinstance(replay, Replay)
    assert replay.ring is not None, replay.ring_reason
    found = replay.ring.observations[""]
    assert found.dtype == expected
    assert (found.reshape(50, 2) == numbers[:, :2]).all()
