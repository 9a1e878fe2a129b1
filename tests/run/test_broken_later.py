"""Files that open but break when their content is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from makers import case_run

from gradscope.run import open_run, scan_opened, with_associations, with_shift

if TYPE_CHECKING:
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
