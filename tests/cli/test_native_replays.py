"""Replays in HDF5, Parquet and CSV from the command line: shift, gradients and activity."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from run_cli import gradscope

if TYPE_CHECKING:
    from pathlib import Path

MODEL = """
import torch
def model():
    net = torch.nn.Linear(6, 2)
    def loss(batch):
        chosen = net(batch["observations"]).gather(1, batch["actions"].long())[:, 0]
        return torch.nn.functional.mse_loss(chosen, batch["rewards"].reshape(-1))
    return net, loss
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps; the last two columns, positions, are held from the second on."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    net = torch.nn.Linear(6, 2)
    for step in (1000, 2000, 3000):
        observations = rng.normal(size=(300, 6)).astype(np.float32)
        observations[:, 4:] *= step > 1000
        rows = {"action": rng.integers(0, 2, 300), "reward": rng.normal(size=300)}
        table = pd.DataFrame({f"obs_{place}": observations[:, place] for place in range(6)} | rows)
        if step == 1000:
            with h5py.File(folder / "replay_1000_steps.h5", "w") as file:
                file["train/inputs"] = observations
                for name, array in rows.items():
                    file[f"train/{name}"] = array
                file["train/observations"] = observations
        elif step == 2000:
            table.to_parquet(folder / "replay_2000_steps.parquet")
        else:
            table.to_csv(folder / "replay_3000_steps.csv")
        torch.save({"model": net.state_dict(), "step": step}, folder / f"ckpt_{step}.pt")
    (folder / "progress.csv").write_text("time/iterations,train/loss\n1,0.5\n")
    (folder / "mine.py").write_text(MODEL)
    return folder


def answered(run: Path, *arguments: str) -> dict[str, Any]:
    done = gradscope(*arguments, "--json", directory=run)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_shift_reads_each_step_from_its_own_format(run: Path) -> None:
    steps = answered(run, "shift", ".", "--slice", "position=4:6")["steps"]
    assert [each["num_rows"] for each in steps] == [300, 300, 300]
    activity = [
        slices["activity"] for each in steps for slices in each["slices"] if slices["name"] == "position"
    ]
    assert activity == [0, 1, 1]


def test_logs_beside_them_are_skipped(run: Path) -> None:
    found = answered(run, "scan", ".")
    assert found["unreadable"] == []
    assert "progress.csv" in {each["source"] for each in found["skipped"]}


@pytest.mark.parametrize(
    ("name", "keys", "zeros"),
    [
        ("replay_1000_steps.h5", (), 4),
        ("replay_1000_steps.h5", ("--replay-keys", "observations=train/inputs"), 4),
        ("replay_3000_steps.csv", (), 0),
        ("replay_3000_steps.csv", ("--replay-keys", "observations=obs_*,actions=action"), 0),
    ],
)
def test_a_model_of_the_users_trains_on_their_rows(
    run: Path, name: str, keys: tuple[str, ...], zeros: int
) -> None:
    """The two flat columns have no gradient in either of the two units."""
    model = ("--model", "mine:model", "--code", ".", "--trust", "--replay", name)
    snapshots = answered(run, "scan", ".", *model, *keys)["snapshots"]
    assert {each["origin"] for each in snapshots} == {"recomputed"}
    weight = next(each for each in snapshots[0]["layers"] if each["name"] == "weight")
    assert weight["num_zero"] == zeros * snapshots[0]["num_batches"]


def test_correlate_takes_its_rows(run: Path) -> None:
    model = ("--model", "mine:model", "--code", ".", "--trust")
    series = answered(run, "correlate", ".", *model, "--slice", "position=4:6")["series"]
    assert [each["activity"] for each in series] == [0, 1, 1]


def test_a_replay_that_is_missing_or_strange(run: Path) -> None:
    done = gradscope("scan", ".", "--replay", "nothing.h5", directory=run)
    assert (done.code, "no such file or folder" in done.err) == (2, True)
    done = gradscope("scan", ".", "--replay", "progress.csv", directory=run)
    assert (done.code, "called like a replay's" in " ".join(done.err.split())) == (2, True)
