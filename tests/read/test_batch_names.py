"""Rows to train on that lie beside checkpoints are no checkpoints; whatever has weights is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gradscope import scan
from gradscope.errors import ForeignFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path

ROWS = {"x": torch.randn(40, 6), "y": torch.zeros(40)}


@pytest.mark.parametrize("is_new", [True, False])
def test_a_batch_beside_a_checkpoint_is_skipped_with_its_reason(tmp_path: Path, *, is_new: bool) -> None:
    torch.save(ROWS, tmp_path / "batch.pt", _use_new_zipfile_serialization=is_new)
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "model_100.pt")
    report = scan(tmp_path)
    assert [each.source for each in report.snapshots] == ["model_100.pt"]
    assert [each.source for each in report.skipped] == ["batch.pt"]
    assert report.skipped[0].reason.startswith("holds rows to train on, no weights. Name it for your loss")


def test_a_batch_of_safetensors(tmp_path: Path) -> None:
    save_file({"input_ids": torch.ones(4, 9), "labels": torch.ones(4)}, tmp_path / "batch.safetensors")
    with pytest.raises(ForeignFile, match="holds rows to train on"):
        open_file(tmp_path / "batch.safetensors")


@pytest.mark.parametrize(
    "saved",
    [
        nn.Linear(3, 2).state_dict(),
        {"model": nn.Linear(3, 2).state_dict(), "x": torch.ones(2)},
        {"x": torch.ones(3), "y": torch.ones(4)},
        {"x": torch.ones(3), "scale": torch.ones(3)},
        {"x": torch.tensor(1.0)},
        {"x": torch.ones(3)},
        {"data": torch.ones(4, 2)},
    ],
)
def test_weights_stay_weights(tmp_path: Path, saved: dict[str, Any]) -> None:
    torch.save(saved, tmp_path / "model.pt")
    snapshot: Any = open_file(tmp_path / "model.pt")
    assert snapshot.layers
