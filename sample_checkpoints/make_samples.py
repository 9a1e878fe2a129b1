"""Trains the sample runs: `python make_samples.py [collapse healthy confounded] [--seed N] [--out DIR]`.

Each run is 10,000 hours of trading. Real positions are not opened before step 5,000: what happens to the
gradients then is what the samples are for. README.md beside this file says what must be found in each.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3 import DQN, TD3
from stable_baselines3.common.callbacks import BaseCallback
from trading_agent import FEATURE_NAMES, SEQUENCE_LENGTH, SLICES, TradingEnv, TradingExtractor

from gradscope.record import GradscopeCallback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    Policy = Mapping[str, Any]

NUM_STEPS = 10_008  # the last checkpoint is at 10,000; TD3's actor needs some steps more to be updated
SAVE_EVERY = 2_000
COMMON = {
    "learning_rate": 1e-3,
    "batch_size": 128,
    "learning_starts": 100,
    "train_freq": 4,
    "gradient_steps": 1,
    "device": "cpu",
    # Rows for one interval between checkpoints, each observation once (Replay row i+1 holds i's next).
    "buffer_size": 2_048,
    "optimize_memory_usage": True,
    "replay_buffer_kwargs": {"handle_timeout_termination": False},
}


def trading_dqn(*, normalise: bool, seed: int, policy: Policy = MappingProxyType({}), **settings: Any) -> DQN:
    """A DQN with position features in hours, euros and dollars; `normalise` is the only difference.

    `policy` and `settings` take the place of what is here: try_remedies.py passes some.
    """
    own = {
        "features_extractor_class": TradingExtractor,
        "features_extractor_kwargs": {"normalise": normalise},
        "net_arch": [],  # one linear head: it always learns, dead units below are seen as such
    }
    return DQN(
        "MlpPolicy",
        TradingEnv(natural_units=True),
        policy_kwargs=own | dict(policy),
        gamma=0.9,
        target_update_interval=500,
        exploration_final_eps=0.1,
        seed=seed,
        **(COMMON | settings),
    )


def collapse(seed: int, **changes: Any) -> DQN:
    """Position features on raw scale: dollars and hours in the tens and hundreds, indicators within 2."""
    return trading_dqn(normalise=False, seed=seed, **changes)


def healthy(seed: int, **changes: Any) -> DQN:
    """The same, with a layer norm for each slice of a bar in front of the projection."""
    return trading_dqn(normalise=True, seed=seed, **changes)


def confounded(seed: int, *, policy: Policy = MappingProxyType({}), **settings: Any) -> TD3:
    """Normalised positions, but the reward grows when they open: the actor's tanh saturates for good."""
    env = TradingEnv(natural_units=False, continuous=True, paper_reward=0.01, carry=1.0)
    own = {"net_arch": [64, 64]}
    return TD3("MlpPolicy", env, policy_kwargs=own | dict(policy), seed=seed, **(COMMON | settings))


RUNS = {"collapse": collapse, "healthy": healthy, "confounded": confounded}


class Progress(BaseCallback):
    """One line for each thousand steps."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.start = name, time.monotonic()

    def _on_step(self) -> bool:
        if self.num_timesteps % 1_000 == 0:
            seconds = time.monotonic() - self.start
            print(f"{self.name}: step {self.num_timesteps:,} of {NUM_STEPS:,}, {seconds:.0f} s", flush=True)
        return True


def train(model: OffPolicyAlgorithm, name: str, folder: Path) -> None:
    """Train `model`, leaving checkpoints, replay buffers and the recorder's files in `folder`."""
    for old in folder.glob("rl_model_*"):
        old.unlink()
    recorder = GradscopeCallback(
        SAVE_EVERY,
        str(folder),
        save_replay_buffer=True,
        slices={"position": SLICES["position"]},
        feature_names=FEATURE_NAMES,
        sequence_length=SEQUENCE_LENGTH,
        timeline_every=10,
    )
    model.learn(NUM_STEPS, callback=[recorder, Progress(name)])


def main() -> None:
    """Train the runs named on the command line, all of them where none is."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Train the sample runs anew: about a minute each.")
    parser.add_argument("names", nargs="*", metavar="run", help=f"from: {', '.join(RUNS)} (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=here, help="folder for the runs' folders")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(RUNS):
        parser.error(f"no such run: {', '.join(sorted(unknown))}. Choose from {', '.join(RUNS)}.")
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same numbers
    for name in arguments.names or RUNS:
        train(RUNS[name](arguments.seed), name, arguments.out / name)


if __name__ == "__main__":
    main()
