"""Checkpoints as reinforcement learners write them: tuples, nested dicts, several optimizers, copies."""

from __future__ import annotations

import argparse
import datetime as dt
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file


def network(inputs: int = 3, outputs: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 4), nn.ReLU(), nn.Linear(4, outputs))


def stepped(*models: nn.Module, **options: Any) -> torch.optim.Optimizer:
    """An Adam over all parameters of these, in this order, that has stepped once."""
    found = [each for model in models for each in model.parameters()]
    optimizer = torch.optim.Adam(found, **options)
    for model in models:
        rows = torch.randn(5, next(model.parameters()).shape[1])
        model(rows).pow(2).sum().backward()
    optimizer.step()
    return optimizer


def opened(path: Path, value: object) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
    return open_file(path)


def assert_moments(snapshot: Any, prefix: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for name, parameter in model.named_parameters():
        layer = snapshot.layers[prefix + name]
        np.testing.assert_array_equal(layer.weight, parameter.detach().numpy())
        assert set(layer.moments) == {"step", "exp_avg", "exp_avg_sq"}
        np.testing.assert_array_equal(layer.moments["exp_avg"], optimizer.state[parameter]["exp_avg"].numpy())


def test_cleanrl_tuple_with_its_step_in_the_folder(tmp_path: Path) -> None:
    """As cleanrl's td3 and sac scripts do: torch.save((actor.state_dict(), qf1..., qf2...), path)."""
    actor, first, second = network(3, 1), network(4, 1), network(4, 1)
    path = tmp_path / "Hopper-v4__td3__1__1700000000" / "checkpoint-500" / "td3.cleanrl_model"
    snapshot = opened(path, (actor.state_dict(), first.state_dict(), second.state_dict()))
    assert (snapshot.format, snapshot.step, snapshot.step_from) == ("torch", 500, "folder")
    assert [name.partition(".")[0] for name in snapshot.layers] == ["0"] * 4 + ["1"] * 4 + ["2"] * 4
    np.testing.assert_array_equal(snapshot.layers["2.0.weight"].weight, second[0].weight.detach().numpy())


def test_a_unix_time_in_a_folder_is_no_step(tmp_path: Path) -> None:
    path = tmp_path / "CartPole-v1__dqn__1__1700000000" / "dqn.cleanrl_model"
    assert opened(path, network().state_dict()).step is None


@pytest.mark.parametrize(
    "layout",
    [
        lambda s: {
            "actor": s["a"],
            "critic": s["c"],
            "actor_optimizer": s["ao"],
            "critic_optimizer": s["co"],
        },
        lambda s: {"actor": s["a"], "critic": s["c"], "optimizers": {"critic": s["co"], "actor": s["ao"]}},
        lambda s: {"actor": s["a"], "critic": s["c"], "optimizers": [s["ao"], s["co"]]},
        lambda s: {"actor_optim": s["ao"], "critic_optim": s["co"], "actor": s["a"], "critic": s["c"]},
    ],
)
def test_several_optimizers_own_what_fits_them(tmp_path: Path, layout: Any) -> None:
    actor, critic = network(3, 1), network(4, 1)
    own = {"a": stepped(actor), "c": stepped(critic)}
    saved = {"a": actor.state_dict(), "c": critic.state_dict()}
    saved |= {"ao": own["a"].state_dict(), "co": own["c"].state_dict()}
    snapshot = opened(tmp_path / "c.pt", {**layout(saved), "global_step": 7})
    assert snapshot.step == 7
    assert_moments(snapshot, "actor.", actor, own["a"])
    assert_moments(snapshot, "critic.", critic, own["c"])
    assert snapshot.notes == ()


def test_networks_alike_are_told_apart_by_their_optimizers_names_only(tmp_path: Path) -> None:
    first, second = network(), network()
    own = [stepped(first), stepped(second)]
    states = {"qf1": first.state_dict(), "qf2": second.state_dict()}
    named = {"qf1_optimizer": own[0].state_dict(), "qf2_optimizer": own[1].state_dict()}
    snapshot = opened(tmp_path / "named.pt", {**states, **named})
    assert_moments(snapshot, "qf1.", first, own[0])
    assert_moments(snapshot, "qf2.", second, own[1])
    listed = [each.state_dict() for each in own]
    for layer in opened(tmp_path / "listed.pt", {**states, "optimizers": listed}).layers.values():
        assert not layer.moments
        assert "fits several orders" in layer.reasons["moments"]


def test_one_optimizer_over_two_critics(tmp_path: Path) -> None:
    """CleanRL's q_optimizer = Adam(list(qf1.parameters()) + list(qf2.parameters()))."""
    actor, first, second = network(3, 1), network(4, 1), network(4, 1)
    of_actor, of_critics = stepped(actor), stepped(first, second)
    content = {
        "actor": actor.state_dict(),
        "qf1": first.state_dict(),
        "qf2": second.state_dict(),
        "actor_optimizer": of_actor.state_dict(),
        "q_optimizer": of_critics.state_dict(),
        "log_alpha": torch.zeros(1, requires_grad=True),
        "rewards": torch.ones(9),
    }
    snapshot = opened(tmp_path / "c.pt", content)
    for prefix, model, own in (
        ("actor.", actor, of_actor),
        ("qf1.", first, of_critics),
        ("qf2.", second, of_critics),
    ):
        assert_moments(snapshot, prefix, model, own)
    assert snapshot.layers["log_alpha"].shape == (1,)
    assert snapshot.notes == ("tensors of no network were left out: rewards",)


def test_networks_deep_inside(tmp_path: Path) -> None:
    actor, critic = network(3, 1), network(4, 1)
    own = stepped(actor)
    nets = {"actor": actor.state_dict(), "critic": critic.state_dict(), "target_critic": critic.state_dict()}
    content = {"run": {"agent": {**nets, "opt": {"actor": own.state_dict()}}}, "step": 5}
    snapshot = opened(tmp_path / "c.pt", content)
    assert list(dict.fromkeys(name.rsplit(".", 2)[0] for name in snapshot.layers)) == [
        "run.agent.actor",
        "run.agent.critic",
    ]
    assert_moments(snapshot, "run.agent.actor.", actor, own)
    assert snapshot.notes == (
        "weights are those of run.agent.actor, run.agent.critic",
        "not looked at: run.agent.target_critic",
    )


@pytest.mark.parametrize("key", ["model", "state_dict", "online", "agent"])
def test_the_online_model_comes_before_its_copies(tmp_path: Path, key: str) -> None:
    online, average = network(), torch.optim.swa_utils.AveragedModel(network())
    content = {"ema": average.state_dict(), "target_net": network().state_dict(), key: online.state_dict()}
    snapshot = opened(tmp_path / "c.pt", content)
    assert list(snapshot.state) == list(online.state_dict())
    np.testing.assert_array_equal(snapshot.layers["0.weight"].weight, online[0].weight.detach().numpy())
    assert snapshot.notes == (f"weights are those of {key}", "not looked at: ema, target_net")


def test_copies_alone_are_better_than_nothing(tmp_path: Path) -> None:
    snapshot = opened(tmp_path / "c.pt", {"ema_model": network().state_dict(), "step": 1})
    assert len(snapshot.layers) == 4
    assert snapshot.notes == ("only averaged or target copies of the weights are there",)


def test_a_model_of_several_networks_under_its_key(tmp_path: Path) -> None:
    content = {"model": {"actor": network(3).state_dict(), "critic": network(4).state_dict()}}
    snapshot = opened(tmp_path / "c.pt", content)
    assert {name.partition(".")[0] for name in snapshot.layers} == {"actor", "critic"}


def test_nested_gradients_have_the_names_of_their_networks(tmp_path: Path) -> None:
    actor, critic = network(3), network(4)
    stepped(actor), stepped(critic)
    grads = {
        "actor": {name: each.grad for name, each in actor.named_parameters()},
        "critic": {name: each.grad for name, each in critic.named_parameters()},
    }
    content = {"actor": actor.state_dict(), "critic": critic.state_dict(), "grads": grads}
    snapshot = opened(tmp_path / "c.pt", content)
    for name, each in critic.named_parameters():
        np.testing.assert_array_equal(snapshot.layers[f"critic.{name}"].gradient, each.grad.numpy())


def test_what_stands_beside_tensors_in_real_checkpoints(tmp_path: Path) -> None:
    model = network()
    optimizer = stepped(model)
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0).state_dict(),
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0},
        "args": argparse.Namespace(lr=1e-3, path=Path("x")),
        "step": np.int64(12),
        "best": np.float32(0.5),
        "when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "rng": {"torch": torch.get_rng_state(), "numpy": np.random.default_rng(0).bit_generator.state},
        "python": random.getstate(),
        "where": Path("x/y"),
        "device": torch.device("cuda:0"),
        "names": {"a", "b"},
        "loss": torch.tensor(0.5),
    }
    snapshot = opened(tmp_path / "c.pt", content)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "c.pt", weights_only=True)
    assert snapshot.step == 12
    assert list(snapshot.layers) == [name for name, _ in model.named_parameters()]
    assert_moments(snapshot, "", model, optimizer)
    (note,) = snapshot.notes
    assert note.startswith("names code that was not loaded: argparse.Namespace, pathlib")


def test_an_agent_pickled_whole(tmp_path: Path) -> None:
    agent = argparse.Namespace(actor=network(3), critic=network(4), gamma=0.9)
    snapshot = opened(tmp_path / "a.pt", agent)
    assert {name.partition(".")[0] for name in snapshot.layers} == {"actor", "critic"}
    assert snapshot.layers["actor.0.weight"].module == "Linear"


def test_dicts_that_hold_themselves(tmp_path: Path) -> None:
    content: dict[str, Any] = {"net": network().state_dict()}
    content["again"] = content
    content["list"] = [content, [content]]
    assert len(opened(tmp_path / "c.pt", content).layers) == 4


def test_what_stands_for_a_tensor_is_told(tmp_path: Path) -> None:
    content = {"a.weight": torch.ones(2), "b.weight": np.ones(2), "c.weight": argparse.Namespace(x=1)}
    snapshot = opened(tmp_path / "m.pt", {"model": content, "weights.lr": 1.0})
    assert list(snapshot.layers) == ["a.weight"]
    assert snapshot.notes[:2] == (
        "not read: b.weight is a numpy array, not a tensor",
        "not read: c.weight is an object of argparse.Namespace, which only its own code can make",
    )


def test_more_optimizers_than_any_training_has(tmp_path: Path) -> None:
    model = network()
    many = [torch.optim.Adam(model.parameters()).state_dict() for _ in range(50)]
    snapshot = opened(tmp_path / "m.pt", {"model": model.state_dict(), "optimizers": many})
    assert "there are 50 optimizers" in snapshot.layers["0.weight"].reasons["moments"]


@pytest.mark.parametrize("is_new", [True, False])
def test_weights_that_cannot_be_read_are_not_called_none(tmp_path: Path, *, is_new: bool) -> None:
    view = torch.zeros(1).expand(1 << 60)
    torch.save({"model": {"net.weight": view}}, tmp_path / "m.pt", _use_new_zipfile_serialization=is_new)
    with pytest.raises(UnreadableFile, match=r"not read: net\.weight is a view of more elements") as caught:
        open_file(tmp_path / "m.pt")
    assert not isinstance(caught.value, ForeignFile)


def test_statistics_by_name_are_no_weights(tmp_path: Path) -> None:
    rows = torch.ones(3)
    stats = {"mean": {"obs": rows}, "std": {"obs": rows, "action": rows}}
    found = opened(tmp_path / "m_1.pt", {"actor": nn.Linear(2, 2).state_dict(), "stats": stats})
    assert set(found.layers) == {"weight", "bias"}
