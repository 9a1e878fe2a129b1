"""Remedies on models of a user's own, with rows of a batch file and of a replay buffer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from recompute.model_runs import NAME, ModelRun, trained
from run.causes import run as dqn_run
from torch import optim

from gradscope import trial
from gradscope.errors import UsageError
from gradscope.recompute.batches import draws
from gradscope.records import TrialVerdict, TryReport
from gradscope.run import open_run
from gradscope.run.given import Means
from gradscope.settings import Settings
from gradscope.trial import arms, tried

if TYPE_CHECKING:
    from pathlib import Path

SLICES = {"market": ("0:7",), "position": ("7:8",)}
DQN = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_net = nn.Sequential(
            nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)
        )


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_net, self.q_net_target = Net(), Net()


def policy():
    model = Policy()

    def loss(batch):
        with torch.no_grad():
            following = model.q_net_target.q_net(batch["next_observations"]).max(1).values
            wanted = batch["rewards"] + 0.99 * (1 - batch["ends"]) * following
        found = model.q_net.q_net(batch["observations"]).gather(1, batch["actions"])[:, 0]
        return nn.functional.smooth_l1_loss(found, wanted)

    return model, loss
"""


def settings(folder: Path, function: str, **changes: Any) -> Settings:
    known: dict[str, Any] = {"slices": SLICES, "slices_from": "option", "trust": True, "code": folder}
    return Settings(model=function, **(known | changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ModelRun:
    """Positions of about 300 beside a market of 1; steps 6."""
    folder = tmp_path_factory.mktemp("large")
    return trained(folder, "actor", lambda model: optim.Adam(model.parameters(), lr=0.02), size=300.0)


def opened(made: ModelRun, **changes: Any) -> Any:
    options = {"replay": made.folder / "batch.pt", "batch_size": 8} | changes
    return open_run(made.checkpoint, settings=settings(made.folder, f"{NAME}:actor", **options))


@pytest.fixture(scope="module")
def report(made: ModelRun) -> TryReport:
    return tried(opened(made), from_step=6, gradient_steps=60, seeds=2)


def test_every_remedy_is_tried_or_says_why_not(report: TryReport) -> None:
    assert [each.remedy for each in report.trials] == list(arms.REMEDIES)
    refused = {each.remedy: each.reasons["verdict"] for each in report.trials if each.zero_fraction is None}
    assert list(refused) == ["input-layer-norm"]
    assert "single column" in refused["input-layer-norm"]
    assert (report.to_step, report.rows_per_update, report.batch_size) == (6, 0.0, 8)
    assert any("36, each once an epoch in an order drawn anew from the seed" in note for note in report.notes)
    assert any("torch.optim.Adam:" in note for note in report.notes)
    assert any("clipping" in note for note in report.notes)


def context_of(run_: Any, step: int) -> Any:
    means = Means(settings=run_.settings, given=run_.given)
    return trial._context(trial._moments(run_, step), means, run_.runs[0].slices, "position")


def first_batches(context: Any, names: list[str], number: int) -> dict[str, list[Any]]:
    """Batches as the losses see them, by remedy; the same seed for each."""
    found = {}
    for name in names:
        arm, drawn = arms.REMEDIES[name](context, 0), draws(4)
        assert isinstance(arm, arms.Arm)
        with arm.trainee.session():
            portions = context.feed.portions(arm, drawn, number, 8)
            found[name] = [each.batch.tensors for each in portions]
    return found


def test_remedies_get_the_same_rows_and_a_norm_changes_observations_alone(made: ModelRun) -> None:
    seen = first_batches(context_of(opened(made), 6), ["none", "slice-normalizer"], 5)
    for one, other in zip(*seen.values(), strict=True):
        assert one.keys() == other.keys() == {"observations", "labels", "actions", "weights"}
        assert all(torch.equal(one[key], other[key]) for key in one if key != "observations")
        assert one["observations"].std(dim=0)[7] > 30 * other["observations"].std(dim=0)[7]
    # An epoch holds each row once, its smaller last batch left out; the next one has another order.
    rows = torch.cat([each["weights"] for each in seen["none"][:4]])
    assert len(set(rows.tolist())) == 32
    assert not torch.equal(seen["none"][4]["weights"], seen["none"][0]["weights"])


def test_the_slices_own_columns_are_those_of_the_users_layer(made: ModelRun) -> None:
    """And columns of units that take nothing else and stay off where it is 0."""
    context = context_of(opened(made), 6)
    own = context.own
    assert own["position.weight"].tolist() == [True]
    assert set(own) <= {"position.weight", "mean.weight"}
    moved = []
    for name in ("none", "slice-learning-rate"):
        arm: Any = arms.REMEDIES[name](context, 0)
        before = {each: weight.detach().clone() for each, weight in arm.trainee.parameters.items()}
        with arm.trainee.session():
            one = next(context.feed.portions(arm, draws(0), 1, 8))
            arm.trainee.update(one.batch, draws(0))
        moved.append({each: arm.trainee.parameters[each].detach() - before[each] for each in before})
    for name, first in moved[0].items():
        columns = own.get(name, np.zeros(1, bool))
        factor = torch.where(torch.from_numpy(columns), 0.1, 1.0)
        assert torch.allclose(moved[1][name], factor * first, rtol=1e-3, atol=1e-8), name
    assert moved[0]["position.weight"].any()


def test_all_rows_in_file_order_are_one_batch_without_a_batch_size(made: ModelRun) -> None:
    run_ = opened(made, batch_size=None)
    report = tried(run_, from_step=6, gradient_steps=2, seeds=2, remedies=["recycle-dead-units"])
    assert report.batch_size == 36
    assert any("every batch is all 36 rows" in note for note in report.notes)
    assert "every seed trains on the same rows" in report.trials[1].reasons["interval"]
    batches = first_batches(context_of(run_, 6), ["none"], 2)["none"]
    assert all(torch.equal(each["weights"], made.rows["weights"]) for each in batches)


def test_rows_with_other_observations_than_the_slice_is_of(made: ModelRun, tmp_path: Path) -> None:
    """The function takes what the file has; remedies on the slice say what they lack."""
    source = (made.folder / f"{NAME}.py").read_text()
    call = 'lambda batch: loss({"observations": batch["x"], **batch})'
    other = f"def renamed():\n    model, loss = actor()\n    return model, {call}\n"
    (tmp_path / "renamed_model.py").write_text(source + other)
    rows = {("x" if name == "observations" else name): each for name, each in made.rows.items()}
    torch.save(rows, tmp_path / "batch.pt")
    asked = settings(tmp_path, "renamed_model:renamed", replay=tmp_path / "batch.pt", batch_size=8)
    report = tried(open_run(made.checkpoint, settings=asked), from_step=6, gradient_steps=3, seeds=1)
    known = {each.remedy for each in report.trials if each.zero_fraction is not None}
    assert known == {"none", "recycle-dead-units"}
    for each in report.trials:
        assert each.remedy in known or each.reasons["verdict"]


def test_a_checkpoint_without_optimizer_is_one_line(made: ModelRun, tmp_path: Path) -> None:
    content = torch.load(made.checkpoint)
    del content["optimizer"]
    torch.save(content, tmp_path / "checkpoint_6.pt")
    bare = replace(made, checkpoint=tmp_path / "checkpoint_6.pt")
    with pytest.raises(
        UsageError, match=r"step 6 cannot be trained on: the file holds no optimizer state; save"
    ):
        tried(opened(bare), from_step=6, gradient_steps=2, seeds=1)


def test_a_replay_buffer_and_an_optimizer_of_stable_baselines(tmp_path: Path) -> None:
    """The library numbers the online network's parameters alone: those that the loss reaches."""
    folder = dqn_run(tmp_path / "run", size=300.0, seed=3)
    (tmp_path / "users_dqn.py").write_text(DQN)
    run_ = open_run(folder, settings=settings(tmp_path, "users_dqn:policy", batch_size=32))
    report = tried(run_, from_step=160, gradient_steps=80, seeds=2, remedies=["slice-normalizer"])
    none, normalizer = report.trials
    assert any("one replay buffer, each batch drawn anew" in note for note in report.notes)
    assert normalizer.verdict is TrialVerdict.HELPS
    assert none.zero_fraction is not None
    assert none.zero_fraction > (normalizer.zero_fraction or 0) + 0.1
    assert all(each.name.startswith("q_net.") for each in none.layers)
    # next_observations go through the norm, too.
    context = context_of(run_, 160)
    seen = first_batches(context, ["none", "slice-normalizer"], 1)
    for name in ("observations", "next_observations"):
        one, other = (seen[each][0][name][:, 7] for each in ("none", "slice-normalizer"))
        assert float(one.abs().max()) > 200
        assert float(other.abs().max()) < 100
    rewards = seen["none"][0]["rewards"]
    assert set(rewards.tolist()) <= set(context.feed.drawing.rows["rewards"].ravel().tolist())
