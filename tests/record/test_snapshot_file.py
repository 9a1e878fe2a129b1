from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradscope.record.snapshot_file import write_snapshot

if TYPE_CHECKING:
    from pathlib import Path


def test_snapshots_have_ordinary_permissions_and_leave_nothing_beside(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "a.safetensors", tensors={"gradient.w": torch.zeros(3)}, metadata={})
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b"]
