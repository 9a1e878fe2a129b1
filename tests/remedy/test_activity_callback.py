"""The callback on real trainings: rates follow the positions, and nothing stays behind."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from record.worlds import Market, hooks_left, optimizers
from remedy.worlds import ALGORITHMS, fresh
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from gradscope.errors import UsageError
from gradscope.remedy import ActivityLearningRateCallback

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BARS = {"sequence_length": 2}


def rates_seen(model: Any) -> dict[str, list[tuple[int, float]]]:
    """Step and rate at every later optimizer step, seen from inside step()."""
    seen: dict[str, list[tuple[int, float]]] = {}
    for name, optimizer in optimizers(model).items():
        seen[name] = []
        original = type(optimizer)

        # Adam calls this inside step(), after all hooks.
        def init_group(self: Any, group: Any, *rest: Any, name: str = name, original: Any = original) -> Any:
            seen[name].append((model.num_timesteps, group["lr"]))
            return original._init_group(self, group, *rest)

        optimizer.__class__ = type("Witness", (original,), {"_init_group": init_group})
    return seen


class Truth(BaseCallback):
    """Whether the newest observation of the environment itself holds a position, by step."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open: dict[int, bool] = {}

    def _on_step(self) -> bool:
        (raw,) = self.training_env.get_attr("bars")
        self.is_open[self.num_timesteps] = bool(raw[-1, 3:].any())
        return True


def world(name: str, *, normalise: bool) -> Any:
    make: Callable[[], Any] = lambda: Market(discrete=name in {"DQN", "PPO"})  # noqa: E731 - DummyVecEnv takes functions
    env = DummyVecEnv([make])
    return VecNormalize(env) if normalise else env


@pytest.mark.parametrize(("name", "normalise"), [("SAC", False), ("SAC", True), ("TD3", False)])
def test_every_optimizer_steps_at_half_its_rate_exactly_while_a_position_is_open(
    name: str, normalise: bool
) -> None:
    model = fresh(name, env=world(name, normalise=normalise), learning_rate=lambda left: 0.01 * left)
    seen, truth = rates_seen(model), Truth()
    model.learn(110, callback=[ActivityLearningRateCallback("3:", **BARS), truth])
    assert set(seen) == ({"actor", "critic", "ent_coef"} if name == "SAC" else {"actor", "critic"})
    for steps in seen.values():
        assert {truth.is_open[step] for step, _ in steps} == {True, False}
        for step, rate in steps:
            # At the end of an episode the newest observation is the next one's first, at rest.
            scheduled = 0.01 * (1 - step / 110)
            is_open = truth.is_open[step]
            assert rate == pytest.approx(scheduled / 2 if is_open else scheduled, rel=1e-6)


def test_a_rollout_counts_as_a_whole() -> None:
    model = fresh("PPO", learning_rate=0.01)
    seen, callback = rates_seen(model), ActivityLearningRateCallback("3:", 0.1, threshold=0.9, **BARS)
    fractions = []

    class Fraction(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            assert callback.rate is not None
            fractions.append(callback.rate.active_fraction)

    truth = Truth()
    model.learn(128, callback=[callback, Fraction(), truth])
    expected = [np.mean([truth.is_open[step] for step in range(32 * i + 1, 32 * i + 33)]) for i in range(4)]
    assert fractions == pytest.approx(expected)
    assert fractions[0] == 0 < fractions[-1] < 0.9
    assert {rate for _, rate in seen["policy"]} == {0.01}
    model = fresh("PPO", learning_rate=0.01)
    seen = rates_seen(model)
    model.learn(128, callback=ActivityLearningRateCallback("3:", 0.1, **BARS))
    assert [rate for _, rate in seen["policy"]] == pytest.approx([0.01] * 4 + [0.001] * 12, rel=1e-6)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_saved_models_do_not_know_of_it_and_nothing_stays_behind(name: str, tmp_path: Path) -> None:
    model = fresh(name, learning_rate=0.01)
    attributes = set(vars(model))
    callback = ActivityLearningRateCallback("3:", **BARS)
    checkpoints = CheckpointCallback(20, str(tmp_path))
    model.learn(120, callback=CallbackList([callback, checkpoints]))
    assert hooks_left(model) == 0
    assert callback.rate is None
    assert not any("rate" in key and "learning_rate" not in key for key in set(vars(model)) - attributes)
    saved = sorted(tmp_path.glob("*.zip"))
    assert len(saved) == 6
    for path in saved:
        with zipfile.ZipFile(path) as archive:
            assert not any(b"Activity" in archive.read(each) for each in archive.namelist())
        loaded = ALGORITHMS[name][0].load(path)
        for optimizer in optimizers(loaded).values():
            assert [group["lr"] for group in optimizer.param_groups] == [0.01]
    loaded.set_env(model.get_env())
    loaded.learn(64, callback=callback)


def test_after_a_crash_the_next_training_starts_clean() -> None:
    class Crash(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 110:
                raise RuntimeError
            return True

    model = fresh("SAC", learning_rate=0.01)
    callback = ActivityLearningRateCallback("3:", **BARS)
    with pytest.raises(RuntimeError):
        model.learn(200, callback=[callback, Crash()])
    seen = rates_seen(model)
    model.learn(40, callback=callback)
    assert {rate for _, rate in seen["critic"]} <= {0.01, 0.005}
    assert hooks_left(model) == 0


def test_dict_observations_have_a_key() -> None:
    env = Market(as_dict=True)
    model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=16, n_epochs=1, device="cpu", seed=0)
    seen = rates_seen(model)
    model.learn(128, callback=ActivityLearningRateCallback(":", key="account"))
    assert {rate for _, rate in seen["policy"]} == {3e-4, 1.5e-4}
    with pytest.raises(UsageError, match="'account', 'market'"):
        model.learn(32, callback=ActivityLearningRateCallback(":"))
    with pytest.raises(UsageError, match="no keys"):
        fresh("PPO").learn(32, callback=ActivityLearningRateCallback(":", key="account"))


def test_observations_stacked_after_vecnormalize_are_refused() -> None:
    stacked = VecFrameStack(world("PPO", normalise=True), 2)
    model = PPO("MlpPolicy", stacked, n_steps=32, batch_size=16, device="cpu")
    with pytest.raises(UsageError, match="outermost"):
        model.learn(32, callback=ActivityLearningRateCallback("3:"))


def test_columns_that_do_not_fit_stop_the_training_at_its_first_step() -> None:
    with pytest.raises(UsageError, match="outside 0:5"):
        fresh("DQN").learn(64, callback=ActivityLearningRateCallback("3:6", **BARS))
    assert torch.is_grad_enabled()
