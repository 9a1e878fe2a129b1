"""One update of `gradscope try` against one of the library's own train(): CPU time, median of five pairs.

The same run, weights and batch size. An update of ours computes the actor's gradient every time, where TD3
does so every second time, and counts the zeros of every layer.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import TD3
from stable_baselines3.common.logger import Logger

from gradscope.run import open_run
from gradscope.settings import Settings
from gradscope.trial import tried

RUN = Path(__file__).parents[2] / "sample_checkpoints" / "confounded"
STEP, UPDATES, PAIRS = 6000, 400, 5


def seconds(work: Any) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def library() -> Any:
    model = TD3.load(RUN / f"rl_model_{STEP}_steps.zip", device="cpu")
    model.load_replay_buffer(RUN / f"rl_model_replay_buffer_{STEP}_steps.pkl")
    model.set_logger(Logger(None, []))
    return model


def main() -> None:
    torch.set_num_threads(1)
    model, opened = library(), open_run(RUN, settings=Settings())

    def ours(updates: int) -> Any:
        # Two trainings, of which the second has a remedy that only looks at the newest rows.
        return lambda: tried(
            opened, from_step=STEP, gradient_steps=updates, seeds=1, remedies=["activity-learning-rate"]
        )

    seconds(ours(1))
    ratios = []
    for _ in range(PAIRS):
        start, own = seconds(ours(1)), seconds(ours(UPDATES + 1))
        theirs = seconds(lambda: model.train(gradient_steps=UPDATES, batch_size=128))
        ratios.append((own - start) / 2 / theirs)
    shown = ", ".join(f"{each:.2f}" for each in sorted(ratios))
    sys.stdout.write(f"try against train(): {statistics.median(ratios):.2f} per update ({shown})\n")


if __name__ == "__main__":
    main()
