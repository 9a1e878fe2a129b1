"""What torch.save wrote: replays are told from checkpoints by their names."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from samples_rows import ROWS, experience, transitions

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.records import Replay, Snapshot

if TYPE_CHECKING:
    from pathlib import Path


def saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def tensors() -> dict[str, Any]:
    return {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in experience().items()}


def assert_rows(found: object) -> None:
    assert isinstance(found, Replay)
    assert found.format == "torch"
    assert found.ring is not None
    np.testing.assert_array_equal(found.observations[""][:, 0], experience()["observations"])
    np.testing.assert_array_equal(np.asarray(found.ends)[:, 0], experience()["dones"])


def test_dicts_of_tensors_and_of_arrays(tmp_path: Path) -> None:
    assert_rows(open_file(saved(tmp_path / "b.pt", tensors())))
    assert_rows(open_file(saved(tmp_path / "b.pt", dict(experience()))))
    turned = {name: each.roll(10, 0) for name, each in tensors().items()}
    found = open_file(saved(tmp_path / "b.pt", {**turned, "ptr": 10, "size": ROWS, "max_size": ROWS}))
    assert_rows(found)


def test_lists_of_transitions(tmp_path: Path) -> None:
    rows = [
        tuple(torch.from_numpy(each.copy()) if isinstance(each, np.ndarray) else each for each in row)
        for row in transitions()
    ]
    assert_rows(open_file(saved(tmp_path / "b.pt", rows)))
    assert_rows(open_file(saved(tmp_path / "b.pt", collections.deque(rows))))
    names = ("obs", "action", "reward", "next_obs", "done")
    assert_rows(open_file(saved(tmp_path / "b.pt", [dict(zip(names, row, strict=True)) for row in rows])))


def test_the_users_names(tmp_path: Path) -> None:
    value = {"x": tensors()["observations"], "y": tensors()["actions"]}
    found = open_file(saved(tmp_path / "b.pt", value), {"observations": "x", "actions": "y"})
    assert isinstance(found, Replay)


@pytest.mark.parametrize(
    "beside",
    [
        {"model": torch.nn.Linear(3, 2).state_dict()},
        {"policy": torch.nn.Linear(3, 2)},
        {"fc.weight": torch.ones(2, 3)},
    ],
)
def test_a_checkpoint_that_carries_rows_is_a_checkpoint(tmp_path: Path, beside: dict[str, Any]) -> None:
    assert isinstance(open_file(saved(tmp_path / "c.pt", {**tensors(), **beside})), Snapshot)


def test_lists_of_state_dicts_are_checkpoints(tmp_path: Path) -> None:
    state = torch.nn.Linear(3, 2).state_dict()
    for value in (state, [state, state], (state, state)):
        assert isinstance(open_file(saved(tmp_path / "c.pt", value)), Snapshot)


def test_a_view_of_more_rows_than_bytes(tmp_path: Path) -> None:
    value = {**tensors(), "observations": torch.zeros(1).expand(1 << 40, 3)}
    with pytest.raises(UnreadableFile):
        open_file(saved(tmp_path / "b.pt", value))
