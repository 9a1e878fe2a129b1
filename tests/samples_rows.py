"""Makers of replays that need no native library, for format_samples.py and tests of readers."""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES: Final = Path(__file__).parent / "files"
ROWS: Final = 40


def experience(rows: int = ROWS, seed: int = 0) -> Mapping[str, Any]:
    """A walk of ``rows`` steps: each observation begins where the one before ended, but after an end."""
    rng = np.random.default_rng(seed)
    path = rng.normal(size=(rows + 1, 3)).astype(np.float32)
    return {
        "observations": path[:-1],
        "next_observations": path[1:],
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "dones": (np.arange(rows) % 7 == 6).astype(np.float32),
    }


def transitions(rows: int = ROWS) -> list[tuple[Any, ...]]:
    """The same as (state, action, reward, next state, done)."""
    found = experience(rows)
    return [
        (
            found["observations"][row],
            found["actions"][row],
            float(found["rewards"][row]),
            found["next_observations"][row],
            bool(found["dones"][row]),
        )
        for row in range(rows)
    ]


def npz_file(folder: Path, _: object) -> Path:
    np.savez(folder / "transitions_3_steps.npz", **experience())
    return folder / "transitions_3_steps.npz"


def pickle_file(folder: Path, _: object) -> Path:
    (folder / "memory_3_steps.pkl").write_bytes(pickle.dumps(collections.deque(transitions(), maxlen=100)))
    return folder / "memory_3_steps.pkl"


def torchrl_folder(folder: Path, _: object) -> Path:
    # Imported here: torchrl takes seconds to import.
    import torch  # noqa: PLC0415
    from tensordict import TensorDict  # noqa: PLC0415
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer  # noqa: PLC0415

    found = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in experience().items()}
    following = {
        "observation": found["next_observations"],
        "reward": found["rewards"][:, None],
        "done": found["dones"][:, None] > 0,
    }
    items = {"observation": found["observations"], "action": found["actions"], "next": following}
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(100), batch_size=4)
    buffer.extend(TensorDict(items, [ROWS]))
    buffer.dumps(folder / "buffer_3_steps")
    return folder / "buffer_3_steps"
