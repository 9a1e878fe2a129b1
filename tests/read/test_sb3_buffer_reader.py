"""SB3 replay buffers and VecNormalize files, compared with what pickle loads."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from conftest import SB3_STEPS
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3.common.buffers import (
    DictReplayBuffer,
    NStepReplayBuffer,
    ReplayBuffer,
    RolloutBuffer,
)
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file
from gradscope.records import Normalizer, Replay

if TYPE_CHECKING:
    from collections.abc import Callable

BOX = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
ACTION = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
IMAGE = gymnasium.spaces.Box(0, 255, (1, 4, 4), np.uint8)
MIXED = gymnasium.spaces.Dict({"image": IMAGE, "vector": BOX})


def opened(path: Path) -> Replay:
    record = open_file(path)
    assert isinstance(record, Replay)
    return record


def numbered(space: gymnasium.Space[Any], number: int, num_envs: int) -> Any:
    """Observations that tell their row (and environment) by their value."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: numbered(each, number, num_envs) for key, each in space.items()}
    values = (
        number + 1000 * np.arange(num_envs) if space.dtype != np.uint8 else np.full(num_envs, number % 256)
    )
    return np.broadcast_to(values.reshape(-1, *[1] * len(space.shape)), (num_envs, *space.shape)).astype(
        space.dtype
    )


def saved(path: Path, buffer: Any, space: Any, num_rows: int, num_envs: int = 1) -> Path:
    for row in range(num_rows):
        infos = [{"TimeLimit.truncated": row % 10 == 9} for _ in range(num_envs)]
        done = np.full(num_envs, row % 5 == 4)
        action = np.full((num_envs, 1), row, np.float32)
        reward = np.full(num_envs, row, np.float32)
        buffer.add(
            numbered(space, row, num_envs), numbered(space, row + 1, num_envs), action, reward, done, infos
        )
    save_to_pkl(path, buffer)
    return path


def rows_of(array: Any) -> list[int]:
    return [int(value) for value in np.asarray(array)[:, 0].reshape(len(array), -1)[:, 0]]


@pytest.mark.parametrize("step", SB3_STEPS)
@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DDPG", "DQN"])
def test_a_real_run_gives_what_pickle_gives(
    sb3_files: Callable[[str], Path], algorithm: str, step: int
) -> None:
    path = sb3_files(algorithm) / f"rl_model_replay_buffer_{step}_steps.pkl"
    expected = pickle.loads(path.read_bytes())
    replay = opened(path)
    assert (replay.step, replay.step_from, replay.format) == (step, "name", "sb3-buffer")
    assert replay.num_rows == expected.pos == step - 1
    assert replay.capacity == 200
    assert not replay.overwritten
    assert replay.notes == ()
    valid = slice(0, expected.pos)
    np.testing.assert_array_equal(replay.observations[""], expected.observations[valid])
    assert replay.next_observations is not None
    np.testing.assert_array_equal(replay.next_observations[""], expected.next_observations[valid])
    np.testing.assert_array_equal(replay.actions, expected.actions[valid])
    np.testing.assert_array_equal(replay.rewards, expected.rewards[valid])
    np.testing.assert_array_equal(replay.ends, (expected.dones * (1 - expected.timeouts))[valid])
    assert replay.observations[""].dtype == expected.observations.dtype


@pytest.mark.parametrize("num_rows", [1, 6, 10, 11, 17, 20, 23])
def test_rows_come_in_order_of_collection(tmp_path: Path, num_rows: int) -> None:
    buffer = ReplayBuffer(10, BOX, ACTION)
    replay = opened(saved(tmp_path / "b.pkl", buffer, BOX, num_rows))
    expected = list(range(max(0, num_rows - 10), num_rows))
    assert rows_of(replay.observations[""]) == expected
    assert replay.next_observations is not None
    assert rows_of(replay.next_observations[""]) == [row + 1 for row in expected]
    assert rows_of(replay.rewards) == expected
    assert replay.overwritten == (num_rows >= 10)


@pytest.mark.parametrize("num_rows", [1, 6, 9, 10, 11, 17, 20, 23])
def test_a_memory_optimised_ring_leaves_out_its_torn_row(tmp_path: Path, num_rows: int) -> None:
    buffer = ReplayBuffer(10, BOX, ACTION, optimize_memory_usage=True, handle_timeout_termination=False)
    replay = opened(saved(tmp_path / "b.pkl", buffer, BOX, num_rows))
    expected = list(range(max(0, num_rows - 9), num_rows)) if num_rows >= 10 else list(range(num_rows))
    assert rows_of(replay.observations[""]) == expected
    assert rows_of(replay.actions) == expected
    assert rows_of(replay.rewards) == expected
    assert replay.next_observations is None


def test_environments_stay_side_by_side(tmp_path: Path) -> None:
    buffer = ReplayBuffer(40, BOX, ACTION, n_envs=4)
    replay = opened(saved(tmp_path / "b.pkl", buffer, BOX, 7, num_envs=4))
    assert replay.num_environments == 4
    assert replay.capacity == 10
    assert replay.num_rows == 28
    assert replay.observations[""].shape == (7, 4, 3)
    assert replay.observations[""][2, :, 0].tolist() == [2, 1002, 2002, 3002]


def test_dict_observations_keep_their_keys(tmp_path: Path) -> None:
    replay = opened(saved(tmp_path / "b.pkl", DictReplayBuffer(10, MIXED, ACTION), MIXED, 14))
    assert set(replay.observations) == {"image", "vector"}
    assert replay.observations["image"].dtype == np.uint8
    assert replay.observations["image"].shape == (10, 1, 1, 4, 4)
    assert rows_of(replay.observations["vector"]) == list(range(4, 14))
    assert replay.next_observations is not None
    assert rows_of(replay.next_observations["image"]) == list(range(5, 15))


def test_n_step_buffers_hold_the_same_arrays(tmp_path: Path) -> None:
    buffer = NStepReplayBuffer(10, BOX, ACTION, n_steps=3, gamma=0.9)
    replay = opened(saved(tmp_path / "b.pkl", buffer, BOX, 8))
    assert rows_of(replay.observations[""]) == list(range(8))


def test_time_limits_are_no_ends(tmp_path: Path) -> None:
    replay = opened(saved(tmp_path / "b.pkl", ReplayBuffer(30, BOX, ACTION), BOX, 20))
    assert replay.ends is not None
    assert np.flatnonzero(replay.ends[:, 0]).tolist() == [4, 14]


def test_rows_in_order_are_not_copied(tmp_path: Path) -> None:
    replay = opened(saved(tmp_path / "b.pkl", ReplayBuffer(2_000, BOX, ACTION), BOX, 50))
    assert replay.observations[""].base is not None
    assert not replay.observations[""].flags.owndata


def test_a_buffer_without_a_row_is_no_fault(tmp_path: Path) -> None:
    assert opened(saved(tmp_path / "b.pkl", ReplayBuffer(10, BOX, ACTION), BOX, 0)).num_rows == 0


def test_a_buffer_from_before_time_limits(tmp_path: Path) -> None:
    buffer = ReplayBuffer(10, BOX, ACTION)
    del buffer.timeouts
    replay = opened(saved_as_is(tmp_path / "b.pkl", buffer))
    assert replay.ends is not None


def saved_as_is(path: Path, value: object) -> Path:
    path.write_bytes(pickle.dumps(value))
    return path


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("pos", 11),
        ("pos", -1),
        ("pos", "3"),
        ("pos", None),
        ("full", 1),
        ("observations", None),
        ("observations", [1, 2]),
        ("observations", np.zeros(3)),
        ("observations", {}),
        ("observations", {"a": np.zeros((10, 1, 3)), "b": np.zeros((9, 1, 3))}),
        ("observations", {"a": np.zeros((10, 1, 3)), "b": np.zeros((10, 2, 3))}),
        ("rewards", np.zeros((9, 1), np.float32)),
        ("next_observations", np.zeros((10, 2, 3), np.float32)),
        ("next_observations", np.array([{}], object)),
    ],
    ids=str,
)
def test_a_buffer_that_contradicts_itself(tmp_path: Path, attribute: str, value: object) -> None:
    buffer = ReplayBuffer(10, BOX, ACTION)
    setattr(buffer, attribute, value)
    with pytest.raises(UnreadableFile, match="buffer"):
        open_file(saved_as_is(tmp_path / "b.pkl", buffer))


def test_a_rollout_buffer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ForeignFile, match=r"RolloutBuffer, which is not read. Record rollouts"):
        open_file(saved_as_is(tmp_path / "b.pkl", RolloutBuffer(10, BOX, ACTION)))


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (gymnasium.spaces.Discrete(5), gymnasium.spaces.Discrete(3)),
        (gymnasium.spaces.MultiBinary(4), gymnasium.spaces.MultiDiscrete([2, 3])),
        (gymnasium.spaces.MultiDiscrete([4, 4]), gymnasium.spaces.MultiBinary(2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("num_rows", [4, 13])
def test_choices_and_bits(tmp_path: Path, space: Any, action: Any, num_rows: int) -> None:
    buffer, rng = ReplayBuffer(20, space, action, n_envs=2), np.random.default_rng(0)
    for _ in range(num_rows):
        ahead, after, done = [np.stack([each.sample() for _ in range(2)]) for each in (space, space, action)]
        buffer.add(ahead, after, done, rng.normal(size=2), np.zeros(2), [{}, {}])
    replay = opened(saved_as_is(tmp_path / "b.pkl", buffer))
    expected = pickle.loads((tmp_path / "b.pkl").read_bytes())
    start = num_rows % 10 if num_rows > 10 else 0
    for name in ("observations", "next_observations", "actions", "rewards"):
        found = getattr(replay, name)
        found = found[""] if isinstance(found, Mapping) else found
        whole = getattr(expected, name)
        wanted = np.concatenate([whole[start:], whole[:start]]) if start else whole[:num_rows]
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype


def test_a_name_that_should_not_be_in_a_buffer_is_told(tmp_path: Path) -> None:
    buffer = ReplayBuffer(10, BOX, ACTION)
    buffer.extra = Path("x")
    replay = opened(saved_as_is(tmp_path / "b.pkl", buffer))
    assert len(replay.notes) == 1
    assert "names code that was not loaded: pathlib." in replay.notes[0]


@pytest.mark.parametrize("algorithm", ["SAC", "PPO"])
def test_a_real_normalizer(sb3_files: Callable[[str], Path], algorithm: str) -> None:
    path = sb3_files(algorithm) / "rl_model_vecnormalize_128_steps.pkl"
    expected = pickle.loads(path.read_bytes())
    found = open_file(path)
    assert isinstance(found, Normalizer)
    assert (found.step, found.step_from) == (128, "name")
    np.testing.assert_array_equal(found.mean[""], expected.obs_rms.mean)
    np.testing.assert_array_equal(found.var[""], expected.obs_rms.var)
    assert found.return_var == expected.ret_rms.var
    assert (found.epsilon, found.clip, found.clip_reward) == (1e-8, 10.0, 10.0)
    assert found.norm_observations
    assert found.norm_reward
    assert found.notes == ()


def test_a_normalizer_of_dict_observations(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([_DictWorld]), norm_obs_keys=["vector"], norm_reward=False, clip_obs=5.0)
    env.reset()
    env.step([ACTION.sample()])
    env.save(str(tmp_path / "vec_normalize.pkl"))
    found = open_file(tmp_path / "vec_normalize.pkl")
    assert isinstance(found, Normalizer)
    assert set(found.mean) == {"vector"}
    np.testing.assert_array_equal(found.mean["vector"], env.obs_rms["vector"].mean)
    assert found.clip == 5.0
    assert not found.norm_reward


def test_a_normalizer_of_rewards_alone(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([_DictWorld]), norm_obs=False)
    env.save(str(tmp_path / "v.pkl"))
    found = open_file(tmp_path / "v.pkl")
    assert isinstance(found, Normalizer)
    assert not found.norm_observations
    assert found.mean == {}


class _DictWorld(gymnasium.Env):  # type: ignore[type-arg]
    observation_space, action_space = MIXED, ACTION

    def reset(self, **_: Any) -> Any:
        return MIXED.sample(), {}

    def step(self, _: Any) -> Any:
        return MIXED.sample(), 1.0, False, False, {}


def test_a_hindsight_buffer(tmp_path: Path) -> None:
    env = BitFlippingEnv(n_bits=4, continuous=False)
    options: dict[str, Any] = {"learning_starts": 50, "buffer_size": 30, "policy_kwargs": {"net_arch": [4]}}
    model = DQN("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, device="cpu", **options)
    model.learn(40)
    model.save_replay_buffer(tmp_path / "her.pkl")
    replay = opened(tmp_path / "her.pkl")
    buffer: Any = model.replay_buffer
    assert set(replay.observations) == {"achieved_goal", "desired_goal", "observation"}
    assert replay.num_rows == 30
    for key, array in replay.observations.items():
        np.testing.assert_array_equal(array, np.roll(buffer.observations[key], -buffer.pos, axis=0))
    assert replay.notes == ()
