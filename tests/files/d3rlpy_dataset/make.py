"""Writes a dataset of d3rlpy 2.8, and beside it the transitions that d3rlpy itself picks from it.

Run in this folder with d3rlpy installed: ``python make.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from d3rlpy.dataset import Episode, InfiniteBuffer, ReplayBuffer

RNG = np.random.default_rng(0)
EPISODES = ((5, True), (4, False), (3, True))
"""Steps, and whether the last one is terminal."""


def episode(steps: int, *, is_terminal: bool, is_tuple: bool) -> Episode:
    """Random numbers of the right shapes."""
    observations = RNG.normal(size=(steps, 3)).astype(np.float32)
    pair = [observations, RNG.normal(size=(steps, 2)).astype(np.float32)]
    actions, rewards = (RNG.normal(size=(steps, size)).astype(np.float32) for size in (2, 1))
    return Episode(pair if is_tuple else observations, actions, rewards, is_terminal)


def main() -> None:
    """A plain dataset and one with tuples of observations."""
    held = {}
    for name in ("plain", "tuple"):
        episodes = [episode(steps, is_terminal=end, is_tuple=name == "tuple") for steps, end in EPISODES]
        buffer = ReplayBuffer(InfiniteBuffer(), episodes=episodes)
        with Path(f"{name}.h5").open("w+b") as file:
            buffer.dump(file)
        picked = [
            buffer.transition_picker(each, index)
            for each in buffer.episodes
            for index in range(each.transition_count)
        ]
        for key in ("observation", "next_observation", "action", "reward", "terminal"):
            values = [getattr(each, key) for each in picked]
            parts = range(2) if isinstance(values[0], (list, tuple)) else ()
            held |= {f"{name}/{key}.{part}": np.stack([each[part] for each in values]) for part in parts}
            held |= {} if parts else {f"{name}/{key}": np.stack(values)}
    np.savez_compressed("expected.npz", **held)


if __name__ == "__main__":
    main()
