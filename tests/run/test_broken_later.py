"""Files that open but break when their content is read."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from makers import case_run

from gradscope.read import file_bytes
from gradscope.recompute import batches
from gradscope.records import Origin
from gradscope.run import open_run, scan_opened, with_associations, with_shift

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_file_rewritten_between_opening_and_measuring_is_a_row(tmp_path: Path) -> None:
    opened = open_run(case_run(tmp_path))
    (tmp_path / "checkpoint_6000.pt").write_bytes(b"PK\x03\x04" + bytes(100_000))
    report = scan_opened(opened)
    assert [each.source for each in report.unreadable] == ["checkpoint_6000.pt"]
    assert [each.step for each in report.snapshots] == [2000, 4000, 8000]
    report = with_associations(with_shift(report, opened), opened)
    assert [point.step for point in report.associations[0].series] == [2000, 4000, 8000]


def test_a_file_removed_between_opening_and_measuring_is_a_row(tmp_path: Path) -> None:
    opened = open_run(case_run(tmp_path))
    (tmp_path / "checkpoint_8000.pt").unlink()
    report = scan_opened(opened)
    assert [each.source for each in report.unreadable] == ["checkpoint_8000.pt"]
    assert len(report.snapshots) == 3


@pytest.mark.parametrize("stage", ["before a batch", "in a batch"])
def test_a_mapped_buffer_overwritten_in_place_is_a_row(
    sb3_files: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(file_bytes, "MAPPED_BYTES", 0)
    shutil.copytree(sb3_files("SAC"), tmp_path, dirs_exist_ok=True)
    first, second = scan_opened(open_run(tmp_path)).snapshots
    assert (first.origin, second.origin) == (Origin.RECOMPUTED, Origin.RECOMPUTED)
    buffer = tmp_path / f"rl_model_replay_buffer_{first.step}_steps.pkl"
    opened = open_run(tmp_path)
    if stage == "before a batch":
        buffer.write_bytes(b"")
    else:
        drawn = batches._rows

        def overwritten(*given: Any) -> Any:
            if buffer.stat().st_size:
                buffer.write_bytes(b"")
                monkeypatch.setattr(batches, "_rows", drawn)
            return drawn(*given)

        monkeypatch.setattr(batches, "_rows", overwritten)
    report = scan_opened(opened)
    assert [(each.source, each.reason) for each in report.unreadable] == [
        (buffer.name, "changed while it was read. Try again when it is written completely.")
    ]
    assert [(each.step, each.norm) for each in report.snapshots] == [(second.step, second.norm)]
