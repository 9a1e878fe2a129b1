"""Flags of tuples that are 1 where the episode goes on, and what they are never taken for."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from samples_rows import experience, transitions

from gradscope.errors import UnreadableFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path


def replay(path: Path, rows: list[Any]) -> Any:
    path.write_bytes(pickle.dumps(rows))
    return open_file(path)


def test_a_mask_and_its_opposite_are_one_flag(tmp_path: Path) -> None:
    # jaxrl's order: (s, a, r, mask, done, s').
    rows = [(s, a, r, 1.0 - d, float(d), n) for s, a, r, n, d in transitions()]
    found = replay(tmp_path / "m.pkl", rows)
    np.testing.assert_array_equal(np.asarray(found.ends)[:, 0], experience()["dones"])


def test_another_flag_beside_a_mask_is_asked_for(tmp_path: Path) -> None:
    # bad_mask is 0 where a time limit cut: no truncation of ours.
    rows = [(s, a, r, n, 1.0 - d, 1.0) for s, a, r, n, d in transitions()]
    with pytest.raises(
        UnreadableFile, match="place 4 is 1 where the episode goes on, and place 5 is another"
    ):
        replay(tmp_path / "m.pkl", rows)


@pytest.mark.parametrize("places", [4, 5])
def test_flags_that_are_always_1_are_asked_for(tmp_path: Path, places: int) -> None:
    # Episodes of one step each, whose contexts follow each other: ends, and no mask.
    rows = [(s, a, r, n, True) if places == 5 else (s, a, r, True) for s, a, r, n, _ in transitions()]
    with pytest.raises(UnreadableFile, match="is 1 in most rows") as caught:
        replay(tmp_path / "m.pkl", rows)
    assert f"dones={places - 1}." in str(caught.value)


def test_terminated_and_truncated_stay_what_they_are(tmp_path: Path) -> None:
    rows = [(s, a, r, n, bool(d), False) for s, a, r, n, d in transitions()]
    found = replay(tmp_path / "m.pkl", rows)
    np.testing.assert_array_equal(np.asarray(found.ends)[:, 0], experience()["dones"])
