"""Prints what recording costs: CPU time of learn() with GradscopeCallback over that with CheckpointCallback.

``python tests/bench/recorder_overhead.py``: pairs in alternating order, medians; asserts no times.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time

import torch
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.callbacks import CheckpointCallback

from gradscope.record import GradscopeCallback

NUM_PAIRS = 10
RUNS = {
    "SAC 256-256": (SAC, "Pendulum-v1", 500, {"learning_starts": 100}),
    "DQN 64-64": (DQN, "CartPole-v1", 2500, {"learning_starts": 100, "train_freq": 1}),
}


def seconds(name: str, callback: type[CheckpointCallback]) -> float:
    algorithm, world, steps, options = RUNS[name]
    model = algorithm("MlpPolicy", world, seed=0, device="cpu", **options)
    with tempfile.TemporaryDirectory() as folder:
        watching = callback(steps // 2, folder)
        gc.collect()
        start = time.process_time()
        model.learn(steps, callback=watching)
        return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    for name in RUNS:
        seconds(name, CheckpointCallback)
        ratios = []
        for turn in range(NUM_PAIRS):
            order = (CheckpointCallback, GradscopeCallback)[:: 1 if turn % 2 else -1]
            taken = {callback: seconds(name, callback) for callback in order}
            ratios.append(taken[GradscopeCallback] / taken[CheckpointCallback])
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(f"{name}: recording / checkpoints alone = {median:.3f} ({low:.2f} to {high:.2f})")  # noqa: T201


if __name__ == "__main__":
    main()
