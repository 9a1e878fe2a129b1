"""Gradients, norms, batches and counts of real tiny runs against what step() itself held."""

from __future__ import annotations

import zipfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from record.worlds import (
    NAMES,
    NUM_BARS,
    POSITION,
    Attention,
    Market,
    optimizers,
    snapshot,
    timeline,
    witness,
)
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3

from gradscope.measure import zero_count
from gradscope.record import GradscopeCallback

if TYPE_CHECKING:
    from pathlib import Path

OFF_POLICY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500}
RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "SAC": (SAC, OFF_POLICY),
    "SAC fixed entropy": (SAC, OFF_POLICY | {"ent_coef": 0.1}),
    "SAC two updates a step": (SAC, OFF_POLICY | {"gradient_steps": 2}),
    "SAC shared extractor": (
        SAC,
        OFF_POLICY
        | {"policy_kwargs": {"features_extractor_class": Attention, "share_features_extractor": True}},
    ),
    "TD3": (TD3, OFF_POLICY),
    "TD3 late actor": (TD3, OFF_POLICY | {"policy_delay": 7}),
    "TD3 shared extractor": (
        TD3,
        OFF_POLICY
        | {"policy_kwargs": {"features_extractor_class": Attention, "share_features_extractor": True}},
    ),
    "DDPG": (DDPG, OFF_POLICY),
    "DQN": (DQN, OFF_POLICY | {"train_freq": 1, "max_grad_norm": 0.05}),
    "PPO": (PPO, {"n_steps": 32, "batch_size": 16, "n_epochs": 2}),
    "A2C": (A2C, {"n_steps": 8}),
}
SAVE_EVERY = 25


@pytest.fixture(scope="module", params=list(RUNS))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One trained model, its folder and what its optimizers saw."""
    algorithm, options = RUNS[request.param]
    options = {"policy_kwargs": {"features_extractor_class": Attention}} | options
    options["policy_kwargs"] = {"net_arch": [12, 12]} | options["policy_kwargs"]
    model = algorithm("MlpPolicy", Market(discrete=algorithm == DQN), seed=3, device="cpu", **options)
    seen = {name: witness(model, optimizer) for name, optimizer in optimizers(model).items()}
    folder = tmp_path_factory.mktemp("run")
    callback = GradscopeCallback(
        SAVE_EVERY,
        str(folder),
        slices=POSITION,
        feature_names=NAMES,
        sequence_length=NUM_BARS,
        timeline_every=3,
    )
    model.learn(110, callback=callback)
    return model, folder, seen


def names_of(model: Any, optimizer: torch.optim.Optimizer) -> list[str]:
    """By identity over the state dict with its variables kept, so without named_parameters()."""
    named = model.policy.state_dict(keep_vars=True)
    own = [p for group in optimizer.param_groups for p in group["params"]]
    return [next((n for n, v in named.items() if v is p), "log_ent_coef") for p in own]


def first_after(entries: list[Any], step: int) -> Any:
    """SB3 trains after the callback of a step, so the first step() at or after it is the one."""
    return next((entry for entry in entries if entry.step >= step), None)


def snapshots(folder: Path) -> list[Path]:
    return sorted(folder.glob("rl_model_gradscope_*_steps.safetensors"))


def test_gradients_are_those_of_step_to_the_last_bit(run: Any) -> None:
    model, folder, seen = run
    assert len(snapshots(folder)) == model.num_timesteps // SAVE_EVERY
    for path in snapshots(folder):
        metadata, tensors = snapshot(path)
        owners = {layer["name"]: layer["optimizer"] for layer in metadata["layers"]}
        compared = set()
        for name, optimizer in optimizers(model).items():
            entry = first_after(seen[name], metadata["step"])
            for layer, gradient in zip(names_of(model, optimizer), entry.gradients, strict=True):
                if gradient is None:
                    continue
                if owners[layer] == name or f"gradient.{layer}" not in compared:
                    assert torch.equal(tensors[f"gradient.{layer}"], gradient), (path.name, layer)
                compared.add(f"gradient.{layer}")
        assert compared == {name for name in tensors if name.startswith("gradient.")}


def test_first_updates_are_on_the_checkpoints_own_weights(run: Any) -> None:
    model, folder, seen = run
    for path in snapshots(folder):
        metadata, _ = snapshot(path)
        saved = state_dict(folder / f"rl_model_{metadata['step']}_steps.zip")
        for name, optimizer in optimizers(model).items():
            if metadata["optimizers"][name]["updates_after_save"] > 1 or name == "ent_coef":
                continue
            entry = first_after(seen[name], metadata["step"])
            shared = names_of(model, optimizer)
            for layer, weight in zip(shared, entry.weights, strict=True):
                if (
                    "features_extractor" not in layer
                    or model.policy_kwargs.get("share_features_extractor") is None
                ):
                    assert torch.equal(saved[layer], weight), (path.name, layer)


def test_updates_after_save_count_the_optimizer_that_comes_late(run: Any) -> None:
    model, folder, seen = run
    leader = "policy" if "policy" in seen else "critic"
    for path in snapshots(folder):
        metadata, _ = snapshot(path)
        for name in seen:
            entry = first_after(seen[name], metadata["step"])
            index = next(i for i, e in enumerate(seen[name]) if e is entry)
            first = next(i for i, e in enumerate(seen[leader]) if e.step >= metadata["step"])
            updates_a_step = getattr(model, "policy_delay", 1) if name == "actor" else 1
            expected = (index + 1) * updates_a_step - first
            assert metadata["optimizers"][name]["updates_after_save"] == expected
            assert metadata["optimizers"][name]["step"] == entry.step


def test_norm_is_what_step_saw_and_every_layer_is_listed_once(run: Any) -> None:
    model, folder, seen = run
    metadata, tensors = snapshot(snapshots(folder)[0])
    for name in seen:
        entry = first_after(seen[name], metadata["step"])
        norm = torch.cat([g.double().flatten() for g in entry.gradients if g is not None]).norm().item()
        assert metadata["optimizers"][name]["norm"] == pytest.approx(norm, rel=1e-7)
    listed = [layer["name"] for layer in metadata["layers"]]
    assert sorted(listed) == sorted({n for o in optimizers(model).values() for n in names_of(model, o)})
    for layer in metadata["layers"]:
        if layer["gradient"]:
            assert list(tensors[f"gradient.{layer['name']}"].shape) == layer["shape"]
            assert layer["reason"] is None
        else:
            assert layer["reason"] == "no gradient reached this parameter"
            assert f"gradient.{layer['name']}" not in tensors


def test_timeline_rows_equal_the_measures_counts(run: Any) -> None:
    model, folder, seen = run
    (header,), rows = timeline(folder / "rl_model_gradscope_timeline.jsonl")
    modules = {n: type(m).__name__ for n, m in model.policy.named_modules()}
    leader = max(len(entries) for entries in seen.values())
    assert {row["optimizer"] for row in rows} == set(seen)
    num_expected = 0
    for row in rows:
        entries = seen[row["optimizer"]]
        index = row["update"] // (leader // len(entries)) - 1
        assert entries[index].step == row["step"]
        layers = header["optimizers"][row["optimizer"]]
        assert [layer["name"] for layer in layers] == names_of(model, optimizers(model)[row["optimizer"]])
        for place, (layer, gradient) in enumerate(zip(layers, entries[index].gradients, strict=True)):
            if gradient is None:
                assert row["num_zero"][place] is None
                assert row["norm"][place] is None
                continue
            owner = modules.get(layer["name"].rpartition(".")[0])
            count = zero_count(gradient.numpy(), name=layer["name"], module=owner, tolerance=1e-8)
            assert row["num_zero"][place] == count.num_zero
            assert row["num_exact_zero"][place] == count.num_exact_zero
            assert row["num_expected"][place] == count.anatomy.expected
            assert row["num_nonfinite"][place] == 0
            assert row["norm"][place] == pytest.approx(count.norm, rel=1e-7, abs=1e-30)
            num_expected += count.anatomy.expected
    assert num_expected > 0, "the key bias of the attention never showed"


def test_baseline_is_of_the_very_first_update_without_the_expected(run: Any) -> None:
    model, folder, seen = run
    metadata, _ = snapshot(snapshots(folder)[-1])
    baseline = {layer["name"]: layer["baseline_zero_fraction"] for layer in metadata["layers"]}
    modules = {n: type(m).__name__ for n, m in model.policy.named_modules()}
    for name, optimizer in optimizers(model).items():
        for layer, gradient in zip(names_of(model, optimizer), seen[name][0].gradients, strict=True):
            if gradient is None:
                continue
            count = zero_count(gradient.numpy(), name=layer, module=modules.get(layer.rpartition(".")[0]))
            expected = (count.num_zero - count.anatomy.expected) / count.num_elements
            assert baseline[layer] == pytest.approx(expected)
            baseline.pop(layer)
    assert set(baseline.values()) <= {None}


def state_dict(path: Path) -> dict[str, torch.Tensor]:
    with zipfile.ZipFile(path) as archive:
        loaded: dict[str, torch.Tensor] = torch.load(BytesIO(archive.read("policy.pth")), weights_only=True)
    return loaded


def test_clipping_is_reported_as_torch_did_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    original = torch.nn.utils.clip_grad_norm_

    def clip(*arguments: Any, **options: Any) -> torch.Tensor:
        norm = original(*arguments, **options)
        norms.append(float(norm))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    for number, limit in enumerate((0.01, 1e6)):
        norms.clear()
        folder = tmp_path / str(number)
        model = PPO(
            "MlpPolicy", Market(), n_steps=32, batch_size=16, max_grad_norm=limit, seed=1, device="cpu"
        )
        model.learn(64, callback=GradscopeCallback(32, str(folder), timeline_every=1))
        _, rows = timeline(folder / "rl_model_gradscope_timeline.jsonl")
        assert [row["norm_before_clip"] for row in rows] == pytest.approx(norms, rel=1e-6)
        expected = [min(1.0, limit / norm) for norm in norms]
        assert [row["clip_coefficient"] for row in rows] == pytest.approx(expected, rel=1e-3)
        assert all(row["clip_coefficient"] == 1.0 for row in rows) == (limit > 1)


def test_a_model_that_does_not_clip_says_so(tmp_path: Path) -> None:
    model = SAC("MlpPolicy", Market(discrete=False), learning_starts=10, seed=1, device="cpu")
    model.learn(30, callback=GradscopeCallback(15, str(tmp_path)))
    metadata, _ = snapshot(snapshots(tmp_path)[0])
    for optimizer in metadata["optimizers"].values():
        assert optimizer["clip_coefficient"] is None
        assert optimizer["reasons"]["clip_coefficient"] == "SAC does not clip"
        assert optimizer["norm_before_clip"] == pytest.approx(optimizer["norm"], rel=1e-9)


def test_clipping_by_the_users_own_code_is_reported(tmp_path: Path) -> None:
    model = SAC("MlpPolicy", Market(discrete=False), learning_starts=10, seed=1, device="cpu")
    parameters = list(model.actor.parameters())

    def halve(*_: Any) -> None:
        for parameter in parameters:
            parameter.grad *= 0.5

    model.actor.optimizer.register_step_pre_hook(halve)
    model.learn(30, callback=GradscopeCallback(15, str(tmp_path)))
    metadata, _ = snapshot(snapshots(tmp_path)[0])
    assert metadata["optimizers"]["actor"]["clip_coefficient"] == pytest.approx(0.5, rel=1e-6)
    assert metadata["optimizers"]["critic"]["clip_coefficient"] is None


def test_gradients_that_are_not_finite_have_no_norm(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", Market(), learning_starts=10, train_freq=1, seed=1, device="cpu")
    first = next(model.policy.q_net.parameters())
    first.register_hook(lambda gradient: gradient.index_fill(1, torch.tensor([0]), np.inf))
    model.learn(30, callback=GradscopeCallback(15, str(tmp_path), timeline_every=1))
    metadata, tensors = snapshot(snapshots(tmp_path)[0])
    entry = metadata["optimizers"]["policy"]
    assert (entry["norm"], entry["norm_before_clip"], entry["clip_coefficient"]) == (None, None, None)
    assert entry["reasons"]["norm"]
    assert entry["reasons"]["clip_coefficient"] == "the gradient's norm is not finite"
    _, rows = timeline(tmp_path / "rl_model_gradscope_timeline.jsonl")
    seen = [tensors[f"gradient.{layer['name']}"] for layer in metadata["layers"]]
    row = next(row for row in rows if row["step"] == 15)
    assert row["num_nonfinite"] == [int((~gradient.isfinite()).sum()) for gradient in seen]
    assert row["norm"][0] is None
