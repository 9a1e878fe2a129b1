"""Deques and lists of transitions: every usual order, what is told by shapes, and what is refused."""

from __future__ import annotations

import collections
import dataclasses
import pickle
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from samples_rows import ROWS, experience, transitions

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.records import Replay

if TYPE_CHECKING:
    from pathlib import Path

ORDER = "sarnd"
"""Of the tuples of `transitions`: state, action, reward, next state, done."""


class Transition(NamedTuple):
    state: Any
    action: Any
    reward: Any
    next_state: Any
    done: Any = None


@dataclasses.dataclass
class Step:
    obs: Any
    action: Any
    reward: float
    next_obs: Any
    done: bool


@dataclasses.dataclass(slots=True)
class SlottedStep:
    obs: Any
    action: Any
    reward: float
    next_obs: Any
    done: bool


def replay(path: Path, value: object, **keys: str) -> Replay:
    path.write_bytes(pickle.dumps(value))
    found = open_file(path, keys)
    assert isinstance(found, Replay)
    return found


def in_order(order: str) -> list[tuple[Any, ...]]:
    return [tuple(row[ORDER.index(each)] for each in order) for row in transitions()]


def assert_rows(found: Replay, has_ends: bool = True) -> None:
    wanted = experience()
    np.testing.assert_array_equal(found.observations[""][:, 0], wanted["observations"])
    assert found.next_observations is not None
    np.testing.assert_array_equal(found.next_observations[""][:, 0], wanted["next_observations"])
    np.testing.assert_array_equal(np.asarray(found.actions)[:, 0], wanted["actions"])
    np.testing.assert_allclose(np.asarray(found.rewards)[:, 0], wanted["rewards"])
    assert (found.ends is not None) == has_ends
    if found.ends is not None:
        np.testing.assert_array_equal(found.ends[:, 0], wanted["dones"])


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("sarnd", "(observation, action, reward, next observation, end)"),
        ("snard", "(observation, next observation, action, reward, end)"),
        ("sanrd", "(observation, action, next observation, reward, end)"),
        ("sardn", "(observation, action, reward, end, next observation)"),
        ("sanr", "(observation, action, next observation, reward)"),
        ("sarn", "(observation, action, reward, next observation)"),
    ],
)
def test_every_usual_order_of_tuples(tmp_path: Path, order: str, said: str) -> None:
    found = replay(tmp_path / "m.pkl", in_order(order))
    assert_rows(found, has_ends="d" in order)
    assert found.notes == (f"transitions are read as {said}, by their shapes and values",)


def masked(every: int = 1) -> list[tuple[Any, ...]]:
    rows = [(*row[:4], float(not row[4])) for row in transitions()]
    return rows[::every]


def test_a_mask_of_rows_that_go_on_is_no_end(tmp_path: Path) -> None:
    found = replay(tmp_path / "m.pkl", masked())
    assert_rows(found)
    assert "next observation, 1 where the episode goes on)" in found.notes[0]


def test_a_mask_that_nothing_tells_from_ends_is_asked_for(tmp_path: Path) -> None:
    apart = masked(2)  # no row follows the one before it
    with pytest.raises(UnreadableFile, match="1 in most rows") as caught:
        replay(tmp_path / "m.pkl", apart)
    assert "--replay-keys" in str(caught.value)
    names = {"observations": "0", "actions": "1", "rewards": "2", "next_observations": "3"}
    found = replay(tmp_path / "m.pkl", apart, **names, not_dones="4")
    np.testing.assert_array_equal(np.asarray(found.ends)[:, 0], experience()["dones"][::2])
    found = replay(tmp_path / "m.pkl", [(*row[:4], 1 - row[4]) for row in apart])
    np.testing.assert_array_equal(np.asarray(found.ends)[:, 0], experience()["dones"][::2])


def test_a_deque_knows_what_it_can_hold(tmp_path: Path) -> None:
    found = replay(tmp_path / "m.pkl", collections.deque(transitions(), maxlen=ROWS))
    assert (found.capacity, found.overwritten) == (ROWS, True)
    found = replay(tmp_path / "m.pkl", collections.deque(transitions(), maxlen=ROWS + 1))
    assert (found.capacity, found.overwritten) == (ROWS + 1, False)
    assert replay(tmp_path / "m.pkl", collections.deque(transitions())).capacity is None


@pytest.mark.parametrize("kind", [Transition, Step, SlottedStep])
def test_objects_of_classes_that_are_not_loaded(tmp_path: Path, kind: Any) -> None:
    found = replay(tmp_path / "m.pkl", collections.deque(kind(*row) for row in transitions()))
    assert_rows(found)
    assert any("was not loaded" in note and kind.__name__ in note for note in found.notes)


def test_dicts_and_whole_episodes(tmp_path: Path) -> None:
    names = ("obs", "action", "reward", "next_obs", "done")
    assert_rows(replay(tmp_path / "m.pkl", [dict(zip(names, row, strict=True)) for row in transitions()]))
    whole = experience()
    episodes = [
        {name: each[start : start + 13] for name, each in whole.items()} for start in range(0, ROWS, 13)
    ]
    assert_rows(replay(tmp_path / "m.pkl", [*episodes]))


class Memory:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def test_memories_that_hold_a_list(tmp_path: Path) -> None:
    rows = transitions()
    assert_rows(replay(tmp_path / "m.pkl", Memory(memory=collections.deque(rows, maxlen=90), batch_size=4)))
    turned = rows[-10:] + rows[:-10]
    found = replay(tmp_path / "m.pkl", Memory(_storage=turned, _maxsize=ROWS, _next_idx=10))
    assert_rows(found)
    assert (found.overwritten, found.capacity) == (True, ROWS)
    assert_rows(replay(tmp_path / "m.pkl", {"agent": 1, "replay": Memory(buffer=rows)}))


def test_torch_tensors_and_a_last_state_of_none(tmp_path: Path) -> None:
    """As PyTorch's DQN tutorial keeps them: an episode's last next state is None, and no end is stored."""
    rows = [
        Transition(
            torch.from_numpy(state.copy())[None],
            torch.from_numpy(action.copy())[None],
            torch.tensor([reward]),
            None if done else torch.from_numpy(following.copy())[None],
        )[:4]
        for state, action, reward, following, done in transitions()
    ]
    found = replay(tmp_path / "m.pkl", collections.deque(rows, maxlen=100))
    wanted = experience()
    np.testing.assert_array_equal(found.observations[""].reshape(ROWS, 3), wanted["observations"])
    np.testing.assert_array_equal(np.asarray(found.actions).reshape(ROWS, 2), wanted["actions"])
    np.testing.assert_array_equal(np.asarray(found.ends)[:, 0], wanted["dones"])
    assert found.next_observations is not None
    going_on = wanted["dones"] == 0
    np.testing.assert_array_equal(
        found.next_observations[""].reshape(ROWS, 3)[going_on], wanted["next_observations"][going_on]
    )


def test_numbers_as_states(tmp_path: Path) -> None:
    rng = random.Random(0)  # noqa: S311
    path = [rng.randrange(16) for _ in range(ROWS + 1)]
    rows = [(path[row], row % 4, 0.0, path[row + 1], row % 9 == 8) for row in range(ROWS)]
    found = replay(tmp_path / "m.pkl", rows)
    assert found.observations[""][:, 0, 0].tolist() == path[:-1]
    assert found.next_observations is not None
    assert found.next_observations[""][:, 0, 0].tolist() == path[1:]
    assert np.asarray(found.actions)[:, 0, 0].tolist() == [row % 4 for row in range(ROWS)]


def test_lists_as_states_and_extra_fields(tmp_path: Path) -> None:
    rows = [(s.tolist(), 1, r, n.tolist(), d, False, {"info": 1}) for s, _, r, n, d in transitions()]
    found = replay(tmp_path / "m.pkl", rows)
    np.testing.assert_array_equal(found.observations[""][:, 0], experience()["observations"])
    np.testing.assert_array_equal(np.asarray(found.ends)[:, 0], experience()["dones"])


def shuffled_alike() -> list[tuple[Any, ...]]:
    """Actions look like states, and no row follows another: nothing tells which is which."""
    rows = [(s, n, r, n + 1, d) for s, _, r, n, d in transitions()]
    random.Random(1).shuffle(rows)  # noqa: S311
    return rows


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (shuffled_alike(), "places 0, 1, 3 look alike"),
        ([(s, s + 1, r, d) for s, _, r, _, d in transitions()], "places 0, 1 look alike"),
        (in_order("sadrn"), "place 2 is no reward"),
        ([(s, a, r, n, 3.5) for s, a, r, n, _ in transitions()], "place 4 is no end"),
    ],
)
def test_what_is_not_certain_is_refused(tmp_path: Path, rows: list[Any], why: str) -> None:
    with pytest.raises(UnreadableFile, match=f"not certain what is what: {why}") as caught:
        replay(tmp_path / "m.pkl", rows)
    assert "--replay-keys observations=0,actions=1" in str(caught.value)


def test_the_user_says_what_is_what(tmp_path: Path) -> None:
    keys = {"observations": "0", "actions": "1", "dones": "2", "rewards": "3", "next_observations": "4"}
    found = replay(tmp_path / "m.pkl", in_order("sadrn"), **keys)
    assert_rows(found)
    assert found.notes == ()


def test_rows_that_differ(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="row 40 is not like the first"):
        replay(tmp_path / "m.pkl", [*transitions(), (1, 2)])


def test_shared_arrays_cannot_take_all_memory(tmp_path: Path) -> None:
    big = np.zeros(500_000)
    with pytest.raises(UnreadableFile, match="repeats its arrays"):
        replay(tmp_path / "m.pkl", [(big, 0, 0.0, big, False)] * 10_000)
