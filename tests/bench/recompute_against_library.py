"""Prints what recomputing gradients costs beside the library's own training.

``python tests/bench/recompute_against_library.py``: time of 8 batches of 256 against as many gradient steps
of Stable-Baselines3 (SAC, 256-256, warm, pairs in alternating order, medians), and the memory that a whole
recomputation needs above a process that only imports torch, beside the size of the buffer. Asserts nothing.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

NUM_PAIRS = 15
BATCHES, BATCH_SIZE = 8, 256
MIB = 1 << 20
KIB = 1 << 10


def made(folder: Path, name: str) -> tuple[Any, Path, Path]:
    """A model that has trained a little, with a full buffer of random rows, and its files."""
    import gymnasium as gym  # noqa: PLC0415  the processes whose memory is measured import none of this
    import torch  # noqa: PLC0415
    from gymnasium import spaces  # noqa: PLC0415
    from stable_baselines3 import DQN, SAC  # noqa: PLC0415

    is_vector = name == "vectors"

    class World(gym.Env[Any, Any]):
        metadata: ClassVar[dict[str, Any]] = {}
        observation_space: Any = (
            spaces.Box(-9, 9, (150,), np.float32) if is_vector else spaces.Box(0, 255, (4, 84, 84), np.uint8)
        )
        action_space: Any = spaces.Box(-1, 1, (3,), np.float32) if is_vector else spaces.Discrete(4)

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return self.observation_space.sample(), {}

        def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return self.observation_space.sample(), float(self.np_random.normal()), False, False, {}

    torch.set_num_threads(1)
    rows = 160_000 if is_vector else 6_000
    maker, policy = (SAC, "MlpPolicy") if is_vector else (DQN, "CnnPolicy")
    model: Any = maker(policy, World(), buffer_size=rows, learning_starts=30, device="cpu", seed=0)
    model.learn(40)
    buffer, random = model.replay_buffer, np.random.default_rng(0)
    for array in (buffer.observations, buffer.next_observations):
        for place in range(0, rows, 1_000):
            part = random.integers(0, 255, array[place : place + 1_000].shape)
            array[place : place + 1_000] = part if array.dtype == np.uint8 else part / 100
    buffer.full = True
    model._last_original_obs = buffer.observations[buffer.pos - 1]
    model.save(folder / f"{name}.zip")
    model.save_replay_buffer(folder / f"{name}.pkl")
    return model, folder / f"{name}.zip", folder / f"{name}.pkl"


def recomputed(model: Path, buffer: Path, batches: int = BATCHES) -> Any:
    from gradscope.read import open_file  # noqa: PLC0415
    from gradscope.read.sb3_training import sb3_training  # noqa: PLC0415
    from gradscope.recompute import recompute_gradients  # noqa: PLC0415

    replay: Any = open_file(buffer)
    return recompute_gradients(
        sb3_training(model), replay.ring, None, batches=batches, batch_size=BATCH_SIZE, seed=0
    )


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cost(model: Any, files: tuple[Path, Path]) -> None:
    """Ratios of time, warm, buffer read."""
    found = recomputed(*files)
    ours: Callable[[], object] = lambda: [None for _ in found.batches()]  # noqa: E731
    theirs: Callable[[], object] = lambda: model.train(gradient_steps=BATCHES, batch_size=BATCH_SIZE)  # noqa: E731
    for work in (ours, theirs, ours, theirs):
        work()
    ratios, own, library = [], [], []
    for turn in range(NUM_PAIRS):
        order = (ours, theirs)[:: 1 if turn % 2 else -1]
        taken = {work: seconds(work) for work in order}
        own.append(taken[ours])
        library.append(taken[theirs])
        ratios.append(taken[ours] / taken[theirs])
    print(  # noqa: T201
        f"time: {BATCHES} batches of {BATCH_SIZE} / as many gradient steps = {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}; {statistics.median(own) * 1000:.0f} ms, "
        f"the library {statistics.median(library) * 1000:.0f} ms)"
    )


def peak(*files: Path) -> float:
    """Largest memory in bytes of a process of its own: torch alone, or with a recomputation.

    Of /proc (Linux): a child's ru_maxrss starts at its parent's.
    """
    work = [sys.executable, __file__, "alone", *map(str, files)]
    return float(subprocess.run(work, capture_output=True, check=True, text=True).stdout)


def alone(*files: Path) -> None:
    """What such a process does."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    if files:
        assert sum(len(one.gradients) for one in recomputed(*files).batches())
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    print(int(status["VmHWM"].split()[0]) * KIB)  # noqa: T201


def memory(name: str, files: tuple[Path, Path]) -> None:
    """What a recomputation needs above a process that only imports torch."""
    size = files[1].stat().st_size
    above = peak(*files) - peak()
    print(  # noqa: T201
        f"memory, {name}: {above / MIB:.0f} MiB above torch alone for a buffer of {size / MIB:.0f} MiB: "
        f"{above / size:.2f} of its size"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vectors", "images"):
            model, *files = made(Path(folder), name)
            if name == "vectors":
                cost(model, (files[0], files[1]))
            memory(name, (files[0], files[1]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        alone(*map(Path, sys.argv[2:]))
    else:
        main()
