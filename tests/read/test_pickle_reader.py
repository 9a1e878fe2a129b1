"""Pickles of buffers that people write themselves, against the arrays that went in; and what is none."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples_rows import ROWS, experience

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file, reader_of
from gradscope.records import Replay, Snapshot

ROOM = 60


class ReplayBuffer:
    """Attributes are all that such classes have in common."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def saved(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def replay(path: Path, value: object, protocol: int = 4, **keys: str) -> Replay:
    found = open_file(saved(path, value, protocol), keys)
    assert isinstance(found, Replay)
    assert found.format == "pickle"
    return found


def preallocated(rows: int = ROWS) -> dict[str, Any]:
    """Arrays with room for more than the rows there are, as libraries write them: wrapped beyond ROOM."""
    whole = experience(rows)
    found = {}
    for name, each in whole.items():
        room = np.zeros((ROOM, *each.shape[1:]), each.dtype)
        room[np.arange(rows) % ROOM] = each  # of two rows of one place, the later one stays
        found[name] = room
    return found


def assert_newest(found: Replay, rows: int) -> None:
    """The newest ROOM rows, the oldest of them first."""
    wanted = {name: each[-ROOM:] for name, each in experience(rows).items()}
    np.testing.assert_array_equal(found.observations[""][:, 0], wanted["observations"])
    assert found.next_observations is not None
    np.testing.assert_array_equal(found.next_observations[""][:, 0], wanted["next_observations"])
    np.testing.assert_array_equal(np.asarray(found.actions)[:, 0], wanted["actions"])
    np.testing.assert_array_equal(np.asarray(found.rewards)[:, 0], wanted["rewards"])
    np.testing.assert_array_equal(np.asarray(found.ends)[:, 0], wanted["dones"])
    assert found.num_rows == min(rows, ROOM)


SPINNING_UP = ("obs_buf", "obs2_buf", "act_buf", "rew_buf", "done_buf")
TABOR = ("state_memory", "new_state_memory", "action_memory", "reward_memory", "terminal_memory")
FUJIMOTO = ("state", "next_state", "action", "reward", "not_done")
YARATS = ("obses", "next_obses", "actions", "rewards", "not_dones")


def named(names: tuple[str, ...], rows: int) -> dict[str, Any]:
    arrays = preallocated(rows)
    if "not" in names[-1]:
        arrays["dones"] = 1 - arrays["dones"][:, None]
        arrays["rewards"] = arrays["rewards"][:, None]
    return dict(zip(names, arrays.values(), strict=True))


@pytest.mark.parametrize("rows", [0, 1, ROWS, ROOM, ROOM + 1, 100, 2 * ROOM])
@pytest.mark.parametrize("layout", ["spinning up", "counter", "td3", "full flag", "dict"])
def test_rings_of_well_known_layouts(tmp_path: Path, layout: str, rows: int) -> None:
    place, size = rows % ROOM, min(rows, ROOM)
    value = {
        "spinning up": lambda: ReplayBuffer(**named(SPINNING_UP, rows), ptr=place, size=size, max_size=ROOM),
        "counter": lambda: ReplayBuffer(**named(TABOR, rows), mem_cntr=rows, mem_size=ROOM),
        "td3": lambda: ReplayBuffer(
            **named(FUJIMOTO, rows), ptr=place, size=size, max_size=ROOM, device=torch.device("cpu")
        ),
        "full flag": lambda: ReplayBuffer(**named(YARATS, rows), idx=place, full=rows >= ROOM, capacity=ROOM),
        "dict": lambda: {
            **preallocated(rows),
            "pos": np.int64(place),
            "size": np.array(size),
            "max_size": ROOM,
        },
    }[layout]()
    found = replay(tmp_path / "b.pkl", value)
    assert_newest(found, rows)
    assert found.overwritten == (rows >= ROOM)
    assert found.capacity == ROOM


def test_without_a_size_the_rows_beyond_tell(tmp_path: Path) -> None:
    found = replay(tmp_path / "b.pkl", preallocated(ROWS) | {"ptr": ROWS})
    assert_newest(found, ROWS)
    assert any("those beyond are empty" in note for note in found.notes)
    found = replay(tmp_path / "b.pkl", preallocated(100) | {"ptr": 40})
    assert_newest(found, 100)
    assert any("the ring has wrapped" in note for note in found.notes)
    found = replay(tmp_path / "b.pkl", preallocated(ROWS) | {"ptr": ROWS, "size": ROOM})
    assert found.num_rows == ROWS


@pytest.mark.parametrize("numbers", [{"size": 99}, {"ptr": 3, "size": 20}, {"ptr": 61, "full": False}])
def test_numbers_that_contradict_the_rows(tmp_path: Path, numbers: dict[str, int]) -> None:
    with pytest.raises(UnreadableFile, match="says that"):
        open_file(saved(tmp_path / "b.pkl", preallocated() | numbers))


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    assert_newest(replay(tmp_path / "b.pkl", dict(experience(30)), protocol), 30)
    assert_newest(replay(tmp_path / "b.pickle", [dict(experience(30))], protocol), 30)


def test_dict_observations_and_the_users_names(tmp_path: Path) -> None:
    rows = experience()
    value = {
        "obs": {"a": rows["observations"], "b": rows["observations"] + 1},
        "act": rows["actions"],
        "x": rows["rewards"],
    }
    found = replay(tmp_path / "b.pkl", value, rewards="x")
    assert set(found.observations) == {"a", "b"}
    np.testing.assert_array_equal(np.asarray(found.rewards)[:, 0], rows["rewards"])
    with pytest.raises(UnreadableFile, match=r"has no entry 'y'. It has 'obs', 'act', 'x'"):
        open_file(tmp_path / "b.pkl", {"rewards": "y"})


def test_weights_of_numpy(tmp_path: Path) -> None:
    state = {name: each.numpy() for name, each in torch.nn.Linear(3, 2).state_dict().items()}
    for value in (
        state,
        {"policy": state, "iteration": 3},
        {"params": {"Dense_0": {"kernel": np.ones((3, 2))}}},
    ):
        found = open_file(saved(tmp_path / "w.pkl", value))
        assert isinstance(found, Snapshot)
        assert found.layers
    nested = open_file(saved(tmp_path / "w.pkl", {"policy": state}))
    assert isinstance(nested, Snapshot)
    np.testing.assert_array_equal(nested.layers["policy.weight"].weight, state["weight"])
    tensors = open_file(saved(tmp_path / "w.pkl", torch.nn.Linear(3, 2).state_dict()))
    assert isinstance(tensors, Snapshot)
    assert tensors.layers["weight"].shape == (2, 3)


@pytest.mark.parametrize(
    ("value", "described"),
    [
        ({"a": 1}, "a dict of 'a'"),
        ({"timesteps": np.arange(3), "results": np.ones((3, 5))}, "a dict of 'timesteps', 'results'"),
        (np.zeros(3), "an array of shape"),
        (Path("x"), "pathlib.P"),
        ([], "a list"),
        ([1, 2, 3], "a list"),
        ([(1, 2.0, 3), (2, 3.0, 4)], "a list"),
        ([(np.zeros(3), 1.0, 2.0)] * 5, "a list"),
        ("text", "a str"),
    ],
)
def test_a_pickle_of_something_else(tmp_path: Path, value: object, described: str) -> None:
    with pytest.raises(ForeignFile, match=f"a pickle of {described}.* holds no replay buffer"):
        open_file(saved(tmp_path / "b.pkl", value))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["b.pkl", "b.pkl.gz", "b.joblib"])
def test_what_is_compressed_is_not_inflated(tmp_path: Path, pack: Any, name: str) -> None:
    (tmp_path / name).write_bytes(pack(pickle.dumps(dict(experience()))))
    with pytest.raises(UnreadableFile, match=r"is compressed \(\w+\). Decompress it first."):
        reader_of(tmp_path / name)


def test_a_joblib_file_says_what_it_is(tmp_path: Path) -> None:
    """Its layout: a pickle that is interrupted by the bytes of its arrays (joblib.numpy_pickle)."""
    head = (
        b"\x80\x04\x95\x39\0\0\0\0\0\0\0\x8c\x12joblib.numpy_pickle\x94\x8c\x11NumpyArrayWrapper\x94\x93\x94"
    )
    (tmp_path / "b.joblib").write_bytes(
        head.replace(b"\x12joblib", b"\x13joblib") + b"\x81\xff" + bytes(range(256))
    )
    with pytest.raises(UnreadableFile, match="is a joblib file, whose arrays lie outside"):
        open_file(tmp_path / "b.joblib")
