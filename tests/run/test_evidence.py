"""Optimizer evidence of real files against what the trainings' own gradients were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from run_cli import gradscope
from safetensors.numpy import load_file

from gradscope.read import open_file
from gradscope.records import Layer, OptimizerEvidence, Snapshot
from gradscope.run.evidence import NO_MOMENTS, layer_evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLES = Path(__file__).parents[2] / "sample_checkpoints"
PROJECTION = "q_net.features_extractor.temporal_projection.weight"
ATTENTION = "q_net.features_extractor.attention.in_proj_weight"
WIDTH, FLAT = 6, (4, 5)
OPTIONS: dict[str, dict[str, Any]] = {
    "PPO": {"n_steps": 32, "batch_size": 16, "n_epochs": 3},
    "A2C": {"n_steps": 8},
    "SAC": {"learning_starts": 20, "batch_size": 16, "buffer_size": 300},
    "TD3": {"learning_starts": 20, "batch_size": 16, "buffer_size": 300},
    "DQN": {"learning_starts": 20, "batch_size": 16, "buffer_size": 300, "train_freq": 1},
}


class Flat(gymnasium.Env[Any, Any]):
    """Two of its six observations are always 0: positions that never open."""

    observation_space = gymnasium.spaces.Box(-1, 1, (WIDTH,), np.float32)

    def __init__(self, *, is_discrete: bool) -> None:
        discrete, box = gymnasium.spaces.Discrete(2), gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = discrete if is_discrete else box
        self.draw = np.random.default_rng(0)

    def _seen(self) -> Any:
        seen = self.draw.uniform(-1, 1, WIDTH).astype(np.float32)
        seen[list(FLAT)] = 0
        return seen

    def reset(self, **_: Any) -> Any:
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        return self._seen(), float(np.sum(action)), bool(self.draw.random() < 0.1), False, {}


def trained(algorithm: str, path: Path) -> dict[str, list[np.ndarray[Any, Any]]]:
    """Train, save, and return every gradient that an optimizer saw, by the layer's name."""
    torch.set_num_threads(1)
    model = getattr(stable_baselines3, algorithm)(
        "MlpPolicy",
        Flat(is_discrete=algorithm == "DQN"),
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": [16, 16]},
        **OPTIONS[algorithm],
    )
    names = {id(p): name for name, p in model.policy.named_parameters()}
    if algorithm in {"SAC", "TD3"}:
        optimizers = [model.actor.optimizer, model.critic.optimizer]
    else:
        optimizers = [model.policy.optimizer]
    if algorithm == "SAC":
        optimizers.append(model.ent_coef_optimizer)
        names[id(model.log_ent_coef)] = "log_ent_coef"
    seen: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in names.values()}

    def note(optimizer: Any, *_: Any) -> None:
        for parameter in optimizer.param_groups[0]["params"]:
            if parameter.grad is not None:
                seen[names[id(parameter)]].append(parameter.grad.numpy().copy())

    for each in optimizers:
        each.register_step_pre_hook(note)
    model.learn(200)
    model.save(path)
    return seen


def evidence_of(path: Path) -> Mapping[str, tuple[OptimizerEvidence | None, str]]:
    record = open_file(path)
    assert isinstance(record, Snapshot)
    return {name: layer_evidence(layer) for name, layer in record.layers.items()}


@pytest.mark.parametrize("algorithm", OPTIONS)
def test_a_zip_alone_tells_what_its_training_never_reached(algorithm: str, tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    seen = trained(algorithm, path)
    found = evidence_of(path)
    assert len(found) > 5
    flat = 0
    for name, (evidence, why_not) in found.items():
        gradients = np.stack(seen[name])
        assert evidence is not None
        assert why_not == ""
        assert evidence.num_updates == len(gradients)
        # Squares below the smallest number are what the optimizer never saw either.
        ever = (np.square(gradients) * np.float32(0.001) > 0).any(0)
        assert evidence.never_trained_fraction == pytest.approx(1 - ever.mean(), abs=1e-9)
        if ever.ndim > 1:
            assert evidence.never_trained_rows == (~ever.any(1)).sum()
            assert evidence.never_trained_columns == (~ever.any(0)).sum()
            flat += evidence.never_trained_columns == len(FLAT)
        nonzero = np.flatnonzero(gradients.reshape(len(gradients), -1).any(1))
        silent = len(gradients) - 1 - int(nonzero[-1])
        if algorithm == "A2C":
            assert evidence.silent_updates is None
            assert "two averages" in evidence.reasons["silent_updates"]
        else:
            assert evidence.silent_at_least is not None
            assert evidence.silent_at_most is not None
            assert evidence.silent_at_least <= silent <= evidence.silent_at_most
        nulls = {key for key, value in vars(evidence).items() if value is None}
        assert nulls == set(evidence.reasons)
    assert flat >= (1 if algorithm == "DQN" else 2)


@pytest.mark.parametrize(
    ("step", "flat", "least_dead"), [(2000, 7, 0), (4000, 7, 0), (6000, 0, 0), (10000, 0, 34)]
)
def test_the_collapse_shows_in_the_zips_alone(step: int, flat: int, least_dead: int) -> None:
    """Seven flat position inputs before positions open, then units that die: as the gradients say."""
    found = evidence_of(SAMPLES / "collapse" / f"rl_model_{step}_steps.zip")
    stored = load_file(SAMPLES / "collapse" / f"rl_model_gradscope_{step}_steps.safetensors")
    gradient = stored[f"gradient.{PROJECTION}"]
    projection, attention = found[PROJECTION][0], found[ATTENTION][0]
    assert projection is not None
    assert attention is not None
    assert projection.never_trained_columns == flat == (gradient == 0).all(0).sum()
    assert projection.never_trained_fraction == pytest.approx(flat / 80)
    dead = (gradient == 0).all(1).sum()
    assert projection.silent_rows is not None
    assert least_dead <= projection.silent_rows <= dead
    assert attention.silent_columns == projection.silent_rows
    assert projection.silent_at_least == 0


def test_the_healthy_twin_shows_nothing() -> None:
    for step in (2000, 4000, 6000, 8000, 10000):
        for name, (found, _) in evidence_of(SAMPLES / "healthy" / f"rl_model_{step}_steps.zip").items():
            assert found is not None
            # Before positions open, their own normalisation has nothing to scale: seen, and no fault.
            is_waiting = name.endswith("input_norm.position.weight") and step < 6000
            assert found.never_trained_fraction == (1 if is_waiting else 0), name
            assert not found.silent_at_least
            assert not found.silent_rows
            assert not found.silent_columns


def test_a_layer_without_state_gives_the_readers_reason() -> None:
    bare = Layer(name="w", shape=(2,), dtype="float32")
    assert layer_evidence(bare) == (None, NO_MOMENTS)
    told = Layer(name="w", shape=(2,), dtype="float32", reasons={"moments": "the optimizer has not stepped"})
    assert layer_evidence(told) == (None, "the optimizer has not stepped")


def test_the_layers_own_gradient_is_compared_with_unless_another_is_given() -> None:
    draw = np.random.default_rng(0)
    gradient = draw.normal(size=(20, 20)).astype(np.float32)
    moments = {"exp_avg": 0.1 * gradient, "exp_avg_sq": 0.001 * gradient**2, "step": np.asarray(1.0)}
    settings = {"betas": (0.9, 0.999), "weight_decay": 0}
    layer = Layer(
        name="w",
        shape=(20, 20),
        dtype="float32",
        gradient=gradient,
        moments=moments,
        moment_settings=settings,
    )
    own, given = layer_evidence(layer)[0], layer_evidence(layer, gradient * 2)[0]
    assert own is not None
    assert given is not None
    assert own.activity_rate == pytest.approx(1)
    assert given.activity_rate == pytest.approx(0.25)


def test_scan_shows_evidence_beside_no_gradients(tmp_path: Path) -> None:
    folder = str(SAMPLES / "collapse")
    document = json.loads(
        gradscope("scan", folder, "--source", "optimizer", "--json", directory=tmp_path).out
    )
    last = document["snapshots"][-1]
    assert last["origin"] == "optimizer"
    assert last["zero_fraction"] is None
    assert last["status"] == "unknown"
    for layer in last["layers"]:
        assert set(layer["optimizer"]) >= {
            "never_trained_fraction",
            "silent_updates",
            "activity_rate",
            "reasons",
        }
        nulls = {key for key, value in layer["optimizer"].items() if value is None}
        assert nulls == set(layer["optimizer"]["reasons"])
    text = gradscope("scan", folder, "--source", "optimizer", directory=tmp_path, width=120).out
    assert "What the optimizers remember at step 10,000" in text
    assert "no gradients" in text
