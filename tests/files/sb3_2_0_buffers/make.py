"""Buffers of Stable-Baselines3 2.0.0 pickled under numpy 1.26, and the rows that the library holds.

pip install torch stable-baselines3==2.0.0 "numpy<2"; python make.py
"""

from pathlib import Path

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import save_to_pkl

HERE = Path(__file__).parent
BOX = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (1, 4, 4), np.uint8)
NAMES = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save(name: str, buffer: ReplayBuffer, space: spaces.Space, action: spaces.Space, rows: int) -> None:
    """Fill a buffer with samples; keep it and its arrays, the oldest row first."""
    rng = np.random.default_rng(0)
    for row in range(rows):
        ahead, after = ([space.sample() for _ in range(buffer.n_envs)] for _ in range(2))
        if isinstance(space, spaces.Dict):
            ahead, after = (
                {key: np.stack([each[key] for each in many]) for key in space} for many in (ahead, after)
            )
        else:
            ahead, after = np.stack(ahead), np.stack(after)
        actions = np.stack([action.sample() for _ in range(buffer.n_envs)])
        infos = [{"TimeLimit.truncated": row % 6 == 5} for _ in range(buffer.n_envs)]
        done = np.full(buffer.n_envs, row % 3 == 2)
        buffer.add(ahead, after, actions, rng.normal(size=buffer.n_envs), done, infos)
    save_to_pkl(HERE / f"{name}.pkl", buffer)
    valid = buffer.buffer_size if buffer.full else buffer.pos
    order = (np.arange(valid) + (buffer.pos if buffer.full else 0)) % valid
    arrays = {each: getattr(buffer, each) for each in NAMES if getattr(buffer, each, None) is not None}
    flat = {each: value for each, value in arrays.items() if not isinstance(value, dict)}
    flat |= {
        f"{each}.{key}": value[key]
        for each, value in arrays.items()
        if isinstance(value, dict)
        for key in value
    }
    np.savez_compressed(HERE / f"{name}.npz", **{each: value[order] for each, value in flat.items()})


def main() -> None:
    """Spaces, environments, partial and full."""
    mixed = spaces.Dict({"image": IMAGE, "vector": BOX})
    choice = spaces.Discrete(3)
    for space in (BOX, IMAGE, mixed):
        space.seed(0)
    save("box", ReplayBuffer(10, BOX, BOX, "cpu"), BOX, BOX, 7)
    save("full", ReplayBuffer(20, BOX, BOX, "cpu", n_envs=2), BOX, BOX, 14)
    save("image", ReplayBuffer(8, IMAGE, choice, "cpu"), IMAGE, choice, 11)
    save("dict", DictReplayBuffer(8, mixed, BOX, "cpu"), mixed, BOX, 11)
    shared = {"optimize_memory_usage": True, "handle_timeout_termination": False}
    save("shared", ReplayBuffer(8, BOX, BOX, "cpu", **shared), BOX, BOX, 5)


if __name__ == "__main__":
    main()
