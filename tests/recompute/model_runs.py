"""Small real torch trainings of models of a user's own, each with its module, a checkpoint and rows."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from gradscope.read import open_file
from gradscope.read.batch_file import read_batch
from gradscope.read.saved_optimizer import saved_optimizer
from gradscope.recompute.trusted.model import RecomputedModel, recompute_model
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "trained_models_of_tests"
SOURCE = """
import torch
from torch import nn


def classifier():
    model = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.2),
        nn.Linear(16, 16).requires_grad_(False), nn.ReLU(), nn.Linear(16, 3),
    )

    def loss(batch):
        return nn.functional.cross_entropy(model(batch["observations"]), batch["labels"])

    return model, loss


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.market, self.position = nn.Linear(7, 12), nn.Linear(1, 4)
        self.mean = nn.Linear(16, 2)
        self.log_std = nn.Parameter(torch.zeros(2))

    def forward(self, seen):
        both = torch.cat([self.market(seen[:, :7]), self.position(seen[:, 7:])], dim=1)
        return torch.distributions.Normal(self.mean(torch.relu(both)), self.log_std.exp())


def actor():
    model = Actor()

    def loss(batch):
        return -(batch["weights"] * model(batch["observations"]).log_prob(batch["actions"]).sum(1)).mean()

    return model, loss


def grouped():
    model, loss = actor()
    return model, loss, torch.optim.Adam([
        {"params": [model.log_std], "lr": 0.02}, {"params": model.mean.parameters()},
        {"params": [*model.position.parameters(), *model.market.parameters()]},
    ], lr=0.01)


ALWAYS = actor()


def always():
    return ALWAYS


def stranger():
    model, loss = actor()
    return model, loss, torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))], lr=0.1)


def one_group():
    model, loss = actor()
    return model, loss, torch.optim.Adam(model.parameters())


def no_optimizer():
    return *actor(), "Adam"
"""


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """What a training left, and what it trained with."""

    folder: Path
    function: str
    checkpoint: Path
    rows: dict[str, torch.Tensor]

    def recomputed(self, *, function: str | None = None, batch_size: int | None = 8) -> RecomputedModel:
        """As ``run/recomputed.py`` asks for it."""
        checkpoint = open_file(self.checkpoint)
        assert isinstance(checkpoint, Snapshot)
        found = recompute_model(
            f"{NAME}:{function or self.function}",
            checkpoint.state,
            read_batch(self.folder / "batch.pt"),
            batches=1,
            batch_size=batch_size,
            seed=3,
            code=self.folder,
            saved=lambda: saved_optimizer(self.checkpoint),
        )
        assert isinstance(found, RecomputedModel), found
        return found


def own(folder: Path) -> Any:
    """The user's module, as their training imports it; gone from sys.modules again."""
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        return importlib.import_module(NAME)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(NAME, None)


def written(folder: Path) -> Any:
    """The module, written there."""
    (folder / f"{NAME}.py").write_text(SOURCE)
    return own(folder)


def stepped(loss: Any, optimizer: Any, batch: dict[str, torch.Tensor]) -> None:
    """One step of a training loop."""
    optimizer.zero_grad()
    loss(batch).backward()
    optimizer.step()


def trained(
    folder: Path, function: str, optimizer_of: Callable[[Any], Any], *, steps: int = 6, size: float = 1.0
) -> ModelRun:
    """A checkpoint {model, optimizer, step} after real training, and the rows as a batch file."""
    torch.set_num_threads(1)
    module = written(folder)
    torch.manual_seed(0)
    model, loss = getattr(module, function)()[:2]
    seen = torch.randn(36, 8)
    seen[:, 7] *= size
    rows = {"observations": seen, "labels": torch.randint(0, 3, (36,)), "actions": torch.randn(36, 2)}
    rows["weights"] = torch.rand(36)
    optimizer = optimizer_of(model)
    for _ in range(steps):
        stepped(loss, optimizer, rows)
    checkpoint = folder / f"checkpoint_{steps}.pt"
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": steps}
    torch.save(content, checkpoint)
    torch.save(rows, folder / "batch.pt")
    return ModelRun(folder=folder, function=function, checkpoint=checkpoint, rows=rows)
