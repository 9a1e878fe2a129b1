"""Checkpoints that Lightning's Trainer itself wrote, compared with the module and its optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path

lightning = pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")


class Learner(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """Actor and critic, with one optimizer or one each."""

    def __init__(self, critic_inputs: int = 4, *, has_two: bool = True, where: Any = None) -> None:  # noqa: ARG002  kept as a hyperparameter
        super().__init__()
        self.save_hyperparameters()
        self.actor = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.critic = nn.Sequential(nn.Linear(critic_inputs, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.automatic_optimization = not has_two
        self.has_two, self.inputs = has_two, critic_inputs

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        rows = batch[0]
        losses = [self.actor(rows[:, :3]).pow(2).mean(), self.critic(rows[:, : self.inputs]).pow(2).mean()]
        if self.has_two:
            for optimizer, loss in zip(self.optimizers(), losses, strict=True):
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
        return sum(losses)

    def configure_optimizers(self) -> Any:
        if not self.has_two:
            own = torch.optim.AdamW(self.parameters())
            return {"optimizer": own, "lr_scheduler": torch.optim.lr_scheduler.StepLR(own, 1)}
        pair = [torch.optim.Adam(self.actor.parameters()), torch.optim.Adam(self.critic.parameters())]
        return pair, [torch.optim.lr_scheduler.StepLR(pair[0], 1)]


def trained(folder: Path, learner: Learner, *callbacks: Any) -> Path:
    """Files of two epochs of three updates; last.ckpt is the newest once more."""
    rows = torch.utils.data.TensorDataset(torch.randn(12, 6))
    keeper = lightning.pytorch.callbacks.ModelCheckpoint(folder, save_top_k=-1, save_last=True)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keeper, *callbacks],
        default_root_dir=folder,
    )
    trainer.fit(learner, torch.utils.data.DataLoader(rows, batch_size=4))
    return folder


def moments_of(learner: Learner) -> dict[str, Any]:
    optimizers = learner.trainer.optimizers
    return {
        name: state
        for name, parameter in learner.named_parameters()
        for optimizer in optimizers
        if (state := optimizer.state.get(parameter))
    }


@pytest.mark.parametrize("has_two", [True, False])
def test_a_run(tmp_path: Path, *, has_two: bool) -> None:
    learner = Learner(has_two=has_two, where=tmp_path)
    files = sorted(trained(tmp_path, learner).glob("*.ckpt"))
    opened: list[Any] = [open_file(path) for path in files]
    assert [each.format for each in opened] == ["lightning"] * 3
    # Lightning counts an update of each optimizer as a step.
    expected = [6, 12, 12] if has_two else [3, 6, 6]
    assert [each.step for each in opened] == expected
    assert {each.step_from for each in opened} == {"global_step"}
    newest = opened[-1]
    assert "Lightning's epoch is 1" in newest.notes
    assert any("pathlib" in note for note in newest.notes)
    assert list(newest.state) == list(learner.state_dict())
    states = moments_of(learner)
    for name, parameter in learner.named_parameters():
        layer = newest.layers[name]
        np.testing.assert_array_equal(layer.weight, parameter.detach().numpy())
        np.testing.assert_array_equal(layer.moments["exp_avg"], states[name]["exp_avg"].numpy())
        assert layer.moment_settings["lr"] == pytest.approx(1e-3, abs=1e-3)
    assert set(newest.layers) == {name for name, _ in learner.named_parameters()}


def test_optimizers_that_could_change_places_are_not_guessed(tmp_path: Path) -> None:
    learner = Learner(critic_inputs=3)
    newest: Any = open_file(trained(tmp_path, learner) / "last.ckpt")
    for layer in newest.layers.values():
        assert not layer.moments
        assert "fits several orders" in layer.reasons["moments"]


def test_the_weights_are_those_that_train_not_their_average(tmp_path: Path) -> None:
    learner = Learner(has_two=False)
    average = lightning.pytorch.callbacks.EMAWeightAveraging(decay=0.5)
    newest: Any = open_file(trained(tmp_path, learner, average) / "last.ckpt")
    held = torch.load(tmp_path / "last.ckpt", weights_only=False)
    states = moments_of(learner)
    assert set(newest.layers) == set(states)
    for name, state in states.items():
        layer = newest.layers[name]
        np.testing.assert_array_equal(layer.weight, held["current_model_state"][name].numpy())
        np.testing.assert_array_equal(layer.moments["exp_avg"], state["exp_avg"].numpy())
    assert not np.array_equal(newest.layers["actor.0.weight"].weight, held["state_dict"]["actor.0.weight"])
    assert {"weights are those of current_model_state", "not looked at: averaged state_dict"} <= {
        *newest.notes
    }
