"""Open positions in the batch, counted from what the buffer or the environment really held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from record.worlds import NAMES, NUM_BARS, NUM_FEATURES, POSITION, Market, snapshot, timeline
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gradscope.record import GradscopeCallback
from gradscope.record.captured import MAX_ROWS

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = {"slices": POSITION, "feature_names": NAMES, "sequence_length": NUM_BARS}
OFF_POLICY = {"learning_starts": 10, "batch_size": 32, "buffer_size": 400, "seed": 2, "device": "cpu"}


def sampled(model: Any) -> list[tuple[Any, Any]]:
    """Raw and normalised observations of every batch the buffer gives out from now on."""
    batches: list[tuple[Any, Any]] = []
    buffer, original = model.replay_buffer, model.replay_buffer._normalize_obs

    def normalize(raw: Any, env: Any = None) -> Any:
        normal = original(raw, env)
        batches.append((raw, normal))
        return normal

    buffer._normalize_obs = normalize
    return batches


def counts(newest: np.ndarray) -> tuple[int, int, int]:
    """Active, long, short of [rows, (long, short)]."""
    return (
        int((newest != 0).any(1).sum()),
        int((newest[:, 0] != 0).sum()),
        int((newest[:, 1] != 0).sum()),
    )


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("algorithm", [SAC, TD3, DQN])
def test_counts_are_of_the_buffers_raw_rows(algorithm: Any, normalized: bool, tmp_path: Path) -> None:
    env: Any = DummyVecEnv([lambda: Market(discrete=algorithm is DQN, opens_at=40)])
    env = VecNormalize(env) if normalized else env
    options = OFF_POLICY | ({"train_freq": 1} if algorithm is DQN else {})
    model = algorithm("MlpPolicy", env, **options)
    batches = sampled(model)
    model.learn(120, callback=GradscopeCallback(30, str(tmp_path), timeline_every=1, **KNOWN))
    own = batches[1::2]  # the buffer asks for the next observations first
    _, rows = timeline(tmp_path / "rl_model_gradscope_timeline.jsonl")
    assert len({row["num_active"] for row in rows}) > 5
    assert rows[0]["num_active"] == 0
    for row in rows:
        raw = own[row["update"] - 1][0]
        assert row["num_rows"] == len(raw)
        assert (row["num_active"], row["num_long"], row["num_short"]) == counts(raw[:, -2:])
    for step in (30, 60, 90):
        metadata, tensors = snapshot(tmp_path / f"rl_model_gradscope_{step}_steps.safetensors")
        normal = own[metadata["num_updates"]][1]
        assert np.array_equal(tensors["batch.observations"].numpy(), normal.astype(np.float32))
        assert "as the network sees them" in metadata["observations"]
        raw = own[metadata["num_updates"]][0]
        assert (metadata["num_active"], metadata["num_long"], metadata["num_short"]) == counts(raw[:, -2:])


def test_a_rollout_normalised_along_the_way_is_counted_too(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([lambda: Market(opens_at=40)]))
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=2, device="cpu")
    model.learn(512, callback=GradscopeCallback(64, str(tmp_path), timeline_every=1, **KNOWN))
    _, rows = timeline(tmp_path / "rl_model_gradscope_timeline.jsonl")
    assert len(rows) == 8
    for row in rows:
        metadata, tensors = snapshot(tmp_path / f"rl_model_gradscope_{row['step']}_steps.safetensors")
        flag = tensors["batch.observations"][:, NUM_FEATURES + NAMES.index("flag")]
        # The flag is 0 or 1, so once normalised it lies on either side of 0.
        assert row["num_active"] == int((flag > 0).sum())
        assert metadata["num_active"] == row["num_active"]
    assert rows[0]["num_active"] > 0


def test_dict_observations_are_stored_and_counted_by_key(tmp_path: Path) -> None:
    model = SAC("MultiInputPolicy", Market(discrete=False, as_dict=True, opens_at=30), **OFF_POLICY)
    callback = GradscopeCallback(60, str(tmp_path), slices={"position": "key:account"}, timeline_every=3)
    model.learn(90, callback=callback)
    metadata, tensors = snapshot(tmp_path / "rl_model_gradscope_60_steps.safetensors")
    assert tensors["batch.observations.account"].shape == (32, 2)
    assert tensors["batch.observations.market"].shape == (32, NUM_BARS * NUM_FEATURES)
    assert metadata["num_active"] == counts(tensors["batch.observations.account"].numpy())[0] > 0
    assert metadata["num_long"] is None


def test_without_slice_or_names_the_counts_are_unknown(tmp_path: Path) -> None:
    for number, (options, known) in enumerate(
        [({}, set()), ({"slices": {"position": "8:10"}}, {"num_active"})]
    ):
        folder = tmp_path / str(number)
        model = DQN("MlpPolicy", Market(), train_freq=1, **OFF_POLICY)
        model.learn(40, callback=GradscopeCallback(20, str(folder), timeline_every=4, **options))
        _, rows = timeline(folder / "rl_model_gradscope_timeline.jsonl")
        assert rows
        for row in rows:
            assert row["num_rows"] == 32
            assert {
                each for each in ("num_active", "num_long", "num_short") if row[each] is not None
            } == known


@pytest.mark.parametrize("selector", ["3:5", "flat:8:10", "position_*"])
def test_every_way_to_name_the_newest_bar_counts_the_same(selector: str, tmp_path: Path) -> None:
    model = DQN("MlpPolicy", Market(opens_at=20), train_freq=1, **OFF_POLICY)
    model.learn(
        80,
        callback=GradscopeCallback(
            70, str(tmp_path), timeline_every=4, **KNOWN | {"slices": {"position": selector}}
        ),
    )
    metadata, tensors = snapshot(tmp_path / "rl_model_gradscope_70_steps.safetensors")
    newest = tensors["batch.observations"].numpy()[:, -2:]
    assert (metadata["num_active"], metadata["num_long"], metadata["num_short"]) == counts(newest)


class Bars(Market):
    """The same market as [bars, features]."""

    def __init__(self) -> None:
        super().__init__(opens_at=20)
        self.observation_space = spaces.Box(-1e3, 1e3, (NUM_BARS, NUM_FEATURES), np.float32)

    def _observation(self) -> Any:
        return self.bars.copy()


def test_observations_with_a_bar_axis(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", Bars(), train_freq=1, **OFF_POLICY)
    callback = GradscopeCallback(70, str(tmp_path), slices=POSITION, feature_names=NAMES)
    model.learn(80, callback=callback)
    metadata, tensors = snapshot(tmp_path / "rl_model_gradscope_70_steps.safetensors")
    assert tensors["batch.observations"].shape == (32, NUM_BARS, NUM_FEATURES)
    newest = tensors["batch.observations"].numpy()[:, -1, -2:]
    assert (metadata["num_active"], metadata["num_long"], metadata["num_short"]) == counts(newest)


class Pictures(Market):
    """Bright pictures, to see that they are stored as divided by 255."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)

    def _observation(self) -> Any:
        return np.full((36, 36, 1), 255 if self.time % 2 else 51, np.uint8)


def test_pictures_are_stored_as_the_network_sees_them(tmp_path: Path) -> None:
    model = DQN("CnnPolicy", Pictures(), train_freq=4, **OFF_POLICY | {"batch_size": 4})
    model.learn(24, callback=GradscopeCallback(16, str(tmp_path)))
    _, tensors = snapshot(tmp_path / "rl_model_gradscope_16_steps.safetensors")
    assert tensors["batch.observations"].shape == (4, 1, 36, 36)
    assert set(tensors["batch.observations"].unique().tolist()) <= {1.0, float(torch.tensor(51.0) / 255)}


def test_a_huge_batch_is_cut_and_says_so(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", Market(opens_at=0), train_freq=1, **OFF_POLICY | {"batch_size": MAX_ROWS + 100})
    model.learn(15, callback=GradscopeCallback(13, str(tmp_path), **KNOWN))
    metadata, tensors = snapshot(tmp_path / "rl_model_gradscope_13_steps.safetensors")
    assert len(tensors["batch.observations"]) == MAX_ROWS
    assert metadata["batch_size"] == metadata["num_rows"] == MAX_ROWS + 100
    assert metadata["reasons"]["batch.observations"] == f"the first {MAX_ROWS} of {MAX_ROWS + 100} rows"
