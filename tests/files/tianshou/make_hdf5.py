"""Writes buffers of tianshou 2.0 as HDF5, and beside them what tianshou itself says they hold.

Run in this folder with tianshou installed: ``python make_hdf5.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tianshou.data import Batch, ReplayBuffer, VectorReplayBuffer

RNG = np.random.default_rng(0)


def step(number: int, shape: tuple[int, ...]) -> Batch:
    """One transition, or one for each environment."""
    observation = RNG.normal(size=(*shape, 3)).astype(np.float32)
    return Batch(
        obs=observation,
        act=RNG.integers(0, 4, shape),
        rew=RNG.normal(size=shape),
        terminated=np.full(shape, number % 5 == 4),
        truncated=np.full(shape, number % 7 == 6),
        obs_next=observation + 1,
        info=Batch(),
    )


def with_keys(batch: Batch) -> Batch:
    """The same with a Dict observation."""
    for name in ("obs", "obs_next"):
        batch[name] = Batch(market=batch[name], position=batch[name][..., 0].astype(np.int64))
    return batch


def expected(buffer: Any) -> dict[str, np.ndarray]:
    """All transitions in the order of collection (sample_indices(0)), environment after environment."""
    rows = buffer[buffer.sample_indices(0)]
    arrays = {}
    for name in ("obs", "obs_next", "act", "rew", "terminated"):
        value = rows[name]
        is_nested = isinstance(value, Batch)
        arrays |= {f"{name}.{key}": value[key] for key in value.get_keys()} if is_nested else {name: value}
    return arrays


def main() -> None:
    """Five buffers: not full, wrapped, Dict, and two of several environments."""
    buffers = {"part": ReplayBuffer(20), "wrapped": ReplayBuffer(10), "keys": ReplayBuffer(10)}
    for name, buffer in buffers.items():
        for number in range(13):
            batch = step(number, ())
            buffer.add(with_keys(batch) if name == "keys" else batch)
    buffers |= {"vector": VectorReplayBuffer(20, 2), "uneven": VectorReplayBuffer(20, 2)}
    for number in range(13):
        buffers["vector"].add(step(number, (2,)), buffer_ids=[0, 1])
        buffers["uneven"].add(step(number, (1,)), buffer_ids=[0])
        if number < 4:
            buffers["uneven"].add(step(number, (1,)), buffer_ids=[1])
    held = {}
    for name, buffer in buffers.items():
        buffer.save_hdf5(f"{name}.h5")
        held |= {f"{name}/{key}": value for key, value in expected(buffer).items()}
    np.savez_compressed("expected.npz", **held)


if __name__ == "__main__":
    main()
