"""Interventions through code of the user's: any model with its loss, and a rollout of their own policy."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from run.causes import OPENS, POSITION, Market
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback

from gradscope.record import GradscopeCallback
from gradscope.records import Verdict
from gradscope.run import open_run, scan_opened, with_associations, with_shift
from gradscope.run.explain import explanation
from gradscope.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from gradscope.records import AssociationReport

NAME: Final = "code_of_these_tests"
SOURCE: Final = """
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn


def critic():
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def loss(batch):
        rows = batch.get("observations", batch.get("x"))
        return nn.functional.mse_loss(model(rows)[:, 0], batch["rewards"])

    return model, loss


class Extractor(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 32)
        self.first = nn.Linear(8, 32)

    def forward(self, observations):
        return torch.relu(self.first(observations))
"""
SLICES: Final = Settings(slices={"position": (f"{POSITION}",)}, slices_from="option", trust=True)
FEW: Final = 20


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The user's module, in a folder that only they know."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / f"{NAME}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)


def model_run(folder: Path, users: Any, *, size: float, called: str = "observations") -> Settings:
    """A regression trained for a moment, its checkpoint and its rows; every position is open."""
    torch.manual_seed(21)
    model, loss = users.critic()
    rows = torch.randn(300, 8)
    rows[:, POSITION] = size * (1 + 0.2 * torch.rand(300))
    batch = {called: rows, "rewards": rows[:, 0] + 0.1 * torch.randn(300)}
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(FEW):
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
    torch.save({"model": model.state_dict(), "step": FEW}, folder / f"step_{FEW}.pt")
    torch.save(batch, folder / "batch.pt")
    model_of = f"{NAME}:critic"
    return replace(SLICES, model=model_of, replay=folder / "batch.pt", code=folder / "code", batch_size=64)


def rollout_run(folder: Path, users: Any, *, size: float) -> Settings:
    """PPO with the user's extractor; the rollout after step 120 has every position open."""
    network = {
        "net_arch": [32],
        "activation_fn": torch.nn.ReLU,
        "features_extractor_class": users.Extractor,
    }
    model = PPO("MlpPolicy", Market(size), seed=21, n_steps=OPENS, batch_size=16, policy_kwargs=network)
    records = GradscopeCallback(120, str(folder), save_rollout=True, slices={"position": f"{POSITION}"})
    model.learn(2 * OPENS, callback=CallbackList([CheckpointCallback(120, str(folder)), records]))
    return replace(SLICES, code=folder / "code", source="recomputed")


def told(folder: Path, settings: Settings) -> tuple[AssociationReport, dict[str, Verdict], dict[str, str]]:
    """What correlate and explain say, the user's module forgotten before."""
    sys.modules.pop(NAME, None)
    opened = open_run(folder, settings=settings)
    report = with_shift(scan_opened(opened), opened)
    (together,) = with_associations(report, opened).associations
    found = explanation(report, opened).findings
    reasons = {each.code: each.reason for each in found}
    return together, {each.code: each.verdict for each in found}, reasons


@pytest.mark.parametrize("make", [model_run, rollout_run])
def test_large_positions_are_the_cause_and_small_ones_are_not(make: Any, code: Any, tmp_path: Path) -> None:
    for size, expected in ((500.0, Verdict.SUPPORTED), (1.0, Verdict.REJECTED)):
        together, verdicts, reasons = told(tmp_path, make(tmp_path, code, size=size))
        assert "effects" not in together.reasons
        done = {each.intervention for each in together.effects if each.difference is not None}
        assert {"flat", "permuted", "rescaled"} <= done
        assert verdicts["slice-is-cause"] is expected, reasons["slice-is-cause"]
        causes = "the size of the values of 'position' causes them" in together.reason
        assert causes == (expected is Verdict.SUPPORTED), together.reason


def test_rows_of_another_name_say_how_to_name_them(code: Any, tmp_path: Path) -> None:
    settings = model_run(tmp_path, code, size=500.0, called="x")
    together, verdicts, reasons = told(tmp_path, settings)
    assert not together.effects
    assert "--replay-keys observations=KEY" in together.reasons["effects"]
    assert verdicts["slice-is-cause"] is Verdict.NOT_TESTABLE
    assert "--replay-keys observations=KEY" in reasons["slice-is-cause"]
    renamed = replace(settings, replay_keys={"observations": "x", "rewards": "rewards"})
    assert told(tmp_path, renamed)[1]["slice-is-cause"] is Verdict.SUPPORTED


@pytest.mark.parametrize("make", [model_run, rollout_run])
def test_without_consent_nothing_runs_and_the_reason_says_so(make: Any, code: Any, tmp_path: Path) -> None:
    settings = replace(make(tmp_path, code, size=500.0), trust=False)
    together, verdicts, _ = told(tmp_path, settings)
    assert NAME not in sys.modules
    assert not together.effects
    assert "--trust" in together.reasons["effects"]
    assert verdicts["slice-is-cause"] is Verdict.NOT_TESTABLE
