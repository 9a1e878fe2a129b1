"""Real files of real producers, made once per test run by tiny trainings."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SB3_STEPS = (64, 128)
"""Steps at which the tiny trainings of `sb3_files` save."""
OFF_POLICY = ("SAC", "TD3", "DDPG", "DQN")


@pytest.fixture(autouse=True)
def _torch_as_it_comes() -> None:
    """torchrl turns torch's checks of distributions off for the whole process when it is imported."""
    if "torch.distributions" in sys.modules:
        sys.modules["torch.distributions"].Distribution.set_default_validate_args(__debug__)


@pytest.fixture(scope="session")
def sb3_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny real training by algorithm: zips, buffers and VecNormalize at SB3_STEPS.

    Files are named as SB3's CheckpointCallback names them: rl_model_64_steps.zip,
    rl_model_replay_buffer_64_steps.pkl (off-policy only), rl_model_vecnormalize_64_steps.pkl.
    """
    folders: dict[str, Path] = {}

    def folder_of(algorithm: str) -> Path:
        if algorithm not in folders:
            folders[algorithm] = tmp_path_factory.mktemp(algorithm.lower())
            train_sb3(algorithm, folders[algorithm])
        return folders[algorithm]

    return folder_of


def train_sb3(algorithm: str, folder: Path, **options: Any) -> Any:
    """Train SB3_STEPS[-1] steps with SB3's own CheckpointCallback; returns the model."""
    # Imported here: a run of tests that need no SB3 file then starts without torch.
    import stable_baselines3  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from stable_baselines3.common.callbacks import CheckpointCallback  # noqa: PLC0415
    from stable_baselines3.common.env_util import make_vec_env  # noqa: PLC0415
    from stable_baselines3.common.vec_env import VecNormalize  # noqa: PLC0415

    torch.set_num_threads(1)
    is_off_policy = algorithm in OFF_POLICY
    world = "CartPole-v1" if algorithm == "DQN" else "Pendulum-v1"
    env = VecNormalize(make_vec_env(world, n_envs=1, seed=0))
    defaults: dict[str, Any] = {"seed": 0, "device": "cpu", "policy_kwargs": {"net_arch": [8, 8]}}
    if is_off_policy:
        defaults |= {"buffer_size": 200, "learning_starts": 20, "batch_size": 16}
    else:
        defaults |= {"n_steps": 32} | ({"batch_size": 16, "n_epochs": 2} if algorithm == "PPO" else {})
    model = getattr(stable_baselines3, algorithm)("MlpPolicy", env, **defaults | options)
    callback = CheckpointCallback(
        SB3_STEPS[0], str(folder), save_replay_buffer=is_off_policy, save_vecnormalize=True
    )
    model.learn(SB3_STEPS[-1], callback=callback)
    return model
