"""Tiny run folders, file by file, as their producers write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch
from safetensors.torch import save_file
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gradscope.records import SNAPSHOT_SCHEMA, TIMELINE_SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

NUM_COLUMNS = 4
SPACE = gymnasium.spaces.Box(-1e3, 1e3, (NUM_COLUMNS,), np.float32)
POSITION = {"position": "3:4"}


class _World(gymnasium.Env[Any, Any]):
    observation_space = SPACE
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)


def rows(number: int, active: float, seed: int = 0) -> np.ndarray[Any, Any]:
    """Three columns of noise and a position that is open in the first ``active`` of the rows."""
    values = np.random.default_rng(seed).normal(size=(number, NUM_COLUMNS)).astype(np.float32)
    values[:, 3] = np.arange(number) < active * number
    return values


def checkpoint(folder: Path, step: int, name: str = "rl_model") -> Path:
    path = folder / f"{name}_{step}_steps.pt"
    torch.save({"model": {"net.weight": torch.zeros(8, 4)}, "step": step}, path)
    return path


def replay(folder: Path, name: str, observations: np.ndarray[Any, Any]) -> Path:
    space = gymnasium.spaces.Box(-1e3, 1e3, observations.shape[1:], np.float32)
    buffer = ReplayBuffer(len(observations) + 10, space, _World.action_space, device="cpu")
    one = np.zeros(1, np.float32)
    for row in observations:
        buffer.add(row, row, one, one, one, [{}])
    save_to_pkl(folder / name, buffer)
    return folder / name


def recorded(
    folder: Path, step: int, observations: np.ndarray[Any, Any], num_active: int | None, **more: Any
) -> Path:
    document = {
        "schema": SNAPSHOT_SCHEMA,
        "step": step,
        "num_batches": 1,
        "batch_size": len(observations),
        "num_rows": len(observations),
        "num_active": num_active,
        "slices": POSITION,
        "layers": [{"name": "net.weight", "shape": [8, 4], "dtype": "float32"}],
    }
    path = folder / f"rl_model_gradscope_{step}_steps.safetensors"
    tensors = {"gradient.net.weight": torch.ones(8, 4), "batch.observations": torch.from_numpy(observations)}
    save_file(tensors, path, {"gradscope": json.dumps(document | more)})
    return path


def normalizer(folder: Path, step: int) -> Path:
    path = folder / f"rl_model_vecnormalize_{step}_steps.pkl"
    VecNormalize(DummyVecEnv([_World])).save(str(path))
    return path


def timeline(folder: Path, num_steps: int = 60, name: str = "rl_model", **header: Any) -> Path:
    """Zeros and activity that rise together, with some noise."""
    start = {
        "schema": TIMELINE_SCHEMA,
        "zero_tolerance": 1e-8,
        "slices": POSITION,
        "optimizers": {"policy": [{"name": "net.weight", "num_elements": 32}]},
    }
    draw = np.random.default_rng(0)
    active = np.where(np.arange(num_steps) > num_steps / 2, 80, 5) + draw.integers(0, 5, num_steps)
    lines: list[dict[str, Any]] = [start | header]
    for at, held in enumerate(active.tolist()):
        values = {"step": at * 10, "update": at, "optimizer": "policy", "norm": [1.0]}
        counts = {"num_zero": [held // 4], "num_exact_zero": [held // 4], "num_expected": [0]}
        lines.append(values | counts | {"num_rows": 100, "num_active": held})
    path = folder / f"{name}_gradscope_timeline.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
