"""What anyone can check with the library alone: gradscope's gradient is the one of its next train()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import set_random_seed

import gradscope

if TYPE_CHECKING:
    from pathlib import Path

    import torch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sac")
    settings: dict[str, Any] = {
        "learning_starts": 20,
        "buffer_size": 100,
        "policy_kwargs": {"net_arch": [16]},
    }
    model = SAC("MlpPolicy", gymnasium.make("Pendulum-v1"), seed=0, device="cpu", **settings)
    model.learn(120, callback=CheckpointCallback(60, str(folder), save_replay_buffer=True))
    return folder


def by_the_library(folder: Path, step: int, batch_size: int, seed: int) -> dict[str, torch.Tensor]:
    model = SAC.load(folder / f"rl_model_{step}_steps.zip", device="cpu")
    model.load_replay_buffer(folder / f"rl_model_replay_buffer_{step}_steps.pkl")
    model.set_logger(configure(None, []))
    seen: dict[str, torch.Tensor] = {}
    networks = {"actor": model.actor, "critic": model.critic}
    for prefix, network in networks.items():

        def look(*_: Any, prefix: str = prefix, network: Any = network) -> None:
            seen.update({f"{prefix}.{name}": each.grad.clone() for name, each in network.named_parameters()})

        network.optimizer.register_step_pre_hook(look)
    assert model.ent_coef_optimizer is not None
    model.ent_coef_optimizer.register_step_pre_hook(
        lambda *_: seen.update(log_ent_coef=model.log_ent_coef.grad.clone())
    )
    set_random_seed(seed)
    model.train(gradient_steps=1, batch_size=batch_size)
    return seen


@pytest.mark.parametrize(("step", "batch_size", "seed"), [(60, 32, 0), (120, 16, 7)])
def test_every_tensor_is_equal_to_the_last_bit(run: Path, step: int, batch_size: int, seed: int) -> None:
    settings = gradscope.Settings(batches=1, batch_size=batch_size, seed=seed)
    (own,) = gradscope.true_gradients(run / f"rl_model_{step}_steps.zip", settings=settings)
    expected = by_the_library(run, step, batch_size, seed)
    assert set(own) == set(expected)
    for name, gradient in expected.items():
        assert np.array_equal(own[name], gradient.numpy()), name


def test_what_cannot_be_given_is_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(gradscope.UsageError, match="2 checkpoints, not one"):
        gradscope.true_gradients(run)
    (tmp_path / "rl_model_60_steps.zip").write_bytes((run / "rl_model_60_steps.zip").read_bytes())
    with pytest.raises(gradscope.UsageError, match="cannot be recomputed: no replay buffer of this step"):
        gradscope.true_gradients(tmp_path / "rl_model_60_steps.zip")
