"""tianshou's pickled buffers, against the rows that the library takes for valid, in its order."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file
from gradscope.read.numpy_pickle import NUMPY_TABLE
from gradscope.read.pickle_stubs import Stub
from gradscope.read.safe_pickle import unpickled
from gradscope.read.tianshou_pickle import tianshou_replay
from gradscope.records import Replay

FILES = Path(__file__).parent.parent / "files" / "tianshou"


def opened(name: str) -> Replay:
    found = open_file(FILES / f"{name}.pkl")
    assert isinstance(found, Replay)
    return found


@pytest.mark.parametrize("name", ["partial", "full", "prioritized", "vector_full", "vector_uneven"])
def test_rows_are_the_librarys(name: str) -> None:
    replay, truth = opened(name), np.load(FILES / f"{name}.npz")
    assert replay.format == "tianshou-pickle"
    assert replay.num_rows == len(truth["rew"])
    ends = truth["terminated"].astype(np.float32)
    parts = {"obs": replay.observations[""], "act": replay.actions, "rew": replay.rewards, "end": replay.ends}
    assert replay.next_observations is not None
    parts["obs_next"] = replay.next_observations[""]
    for own, each in parts.items():
        wanted = ends if own == "end" else truth[own]
        assert each is not None
        # The library lists one environment after the other, we have them side by side.
        listed = np.concatenate(list(np.swapaxes(each, 0, 1)))
        np.testing.assert_array_equal(listed.reshape(wanted.shape), wanted)


def test_observations_by_key() -> None:
    replay, truth = opened("keys"), np.load(FILES / "keys.npz")
    assert replay.next_observations is not None
    for own, found in (("obs", replay.observations), ("obs_next", replay.next_observations)):
        assert set(found) == {"market", "position"}
        for key, each in found.items():
            assert each.dtype == truth[f"{own}.{key}"].dtype
            np.testing.assert_array_equal(each[:, 0], truth[f"{own}.{key}"])
    np.testing.assert_array_equal(np.asarray(replay.rewards)[:, 0], truth["rew"])


@pytest.mark.parametrize(
    ("name", "environments", "overwritten"),
    [
        ("partial", 1, False),
        ("full", 1, True),
        ("vector_full", 3, True),
        ("vector_uneven", 1, True),
    ],
)
def test_environments(name: str, environments: int, overwritten: bool) -> None:
    replay = opened(name)
    assert (replay.num_environments, replay.overwritten) == (environments, overwritten)
    assert any("one after the other" in note for note in replay.notes) == (name == "vector_uneven")
    assert not any("names code" in note for note in replay.notes)


def changed(name: str, **values: Any) -> Stub:
    found = unpickled((FILES / f"{name}.pkl").read_bytes(), NUMPY_TABLE).value
    assert isinstance(found, Stub)
    assert isinstance(found.state, dict)
    found.state.update(values)
    return found


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("partial", {"_size": 11}),
        ("partial", {"_size": None}),
        ("partial", {"_insertion_idx": 11}),
        ("partial", {"maxsize": 9}),
        ("partial", {"maxsize": 1 << 60}),
    ],
)
def test_what_contradicts_itself(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="tianshou buffer") as caught:
        tianshou_replay(FILES / f"{name}.pkl", changed(name, **values), ())
    assert type(caught.value).__name__ == "Malformed"


def test_a_cut_file(tmp_path: Path) -> None:
    content = (FILES / "vector_full.pkl").read_bytes()
    for end in range(0, len(content) - 1, 511):
        (tmp_path / "b.pkl").write_bytes(content[:end])
        with pytest.raises(UnreadableFile):
            open_file(tmp_path / "b.pkl")


def test_another_object_of_the_library(tmp_path: Path) -> None:
    content = pickle.dumps({"epoch": 3})
    (tmp_path / "b.pkl").write_bytes(content)
    with pytest.raises(ForeignFile):
        open_file(tmp_path / "b.pkl")
