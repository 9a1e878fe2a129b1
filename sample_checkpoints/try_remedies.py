"""Trains the sample runs anew with each remedy: `python try_remedies.py [--runs R...] [--remedies N...] [--seeds S...]`.

Everything but the remedy is as in make_samples.py, initial weights included. One line of JSON for each training
goes to `--out`; what is there already is not trained again, so an interrupted queue goes on. `--table` prints
what README.md shows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from make_samples import NUM_STEPS, RUNS
from remedy_measures import Watch, measured
from remedy_table import tables
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from trading_agent import FEATURE_NAMES, NUM_FEATURES, SEQUENCE_LENGTH, SLICES, TradingExtractor

from gradscope.record import GradscopeCallback
from gradscope.remedy import (
    ActivityLearningRateCallback,
    InputLayerNorm,
    SliceNormalizer,
    clip_by_group,
    dead_units,
    recycle_dead_units,
    scale_slice_gradients,
    slice_learning_rate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import gymnasium
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

POSITION = {"position": SLICES["position"]}
COLUMNS = SLICES["position"]
SGD_RATE = {"collapse": 0.1, "healthy": 0.1, "confounded": 0.01}
SLOW = 0.1  # of that rate, for `...-slow-sgd`
RECYCLE_EVERY = 100  # updates, as `gradscope try`
MAX_NORM = 10.0  # of each group; SB3's DQN clips all together at 10, its TD3 nothing


class RemedyExtractor(TradingExtractor):
    """The agent's extractor with a remedy in front of its own norm, if it has one."""

    def __init__(self, observation_space: gymnasium.spaces.Box, *, remedy: Callable[[], nn.Module], **own: Any):
        super().__init__(observation_space, **own)
        self.input_norm = nn.Sequential(remedy(), self.input_norm)


class RemedyFlatten(BaseFeaturesExtractor):
    """What MlpPolicy does with an observation, behind a remedy."""

    def __init__(self, observation_space: gymnasium.spaces.Box, *, remedy: Callable[[], nn.Module]) -> None:
        super().__init__(observation_space, features_dim=SEQUENCE_LENGTH * NUM_FEATURES)
        self.input_norm = remedy()

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Observations [rows, bars, features] -> [rows, bars * features]."""
        return self.input_norm(observations).flatten(1)


INPUTS: Mapping[str, Callable[[], nn.Module]] = {
    "slice-normalizer": partial(SliceNormalizer, NUM_FEATURES, POSITION),
    "input-layer-norm": partial(InputLayerNorm, NUM_FEATURES, POSITION),
    "one-input-layer-norm": partial(InputLayerNorm, NUM_FEATURES),
}


def first_layers(model: OffPolicyAlgorithm) -> Iterator[tuple[nn.Linear, torch.optim.Optimizer, list[int]]]:
    """Each layer that reads observations, with its optimizer and the position's columns of its weight."""
    bar = range(*map(int, COLUMNS.split(":")))
    flat = [number * NUM_FEATURES + column for number in range(SEQUENCE_LENGTH) for column in bar]
    if isinstance(model, DQN):
        yield model.q_net.features_extractor.temporal_projection, model.policy.optimizer, list(bar)
        return
    yield model.actor.mu[0], model.actor.optimizer, flat
    for network in model.critic.q_networks:
        # Behind the 320 columns of the observation comes the action, so sequence_length=4 does not divide it.
        yield network[0], model.critic.optimizer, flat


def scale_gradients(model: OffPolicyAlgorithm) -> None:
    """The case's second fix. Under Adam it warns that it cancels."""
    for layer, optimizer, columns in first_layers(model):
        scale_slice_gradients(layer, columns, 0.1, optimizer=optimizer)


def slow_slice(model: OffPolicyAlgorithm) -> None:
    """What the second fix was meant to do."""
    for layer, optimizer, columns in first_layers(model):
        slice_learning_rate(optimizer, layer, columns, 0.1)


def clip_groups(model: OffPolicyAlgorithm) -> None:
    """Each part by its own norm: projection, rest of the extractor, head; actor; each critic."""
    if isinstance(model, DQN):
        model.max_grad_norm = float("inf")
        extractor = model.q_net.features_extractor
        projection = list(extractor.temporal_projection.parameters())
        known = {id(each) for each in projection}
        groups = {
            "projection": projection,
            "extractor": [each for each in extractor.parameters() if id(each) not in known],
            "head": list(model.q_net.q_net.parameters()),
        }
        clip_before_step(model.policy.optimizer, groups)
        return
    actor = {"actor": list(model.actor.parameters())}
    critics = {f"qf{n}": list(network.parameters()) for n, network in enumerate(model.critic.q_networks)}
    clip_before_step(model.actor.optimizer, actor)
    clip_before_step(model.critic.optimizer, critics)


def clip_before_step(optimizer: torch.optim.Optimizer, groups: Mapping[str, list[torch.Tensor]]) -> None:
    """Inside SB3, whose loop cannot be changed."""

    def clip(*_: object) -> None:
        clip_by_group(groups, MAX_NORM)  # a hook must return nothing, and this returns norms

    optimizer.register_step_pre_hook(clip)


class RecycleCallback(BaseCallback):
    """Every hundred updates: units that are 0 on every row of the replay buffer begin anew."""

    def __init__(self, every: int = RECYCLE_EVERY) -> None:
        super().__init__()
        self.every, self.num_recycled, self.next_at = every, 0, every

    def _init_callback(self) -> None:
        self.generator = torch.Generator().manual_seed(self.model.seed or 0)

    def _on_rollout_start(self) -> None:
        if self.model._n_updates >= self.next_at:  # noqa: SLF001 - SB3 has no public count
            self.next_at += self.every
            self.num_recycled += self._recycled()

    def _on_step(self) -> bool:
        return True

    @torch.no_grad()
    def _recycled(self) -> int:
        buffer = self.model.replay_buffer
        count = buffer.size()
        rows = torch.as_tensor(buffer.observations[:count, 0])
        if isinstance(self.model, DQN):
            return self._recycled_projection(rows)
        actor, critic = self.model.actor, self.model.critic
        number = self._recycled_nets(actor.mu, actor.extract_features(rows, actor.features_extractor), actor)
        features = critic.extract_features(rows, critic.features_extractor)
        inputs = torch.cat((features, torch.as_tensor(buffer.actions[:count, 0])), dim=1)
        return number + sum(self._recycled_nets(each, inputs, critic) for each in critic.q_networks)

    def _recycled_projection(self, rows: torch.Tensor) -> int:
        extractor = self.model.q_net.features_extractor
        projection = extractor.temporal_projection
        # Two layers read the units: the attention, whose weight is no layer of its own, and past it the head.
        attention = extractor.attention.in_proj_weight
        inside = nn.Linear(attention.shape[1], attention.shape[0], bias=False, device="meta")
        inside.weight = attention
        return recycle_dead_units(
            projection,
            [inside, self.model.q_net.q_net[0]],
            self.model.policy.optimizer,
            dead=dead_units(torch.relu(projection(extractor.input_norm(rows)))),
            initialise=initialise_projection,
            generator=self.generator,
        )

    def _recycled_nets(self, net: nn.Sequential, values: torch.Tensor, owner: nn.Module) -> int:
        number = 0
        for index, layer in enumerate(net):
            values = layer(values)
            if isinstance(layer, nn.ReLU):
                number += recycle_dead_units(
                    net[index - 1],
                    net[index + 1],
                    owner.optimizer,
                    dead=dead_units(values),
                    generator=self.generator,
                )
        return number


def initialise_projection(layer: nn.Module) -> None:
    """As TradingExtractor does."""
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)


def nothing(model: OffPolicyAlgorithm) -> None:
    """The training as it is."""
    del model


PREPARE: Mapping[str, Callable[[OffPolicyAlgorithm], None]] = {
    "slice-gradient-scale": scale_gradients,
    "slice-gradient-scale-sgd": scale_gradients,
    "slice-gradient-scale-slow-sgd": scale_gradients,
    "slice-learning-rate": slow_slice,
    "clip-by-group": clip_groups,
}
CALLBACKS: Mapping[str, Callable[[], BaseCallback]] = {
    "activity-learning-rate": partial(ActivityLearningRateCallback, COLUMNS, 0.5),
    "recycle-dead-units": RecycleCallback,
}
REMEDIES = (
    "none",
    "slice-normalizer",
    "input-layer-norm",
    "one-input-layer-norm",
    "slice-gradient-scale",
    "slice-learning-rate",
    "activity-learning-rate",
    "recycle-dead-units",
    "clip-by-group",
    "none-sgd",
    "slice-gradient-scale-sgd",
    "none-slow-sgd",
    "slice-gradient-scale-slow-sgd",
)


def prepared(run: str, remedy: str, seed: int) -> tuple[OffPolicyAlgorithm, list[BaseCallback]]:
    """A model of `run` with the remedy in it, not trained yet, and the callbacks that belong to the remedy."""
    policy: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    if remedy in INPUTS:
        own = {} if run == "confounded" else {"normalise": run == "healthy"}
        policy["features_extractor_class"] = RemedyFlatten if run == "confounded" else RemedyExtractor
        policy["features_extractor_kwargs"] = {"remedy": INPUTS[remedy], **own}
    if remedy.endswith("sgd"):
        policy["optimizer_class"] = torch.optim.SGD
        settings["learning_rate"] = SGD_RATE[run] * (SLOW if "slow" in remedy else 1)
    model = RUNS[run](seed, policy=policy, **settings)
    PREPARE.get(remedy, nothing)(model)
    return model, [CALLBACKS[remedy]()] if remedy in CALLBACKS else []


def train(run: str, remedy: str, seed: int) -> dict[str, Any]:
    """Train from scratch and measure; the recorder's files go when this is done."""
    start = time.monotonic()
    model, callbacks = prepared(run, remedy, seed)
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        recorder = GradscopeCallback(
            2 * NUM_STEPS,  # no checkpoint: the timeline is all that is needed
            folder,
            slices=POSITION,
            feature_names=FEATURE_NAMES,
            sequence_length=SEQUENCE_LENGTH,
            timeline_every=10,
        )
        model.learn(NUM_STEPS, callback=[*callbacks, recorder, watch])
        found = measured(model, watch, Path(folder))
    recycled = {"recycled": each.num_recycled for each in callbacks if isinstance(each, RecycleCallback)}
    seconds = time.monotonic() - start
    return {"run": run, "remedy": remedy, "seed": seed, **found, **recycled, "seconds": round(seconds, 1)}


def done(out: Path) -> list[dict[str, Any]]:
    """The trainings in the file; a line torn by an interruption is none."""
    lines = out.read_text().splitlines() if out.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def main() -> None:
    """Train what is asked for and not there yet, then print the tables."""
    parser = argparse.ArgumentParser(description="Train the sample runs with each remedy.")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=["collapse", "confounded", "healthy"])
    parser.add_argument("--remedies", nargs="+", choices=REMEDIES, default=REMEDIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("build/remedies.jsonl"))
    parser.add_argument("--table", action="store_true", help="train nothing, print the tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same numbers
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    known = {(each["run"], each["remedy"], each["seed"]) for each in done(arguments.out)}
    asked = [(r, m, s) for r in arguments.runs for s in arguments.seeds for m in arguments.remedies]
    for run, remedy, seed in [] if arguments.table else asked:
        if (run, remedy, seed) not in known:
            found = train(run, remedy, seed)
            with arguments.out.open("a") as file:
                file.write(json.dumps(found) + "\n")
            print(f"{run}, {remedy}, seed {seed}: {found['seconds']:.0f} s", flush=True)
    print(tables(done(arguments.out), REMEDIES))


if __name__ == "__main__":
    main()
