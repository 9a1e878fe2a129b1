"""Rows of several buffers in order of collection, against the order in which a real run collected them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from makers import sb3_ring
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import save_to_pkl

from gradscope.recompute.batches import Drawing
from gradscope.trial.stream import Stream, ordered, stream_of

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
SPACE = gymnasium.spaces.Box(-1e9, 1e9, (2,), np.float32)
ACTIONS = gymnasium.spaces.Box(-1, 1, (1,), np.float32)


def buffers(
    folder: Path,
    saves: tuple[int, ...],
    *,
    size: int,
    environments: int = 1,
    shared: bool = False,
    kind: Any = ReplayBuffer,
) -> list[tuple[int, Any]]:
    """Row t of environment e holds t + e / 10; saved as SB3 does, one call before its step is stored."""
    options: dict[str, Any] = (
        {"optimize_memory_usage": True, "handle_timeout_termination": False} if shared else {}
    )
    buffer = kind(size, SPACE, ACTIONS, device="cpu", n_envs=environments, **options)
    found = []
    for time in range(max(saves) // environments):
        step = (time + 1) * environments
        if step in saves:
            path = folder / f"buffer_{step}.pkl"
            save_to_pkl(path, buffer)
            found.append((step, sb3_ring(path)))
        value = time + np.arange(environments) / 10
        row = np.stack([value, value], axis=1).astype(np.float32)
        reward = value.astype(np.float32)
        zeros = np.zeros(environments, np.float32)
        buffer.add(row, row + 1, np.zeros((environments, 1), np.float32), reward, zeros, [{}] * environments)
    return found


def stream(rings: list[tuple[int, Any]]) -> Stream:
    drawing = Drawing(ring=rings[0][1], normalizer=None, num_batches=1, batch_size=4, seed=0)
    return stream_of(drawing, rings)


def rewards(found: Stream) -> list[float]:
    return [round(float(each), 1) for each in found._at(np.arange(len(found))).rewards.ravel()]


@pytest.mark.parametrize("shared", [False, True], ids=["plain", "shared"])
@pytest.mark.parametrize(("environments", "saves"), [(1, (30, 50, 70)), (2, (40, 60, 80))])
def test_rows_come_once_each_and_in_order(
    shared: bool, environments: int, saves: tuple[int, ...], tmp_path: Path
) -> None:
    found = stream(buffers(tmp_path, saves, size=26 * environments, environments=environments, shared=shared))
    times = range(saves[-1] // environments - 1)
    held = 26 - shared
    first = max(saves[0] // environments - 1 - held, 0)
    expected = [round(time + each / 10, 1) for time in times[first:] for each in range(environments)]
    assert rewards(found) == expected
    assert found.start == (saves[0] // environments - 1 - first) * environments
    assert found.capacity == held * environments
    assert not found.notes
    assert found.steps[-1] == saves[-1]
    batch = found._at(np.arange(len(found)))
    moved = batch.next_observations[:, 0].numpy() - batch.observations[:, 0].numpy()
    assert np.allclose(moved, 1)


def test_batches_hold_what_a_buffer_would_hold_by_then(tmp_path: Path) -> None:
    found = stream(buffers(tmp_path, (30, 50, 70), size=26))
    draw = np.random.RandomState(0)
    for new in (0, 7, 20, 1000):
        end = found.end_after(new)
        drawn = np.concatenate([found.batch(draw, end, 64).rewards.numpy().ravel() for _ in range(20)])
        newest = rewards(found)[end - 1]
        assert drawn.max() == newest
        assert drawn.min() == newest - min(found.capacity, end) + 1
        assert found.newest(end, 2)[""][:, 0].tolist() == [newest - 1, newest]
    assert found.end_after(1000) == len(found)


def test_rows_that_no_buffer_holds_are_said(tmp_path: Path) -> None:
    found = stream(buffers(tmp_path, (20, 60), size=10))
    assert found.notes == ["of the rows before step 60, 30 are in no buffer"]
    assert rewards(found) == [*range(9, 19), *range(49, 59)]


def test_a_buffer_of_another_run_is_left_out(tmp_path: Path) -> None:
    rings = buffers(tmp_path, (20, 30), size=26)
    other = rings[1][1]
    changed = replace(other, rewards=other.rewards + 1000)
    found = stream([rings[0], (30, changed)])
    assert "does not go on" in found.notes[0]
    assert len(found) == 19


def test_a_buffer_saved_by_hand_after_training_goes_on_too(tmp_path: Path) -> None:
    """It holds the newest row, which a callback's does not yet."""
    rings = buffers(tmp_path, (20, 31), size=40)
    found = stream([rings[0], (30, rings[1][1])])
    assert not found.notes
    assert rewards(found) == list(range(30))


def test_rows_of_two_buffers_stay_in_the_order_they_are_drawn_in(tmp_path: Path) -> None:
    found = stream(buffers(tmp_path, (20, 30), size=26))
    chosen = np.array([28, 2, 25, 19, 18, 3])
    drawn = found._at(chosen)
    assert drawn.rewards.ravel().tolist() == [rewards(found)[at] for at in chosen]
    assert drawn.stored_observations[""][:, 0].tolist() == drawn.observations[:, 0].tolist()


def test_n_step_buffers_keep_their_returns(tmp_path: Path) -> None:
    rings = buffers(tmp_path, (20, 30), size=40, kind=NStepReplayBuffer)
    found = stream(rings)
    assert len(found) == 29
    assert len(ordered(rings[1][1])) == 29


def test_the_samples_go_on_without_a_gap() -> None:
    rings = [
        (step, sb3_ring(SAMPLES / "collapse" / f"rl_model_replay_buffer_{step}_steps.pkl"))
        for step in range(4000, 10_001, 2000)
    ]
    found = stream(rings)
    assert not found.notes
    assert len(found) == 6000 + found.start
    # The next observation of each row is the observation of the row behind it, buffers apart or not.
    batch = found._at(np.arange(len(found)))
    same = (batch.next_observations[:-1] == batch.observations[1:]).flatten(1).all(1)
    assert same.all()
