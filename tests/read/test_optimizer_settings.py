"""Settings of optimizers, which parameter a state is of, and why there is none."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import stable_baselines3
import torch
from conftest import SB3_STEPS
from torch import nn

from gradscope.read import open_file
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gradscope.records import Layer

ALGORITHMS = ("SAC", "TD3", "DDPG", "DQN", "PPO", "A2C")


def layers_of(path: Path) -> Mapping[str, Layer]:
    record = open_file(path)
    assert isinstance(record, Snapshot)
    return record.layers


def saved(path: Path, model: Any, optimizer: Any, **more: Any) -> Mapping[str, Layer]:
    state = optimizer if isinstance(optimizer, (dict, list)) else optimizer.state_dict()
    torch.save({"model": model.state_dict(), "optimizer": state, "step": 5} | more, path)
    return layers_of(path)


def rewritten(source: Path, target: Path, member: str, change: Callable[[Any], Any]) -> Path:
    """Copy an SB3 zip with what one of its torch files holds changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == member:
                buffer = io.BytesIO()
                torch.save(change(torch.load(io.BytesIO(content), weights_only=True)), buffer)
                content = buffer.getvalue()
            new.writestr(name, content)
    return target


def square_network(depth: int = 4) -> nn.Sequential:
    """Layers of one shape: any order fits them."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(6, 6) for _ in range(depth)))


def step(model: nn.Module, optimizer: Any, size: int = 6) -> None:
    optimizer.zero_grad()
    model(torch.randn(8, size)).pow(2).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_settings_are_those_of_the_librarys_optimizer(
    sb3_files: Callable[[str], Path], algorithm: str
) -> None:
    path = sb3_files(algorithm) / f"rl_model_{SB3_STEPS[-1]}_steps.zip"
    model = getattr(stable_baselines3, algorithm).load(path, device="cpu")
    if algorithm in {"DQN", "PPO", "A2C"}:
        optimizers = {"": model.policy.optimizer}
    else:
        optimizers = {"actor.": model.actor.optimizer, "critic.": model.critic.optimizer}
    if algorithm == "SAC":
        optimizers["log_ent_coef"] = model.ent_coef_optimizer
    layers = layers_of(path)
    for prefix, optimizer in optimizers.items():
        (group,) = optimizer.param_groups
        wanted = {name: each for name, each in group.items() if name != "params"}
        found = [layer for name, layer in layers.items() if name.startswith(prefix)]
        assert found
        for layer in found:
            assert dict(layer.moment_settings) == wanted
            assert layer.moments
            assert "moments" not in layer.reasons
    assert layers[next(iter(layers))].moment_settings.get("weight_decay") == 0


def test_every_group_has_its_own_settings(tmp_path: Path) -> None:
    model = square_network()
    named = dict(model.named_parameters())
    groups = [
        {"params": [(n, p) for n, p in named.items() if p.ndim == 2], "weight_decay": 0.1, "lr": 0.5},
        {"params": [(n, p) for n, p in reversed(named.items()) if p.ndim == 1], "betas": (0.8, 0.9)},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    step(model, optimizer)
    layers = saved(tmp_path / "m.pt", model, optimizer)
    for name, parameter in named.items():
        settings, is_matrix = layers[name].moment_settings, parameter.ndim == 2
        assert settings["weight_decay"] == (0.1 if is_matrix else 0.0)
        assert settings["betas"] == ((0.9, 0.999) if is_matrix else (0.8, 0.9))
        assert settings["decoupled_weight_decay"] is True
        assert not {"params", "param_names"} & set(settings)
        np.testing.assert_array_equal(
            layers[name].moments["exp_avg"], optimizer.state[parameter]["exp_avg"].numpy()
        )


def test_names_in_the_file_prove_an_order_that_shapes_do_not(tmp_path: Path) -> None:
    model = square_network()
    optimizer = torch.optim.Adam(list(reversed(list(model.named_parameters()))))
    step(model, optimizer)
    layers = saved(tmp_path / "m.pt", model, optimizer)
    for name, parameter in model.named_parameters():
        expected = optimizer.state[parameter]["exp_avg_sq"].numpy()
        np.testing.assert_array_equal(layers[name].moments["exp_avg_sq"], expected)


def test_names_that_are_not_the_models_are_not_believed(tmp_path: Path) -> None:
    model = square_network()
    optimizer = torch.optim.Adam([(f"other.{n}", p) for n, p in model.named_parameters()])
    step(model, optimizer)
    for layer in saved(tmp_path / "m.pt", model, optimizer).values():
        assert not layer.moments
        assert "fits no order of the names" in layer.reasons["moments"]


class TwoNetworks(nn.Module):
    def __init__(self, third: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6))
        self.actor = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
        self.critic = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, third))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder(x)
        return self.actor(x).sum() + self.critic(x).sum()


@pytest.mark.parametrize("swap", [False, True])
def test_two_networks_of_one_shape_could_stand_in_either_order(tmp_path: Path, swap: bool) -> None:
    """Of both files only the truth differs: neither is claimed, and what stands elsewhere is."""
    model = TwoNetworks()
    parts = [model.actor, model.critic]
    order = [model.encoder, *(reversed(parts) if swap else parts)]
    optimizer = torch.optim.Adam([p for part in order for p in part.parameters()])
    step(model, optimizer)
    layers = saved(tmp_path / "m.pt", model, optimizer)
    for name, parameter in model.named_parameters():
        if name.startswith("encoder."):
            expected = optimizer.state[parameter]["exp_avg"].numpy()
            np.testing.assert_array_equal(layers[name].moments["exp_avg"], expected)
        else:
            assert not layers[name].moments
            assert not layers[name].moment_settings
            assert "fits several orders" in layers[name].reasons["moments"]
            assert "named_parameters()" in layers[name].reasons["moments"]


def test_numbered_blocks_of_one_shape_stand_in_their_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)) for _ in range(3)))
    model = nn.ModuleDict({"blocks": blocks})
    optimizer = torch.optim.Adam(model.parameters())
    step(blocks, optimizer)
    layers = saved(tmp_path / "m.pt", model, optimizer)
    assert len(layers) == 12
    for name, parameter in model.named_parameters():
        expected = optimizer.state[parameter]["exp_avg"].numpy()
        np.testing.assert_array_equal(layers[name].moments["exp_avg"], expected)


def test_two_networks_of_different_shapes_have_one_order(tmp_path: Path) -> None:
    model = TwoNetworks(third=1)
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer)
    layers = saved(tmp_path / "m.pt", model, optimizer)
    assert all(layer.moments for layer in layers.values())
    swapped = torch.optim.Adam(
        [p for part in (model.encoder, model.critic, model.actor) for p in part.parameters()]
    )
    step(model, swapped)
    for layer in saved(tmp_path / "s.pt", model, swapped).values():
        assert "fits no order" in layer.reasons["moments"]


def test_sb3_networks_of_one_shape_stand_in_the_librarys_order(sb3_files: Callable[[str], Path]) -> None:
    """PPO's policy and value networks are alike; the library fixes their order."""
    path = sb3_files("PPO") / f"rl_model_{SB3_STEPS[-1]}_steps.zip"
    model = stable_baselines3.PPO.load(path, device="cpu")
    layers = layers_of(path)
    shapes = {name.replace("policy_net", "value_net"): layer.shape for name, layer in layers.items()}
    assert all(layers[name].shape == shape for name, shape in shapes.items())
    for name, parameter in model.policy.named_parameters():
        expected = model.policy.optimizer.state[parameter]["exp_avg"].numpy()
        np.testing.assert_array_equal(layers[name].moments["exp_avg"], expected)


def test_why_a_plain_checkpoint_has_no_moments(tmp_path: Path) -> None:
    model = square_network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step(model, sgd)
    decayed = torch.optim.Adam([{"params": [p]} for p in model.parameters()])
    step(model, decayed)
    cases = {
        "the optimizer has not stepped": torch.optim.Adam(model.parameters()),
        "has not stepped": [torch.optim.Adam(model.parameters()).state_dict() for _ in range(2)],
        "SGD without momentum keeps no state": sgd,
        "fits no order of the names": decayed,
        "fits no order": {"state": {}, "param_groups": []},
    }
    for number, (reason, optimizer) in enumerate(cases.items()):
        for layer in saved(tmp_path / f"{number}.pt", model, optimizer).values():
            assert not layer.moments
            assert reason in layer.reasons["moments"]
    torch.save(model.state_dict(), tmp_path / "w.pt")
    for layer in layers_of(tmp_path / "w.pt").values():
        assert layer.reasons["moments"] == "the file holds no optimizer state"


def test_a_parameter_that_no_gradient_reached_says_so(tmp_path: Path) -> None:
    model = square_network()
    model[1].weight.requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer)
    layers = saved(tmp_path / "m.pt", model, optimizer)
    assert "no gradient reached it" in layers["1.weight"].reasons["moments"]
    assert all(layer.moments for name, layer in layers.items() if name != "1.weight")


def test_why_an_sb3_zip_has_no_moments(sb3_files: Callable[[str], Path], tmp_path: Path) -> None:
    fresh = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", device="cpu", policy_kwargs={"net_arch": [4]})
    fresh.save(tmp_path / "fresh.zip")
    for layer in layers_of(tmp_path / "fresh.zip").values():
        assert layer.reasons["moments"] == "the optimizer has not stepped"
    source = sb3_files("SAC") / f"rl_model_{SB3_STEPS[-1]}_steps.zip"

    def shorter(state: Any) -> Any:
        state["param_groups"][0]["params"].pop()
        return state

    layers = layers_of(rewritten(source, tmp_path / "short.zip", "actor.optimizer.pth", shorter))
    for name, layer in layers.items():
        assert bool(layer.moments) == (not name.startswith("actor."))
        assert layer.moments or "fits no order" in layer.reasons["moments"]
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(tmp_path / "bare.zip", "w") as new:
        for name in old.namelist():
            if "optimizer" not in name:
                new.writestr(name, old.read(name))
    for layer in layers_of(tmp_path / "bare.zip").values():
        assert layer.reasons["moments"] == "the file holds no optimizer state"


def test_dqn_of_sb3_before_2_4_had_its_target_in_the_optimizer(
    sb3_files: Callable[[str], Path], tmp_path: Path
) -> None:
    """Twelve numbers and six states in its files: the first half is the online network."""
    source = sb3_files("DQN") / f"rl_model_{SB3_STEPS[-1]}_steps.zip"
    model = stable_baselines3.DQN.load(source, device="cpu")
    both = [*model.q_net.parameters(), *model.q_net_target.parameters()]
    state = model.policy.optimizer.state_dict()

    def old(_: Any) -> Any:
        groups = torch.optim.Adam(both, lr=1e-3).state_dict()["param_groups"]
        return {"state": state["state"], "param_groups": groups}

    layers = layers_of(rewritten(source, tmp_path / "old.zip", "policy.optimizer.pth", old))
    assert list(layers) == [f"q_net.{name}" for name, _ in model.q_net.named_parameters()]
    for number, layer in enumerate(layers.values()):
        expected = state["state"][number]["exp_avg"].numpy()
        np.testing.assert_array_equal(layer.moments["exp_avg"], expected)
        assert layer.moment_settings["betas"] == (0.9, 0.999)


def test_a_step_that_is_a_plain_number_is_read(tmp_path: Path) -> None:
    """Torch before 1.12, and SB3's RMSpropTFLike."""
    model = square_network()
    optimizer = torch.optim.Adam(model.parameters())
    step(model, optimizer)
    state = optimizer.state_dict()
    for each in state["state"].values():
        each["step"] = 1
    for layer in saved(tmp_path / "m.pt", model, state).values():
        assert layer.moments["step"] == 1
        assert layer.moments["step"].shape == ()


def test_settings_that_are_tensors_or_objects(tmp_path: Path) -> None:
    model = square_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.25))
    step(model, optimizer)
    state = optimizer.state_dict()
    state["param_groups"][0] |= {"odd": object, "list": ["a"], "matrix": torch.ones(2, 2), "initial_lr": 1.0}
    settings = next(iter(saved(tmp_path / "m.pt", model, state).values())).moment_settings
    assert settings["lr"] == 0.25
    assert settings["initial_lr"] == 1.0
    assert not {"odd", "list", "matrix"} & set(settings)
