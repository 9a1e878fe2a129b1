"""A supervised training in float16 whose gradients underflow, and its twin in bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from truths.truth import Truth

from gradscope.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCE: Final = """
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
UPDATES: Final = 20


def trained(kind: str) -> Callable[[Path, int], object]:
    """Updates of Adam, as a user's script does them, then the checkpoint and a batch."""

    def make(folder: Path, seed: int) -> object:
        torch.manual_seed(seed)
        (folder / "returns.py").write_text(SOURCE)
        names: dict[str, Any] = {}
        exec(compile(SOURCE, "returns.py", "exec"), names)  # noqa: S102  the very text that is written
        model, loss = names[kind]()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        x = torch.randn(256, 12)
        batch = {"x": x, "y": 1e-3 * x[:, :1]}
        for _ in range(UPDATES):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        torch.save(batch, folder / "batch.pt")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": UPDATES}
        torch.save(state, folder / "model_20.pt")
        return folder

    return make


def asked(kind: str) -> Callable[[Path], Settings]:
    """These gradients are smaller than the usual tolerance in any type."""
    return lambda folder: Settings(
        model=f"returns:{kind}", code=folder, trust=True, replay=folder / "batch.pt", zero_tolerance=1e-14
    )


SMALL_TYPES = (
    Truth(name="healthy, bfloat16", made=trained("bfloat16"), settings=asked("bfloat16"), step=UPDATES),
    Truth(
        name="float16 underflow",
        made=trained("float16"),
        twin="healthy, bfloat16",
        supported=frozenset({"underflow"}),
        # Where everything underflows from the start, nothing was ever trained either.
        also=frozenset({"never-trained"}),
        words={"underflow": "float64"},
        settings=asked("float16"),
        step=UPDATES,
    ),
)
