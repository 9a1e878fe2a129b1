"""Files of Stable-Baselines3 2.0.0: gradscope's gradient is the one of today's library's next train()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import stable_baselines3
from samples_folders import FILES
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize

import gradscope

if TYPE_CHECKING:
    import torch

SEED, BATCH_SIZE = 3, 8


def by_the_library(name: str, world: str) -> dict[str, torch.Tensor]:
    folder = FILES / "sb3_2_0" / name.lower()
    env = VecNormalize.load(str(folder / "rl_model_vecnormalize_32_steps.pkl"), make_vec_env(world, n_envs=1))
    model: Any = getattr(stable_baselines3, name).load(
        folder / "rl_model_32_steps.zip", env=env, device="cpu"
    )
    model.load_replay_buffer(folder / "rl_model_replay_buffer_32_steps.pkl")
    model.set_logger(configure(None, []))
    seen: dict[str, torch.Tensor] = {}
    networks = {"actor": model.actor, "critic": model.critic} if name != "DQN" else {"q_net": model.q_net}
    for prefix, network in networks.items():

        def look(*_: Any, prefix: str = prefix, network: Any = network) -> None:
            seen.update({f"{prefix}.{key}": each.grad.clone() for key, each in network.named_parameters()})

        owner = model.policy if name == "DQN" else network
        owner.optimizer.register_step_pre_hook(look)
    set_random_seed(SEED)
    model.train(gradient_steps=1, batch_size=BATCH_SIZE)
    return seen


@pytest.mark.parametrize(
    ("name", "world", "num_tensors"),
    [("SAC", "Pendulum-v1", 14), ("TD3", "Pendulum-v1", 12), ("DQN", "CartPole-v1", 4)],
)
def test_every_tensor_is_equal_to_the_last_bit(name: str, world: str, num_tensors: int) -> None:
    settings = gradscope.Settings(batches=1, batch_size=BATCH_SIZE, seed=SEED)
    path = FILES / "sb3_2_0" / name.lower() / "rl_model_32_steps.zip"
    (own,) = gradscope.true_gradients(path, settings=settings)
    expected = by_the_library(name, world)
    assert len(expected) == num_tensors
    assert set(own) - {"log_ent_coef"} == set(expected)
    for key, gradient in expected.items():
        assert np.array_equal(own[key], gradient.numpy()), key
