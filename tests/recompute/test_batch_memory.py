"""Batches hold the drawn rows; the buffer is neither copied nor kept in memory for them."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium import spaces
from makers import sb3_ring
from recompute.library import Case, assert_equal, trained

from gradscope.read import file_bytes
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import Recomputed, recompute_gradients
from gradscope.recompute.mapped import release

if TYPE_CHECKING:
    from collections.abc import Mapping

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)
CAPACITY, BATCH_SIZE = 2_000, 8
MIB = 1 << 20


@pytest.mark.parametrize("is_shared", [False, True])
def test_only_drawn_images_are_copied(tmp_path: Path, *, is_shared: bool) -> None:
    case = Case(algorithm="DQN", policy="CnnPolicy", space=ATARI, policy_kwargs={}, steps=40)
    checkpoint = trained(case, tmp_path)[0]
    small = sb3_ring(checkpoint.ring)
    arrays = [np.full((CAPACITY, 1, *ATARI.shape), value, np.uint8) for value in (7, 9)]
    ring = replace(
        small,
        position=3,
        is_full=True,
        is_shared=is_shared,
        observations={"": arrays[0]},
        next_observations=None if is_shared else {"": arrays[1]},
        actions=np.zeros((CAPACITY, 1, 1), np.int64),
        **{name: np.zeros((CAPACITY, 1), np.float32) for name in ("rewards", "dones", "timeouts")},
    )
    training = replace(sb3_training(checkpoint.zip), last_original_observations=None)
    tracemalloc.start()
    found = recompute_gradients(training, ring, None, batches=2, batch_size=BATCH_SIZE, seed=0)
    assert isinstance(found, Recomputed)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for one in found.batches():
        assert one.observations[""].shape == (BATCH_SIZE, *ATARI.shape)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert arrays[0].nbytes > 50 * MIB
    # This batch's rows and the last one's, before and after the step, and little else.
    assert peak < 2 * 2 * BATCH_SIZE * arrays[0][0].nbytes + MIB


def test_a_mapped_buffer_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = trained(Case(algorithm="SAC", num_environments=2), tmp_path)[0]
    whole = [dict(one.gradients) for one in checkpoint.recomputed(batches=3).batches()]
    monkeypatch.setattr(file_bytes, "MAPPED_BYTES", 0)
    again = [dict(one.gradients) for one in checkpoint.recomputed(batches=3).batches()]
    for one, other in zip(whole, again, strict=True):
        assert_equal(one, other)


def test_pages_of_a_mapped_file_are_given_back(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    expected = np.arange(10 * MIB, dtype=np.float64)
    expected.tofile(path)
    content: Any = file_bytes.section_of(path).content()
    array = np.frombuffer(memoryview(content)[:], np.float64).reshape(-1, 2)
    total = array.sum()
    before = resident()
    release(array)
    assert before - resident() >= (array.nbytes * 0.9 if sys.platform == "linux" else 0)
    assert array.sum() == total
    np.testing.assert_array_equal(array.ravel(), expected)


@pytest.mark.parametrize("array", [np.zeros(3), np.frombuffer(b"12345678"), np.zeros((4, 4))[::2, 1]])
def test_arrays_in_memory_are_left_alone(array: np.ndarray[Any, Any]) -> None:
    before = array.copy()
    release(array)
    np.testing.assert_array_equal(array, before)


def resident() -> int:
    """Bytes of mapped files in this process's memory; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    lines: Mapping[str, str] = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines()
    )
    return int(lines["RssFile"].split()[0]) * 1024
