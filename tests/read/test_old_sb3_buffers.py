"""Buffers of SB3 2.0.0 under numpy 1.26, against the arrays that the library held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradscope.read import open_file
from gradscope.records import Replay

FILES = Path(__file__).parent.parent / "files" / "sb3_2_0_buffers"


@pytest.mark.parametrize("name", ["box", "full", "image", "dict", "shared"])
def test_rows_are_the_librarys(name: str) -> None:
    replay = open_file(FILES / f"{name}.pkl")
    truth = np.load(FILES / f"{name}.npz")
    assert isinstance(replay, Replay)
    assert replay.format == "sb3-buffer"
    assert replay.notes == ()
    assert replay.ring is not None
    for part in ("observations", "next_observations"):
        arrays = getattr(replay, part)
        assert (arrays is None) == (name == "shared" and part == "next_observations")
        for key, each in (arrays or {}).items():
            wanted = truth[f"{part}.{key}" if key else part]
            np.testing.assert_array_equal(each, wanted)
            assert each.dtype == wanted.dtype
    np.testing.assert_array_equal(replay.actions, truth["actions"])
    np.testing.assert_array_equal(replay.rewards, truth["rewards"])
    np.testing.assert_array_equal(replay.ends, truth["dones"] * (1 - truth["timeouts"]))
    assert replay.num_rows == truth["rewards"].size
    assert replay.overwritten == (name in {"full", "image", "dict"})
