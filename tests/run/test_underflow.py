"""float16 that underflows, really trained, and its twin in bfloat16: only float64 tells them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from gradscope.records import Verdict
from gradscope.run import open_run, scan_opened, with_shift
from gradscope.run.explain import explanation
from gradscope.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
import torch
from torch import nn


def made(small):
    model = nn.Sequential(nn.Linear(12, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 1))

    def loss(batch):
        with torch.autocast("cpu", dtype=small):
            predicted = model(batch["x"])
        # Targets are returns of a millionth: nobody scales the loss before backward.
        return nn.functional.mse_loss(1e-6 * predicted.float(), batch["y"])

    return model, loss


def float16():
    return made(torch.float16)


def bfloat16():
    return made(torch.bfloat16)
"""
SEEDS = (21, 22, 23)


def trained(folder: Path, kind: str, seed: int) -> Path:
    """Twenty updates of Adam, as a user's script does them, then the checkpoint and a batch."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    (folder / "returns.py").write_text(SOURCE)
    names: dict[str, object] = {}
    exec(compile(SOURCE, "returns.py", "exec"), names)  # noqa: S102  the very text that is written
    model, loss = names[kind]()  # type: ignore[operator]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.randn(256, 12)
    batch = {"x": x, "y": 1e-3 * x[:, :1]}
    for _ in range(20):
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
    torch.save(batch, folder / "batch.pt")
    saved = folder / "checkpoints"
    saved.mkdir()
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 20}, saved / "model_20.pt"
    )
    return saved


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_underflow_is_found_in_float16_and_not_in_its_twin(kind: str, seed: int, tmp_path: Path) -> None:
    settings = Settings(
        model=f"returns:{kind}", code=tmp_path, trust=True, replay=tmp_path / "batch.pt", zero_tolerance=1e-14
    )
    opened = open_run(trained(tmp_path, kind, seed), settings=settings)
    found = explanation(with_shift(scan_opened(opened), opened), opened)
    verdicts = {each.code: each for each in found.findings}
    told = "\n".join(f"{each.code}: {each.verdict}: {each.reason}" for each in found.findings)
    underflow = verdicts["underflow"]
    assert underflow.verdict is (Verdict.SUPPORTED if kind == "float16" else Verdict.REJECTED), told
    if kind == "float16":
        assert "float64" in underflow.reason, told
        assert underflow.layers, told
    others = {each.code for each in found.findings if each.verdict is Verdict.SUPPORTED} - {"underflow"}
    assert not others, told
