"""A replay exported from the library's buffer gives the same gradients as the buffer, bit for bit."""

from __future__ import annotations

import collections
import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import train_sb3

from gradscope.read import open_file
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, Refusal, recompute_gradients
from gradscope.records import Normalizer, Replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEP = 128


def opened(path: Path) -> Replay:
    found = open_file(path)
    assert isinstance(found, Replay)
    return found


def gradients(folder: Path, replay: Replay, batch_size: int = 16) -> Recomputed | Refusal:
    assert replay.ring is not None
    normalizer = open_file(folder / f"rl_model_vecnormalize_{STEP}_steps.pkl")
    assert isinstance(normalizer, Normalizer)
    training = sb3_training(folder / f"rl_model_{STEP}_steps.zip")
    return recompute_gradients(training, replay.ring, normalizer, batches=2, batch_size=batch_size, seed=3)


def buffer_of(folder: Path) -> Any:
    return pickle.loads((folder / f"rl_model_replay_buffer_{STEP}_steps.pkl").read_bytes())


def raw(buffer: Any) -> dict[str, Any]:
    """As the buffer lies: [rows, environments, ...], unwritten rows among them."""
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    return {name: getattr(buffer, name) for name in names} | {"pos": buffer.pos, "full": buffer.full}


def plain(buffer: Any) -> dict[str, Any]:
    """As people export: [rows, ...], without time limits."""
    rows = slice(0, buffer.pos)
    found = {
        name: getattr(buffer, name)[rows, 0] for name in ("observations", "next_observations", "actions")
    }
    ends = buffer.dones * (1 - buffer.timeouts)
    return found | {"rewards": buffer.rewards[rows, 0], "dones": ends[rows, 0]}


def as_npz(folder: Path, entries: dict[str, Any]) -> Path:
    np.savez(folder / "transitions.npz", **entries)
    return folder / "transitions.npz"


def as_small_npz(folder: Path, entries: dict[str, Any]) -> Path:
    np.savez_compressed(folder / "transitions.npz", **entries)
    return folder / "transitions.npz"


def as_deque(folder: Path, entries: dict[str, Any]) -> Path:
    order = ("observations", "actions", "rewards", "next_observations", "dones")
    rows = zip(*(entries[name] for name in order), strict=True)
    (folder / "memory.pkl").write_bytes(pickle.dumps(collections.deque(rows)))
    return folder / "memory.pkl"


def as_dict(folder: Path, entries: dict[str, Any]) -> Path:
    (folder / "memory.pkl").write_bytes(pickle.dumps(entries))
    return folder / "memory.pkl"


@pytest.mark.parametrize(
    ("exported", "write"),
    [
        (raw, as_npz),
        (plain, as_npz),
        (plain, as_small_npz),
        (plain, as_deque),
        (raw, as_dict),
        (plain, as_dict),
    ],
)
@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DQN"])
def test_the_same_gradients_bit_for_bit(
    sb3_files: Callable[[str], Path], algorithm: str, exported: Any, write: Any, tmp_path: Path
) -> None:
    folder = sb3_files(algorithm)
    expected = gradients(folder, opened(folder / f"rl_model_replay_buffer_{STEP}_steps.pkl"))
    found = gradients(folder, opened(write(tmp_path, exported(buffer_of(folder)))))
    assert isinstance(expected, Recomputed)
    assert isinstance(found, Recomputed), found
    for wanted, batch in zip(expected.batches(), found.batches(), strict=True):
        assert set(wanted.gradients) == set(batch.gradients)
        for name, each in wanted.gradients.items():
            assert each.tobytes() == batch.gradients[name].tobytes(), name


def test_several_environments(tmp_path: Path) -> None:
    from stable_baselines3.common.env_util import make_vec_env  # noqa: PLC0415

    model = train_sb3("SAC", tmp_path, buffer_size=400)
    env = make_vec_env("Pendulum-v1", n_envs=3, seed=0)
    model = type(model)("MlpPolicy", env, seed=0, buffer_size=300, learning_starts=20, batch_size=16)
    model.learn(90)
    model.save(tmp_path / "wide.zip")
    model.save_replay_buffer(tmp_path / "wide.pkl")
    training = sb3_training(tmp_path / "wide.zip")
    rings = [opened(tmp_path / "wide.pkl").ring, opened(as_npz(tmp_path, raw(model.replay_buffer))).ring]
    results = []
    for ring in rings:
        assert ring is not None
        found = recompute_gradients(training, ring, None, batches=1, batch_size=16, seed=0)
        assert isinstance(found, Recomputed), found
        results.append(next(iter(found.batches())).gradients)
    assert all(results[0][name].tobytes() == each.tobytes() for name, each in results[1].items())


def test_a_ring_that_has_wrapped(tmp_path: Path) -> None:
    train_sb3("SAC", tmp_path, buffer_size=50)
    buffer = buffer_of(tmp_path)
    assert buffer.full
    replay = opened(as_npz(tmp_path, raw(buffer)))
    assert replay.overwritten
    np.testing.assert_array_equal(replay.observations[""], np.roll(buffer.observations, -buffer.pos, axis=0))
    np.testing.assert_array_equal(replay.rewards, np.roll(buffer.rewards, -buffer.pos, axis=0))
    expected = gradients(tmp_path, opened(tmp_path / f"rl_model_replay_buffer_{STEP}_steps.pkl"))
    found = gradients(tmp_path, replay)
    assert isinstance(expected, Recomputed)
    assert isinstance(found, Recomputed), found
    wanted, batch = next(iter(expected.batches())), next(iter(found.batches()))
    assert all(each.tobytes() == batch.gradients[name].tobytes() for name, each in wanted.gradients.items())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"actions": None}, "the replay has no actions"),
        ({"next_observations": None, "dones": None}, "has no next_observations, no ends"),
        ({"actions": np.full((127, 1), 2.0)}, "actions reach 2: .* scaled to -1..1"),
    ],
)
def test_what_cannot_be_drawn_says_why(
    sb3_files: Callable[[str], Path], change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    entries = {
        name: each for name, each in (plain(buffer_of(sb3_files("SAC"))) | change).items() if each is not None
    }
    replay = opened(as_npz(tmp_path, entries))
    assert replay.ring is None
    assert re.search(reason, replay.ring_reason or "")


def test_another_layout_is_refused_with_its_reason(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    folder = sb3_files("SAC")
    entries = plain(buffer_of(folder))
    wide = {
        **entries,
        "observations": np.zeros((127, 5), np.float32),
        "next_observations": np.zeros((127, 5), np.float32),
    }
    found = gradients(folder, opened(as_npz(tmp_path, wide)))
    assert isinstance(found, Refusal)
    assert "(5,)" in found.reason
