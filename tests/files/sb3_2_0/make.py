"""Makes the files of Stable-Baselines3 2.0.0 here: checkpoints, buffers, VecNormalize.

pip install "torch==2.13.0" stable-baselines3==2.0.0 "numpy<2" && python make.py FOLDER
"""

import platform
import sys

import stable_baselines3
import torch
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

STEPS = 16


def make(out):
    torch.set_num_threads(1)
    platform.platform, platform.version = (lambda: "Linux-x86_64"), (lambda: "")
    for name in ("SAC", "TD3", "DQN", "PPO"):
        is_off_policy = name != "PPO"
        options = {"seed": 0, "device": "cpu", "policy_kwargs": {"net_arch": [4]}}
        if is_off_policy:
            options |= {"buffer_size": 40, "learning_starts": 8, "batch_size": 8, "train_freq": 1}
        else:
            options |= {"n_steps": 16, "batch_size": 8, "n_epochs": 2}
        if name == "DQN":
            options["target_update_interval"] = 10
        env = VecNormalize(make_vec_env("CartPole-v1" if name == "DQN" else "Pendulum-v1", n_envs=1, seed=0))
        model = getattr(stable_baselines3, name)("MlpPolicy", env, **options)
        callback = CheckpointCallback(
            STEPS, f"{out}/{name.lower()}", save_replay_buffer=is_off_policy, save_vecnormalize=True
        )
        model.learn(2 * STEPS, callback=callback)


if __name__ == "__main__":
    make(sys.argv[1])
