"""HDF5 that leads elsewhere, claims too much, or holds no numbers: one line, and the rest is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from gradscope.errors import UnreadableFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path


def reason(path: Path) -> str:
    with pytest.raises(UnreadableFile) as caught:
        open_file(path)
    assert "\n" not in str(caught.value)
    return str(caught.value.reason)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(3, 2), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "obs", shape=(3, 2))
    file.create_virtual_dataset("observations", layout)


def foreign_filter(file: h5py.File) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((3,))
    made.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (1,))
    h5py.h5d.create(
        file.id, b"observations", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((3,)), made
    ).close()


def references(file: h5py.File) -> None:
    file.create_dataset("observations", data=[file["actions"].ref] * 3, dtype=h5py.ref_dtype)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (virtual, "virtual dataset"),
        (
            lambda file: file.create_dataset(
                "observations", shape=(3,), dtype="u1", external=[("/etc/passwd", 0, 3)]
            ),
            "external storage",
        ),
        (foreign_filter, "HDF5 filter 32001"),
        (references, "holds no numbers"),
        (lambda file: file.create_dataset("observations", data=["a", "b", "c"]), "holds no numbers"),
        (
            lambda file: file.create_dataset("observations", (3,), dtype=h5py.vlen_dtype("u1")),
            "holds no numbers",
        ),
        (
            lambda file: file.create_dataset(
                "observations", (3, 1 << 27), "f4", chunks=(1, 1 << 27), compression="gzip"
            ),
            "chunks of 512 MiB",
        ),
        (
            lambda file: file.create_dataset("observations", data=np.full((3, 4), [255, 216, 255, 0], "u1")),
            "JPEG",
        ),
    ],
)
def test_observations_that_are_not_in_the_file(make: Any, expected: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["actions"] = np.zeros(3)
        make(file)
    assert expected in reason(tmp_path / "d.h5")


@pytest.mark.parametrize(
    ("link", "what"),
    [
        (h5py.ExternalLink("/etc/passwd", "/x"), "a link to another file"),
        (h5py.SoftLink("/observations"), "a soft link"),
    ],
)
def test_links_are_named_and_not_followed(link: Any, what: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["observations"] = link
        file["obs"], file["act"] = np.ones((3, 2)), np.zeros(3)
        group = file.create_group("loop")
        group["again"], group["root"] = group, file["/"]
    found: Any = open_file(tmp_path / "d.h5")
    assert found.notes == (f"'/observations' is {what}: not followed",)
    np.testing.assert_array_equal(found.observations[""], np.ones((3, 1, 2)))


def test_an_array_that_cannot_be_had_is_left_out_and_noted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["obs"], file["act"], file["rew"] = np.ones((3, 2)), ["a", "b", "c"], np.arange(3.0)
    found: Any = open_file(tmp_path / "d.h5")
    assert found.actions is None
    assert found.rewards.ravel().tolist() == [0, 1, 2]
    assert found.notes == ("has a dataset '/act' that holds no numbers (object): left out",)


def test_a_gigabyte_of_zeros_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    shape = {"shape": (1 << 28,), "dtype": "f4", "chunks": (1 << 22,), "compression": "gzip"}
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for name in ("observations", "actions"):
            file.create_dataset(name, **shape)
            file[name][: 1 << 22] = 0
    assert re.match(
        r"says it holds 1024 MiB of rows, more than its size justifies \(25\d MiB\)",
        reason(tmp_path / "d.h5"),
    )


def test_rows_that_were_never_written_have_no_size_of_their_own(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("observations", (1 << 50, 1 << 10), "f4", chunks=(1, 1 << 10))
        file.create_dataset("actions", (1 << 50,), "f4", chunks=(4,))
    assert "more than its size justifies" in reason(tmp_path / "d.h5")


def test_groups_within_groups_without_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        group = file
        for _ in range(500):
            group = group.create_group("g")
    assert "groups in each other" in reason(tmp_path / "d.h5")


def test_no_rows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["obs"], file["act"] = np.zeros((0, 2)), np.zeros(0)
    assert "holds no rows" in reason(tmp_path / "d.h5")


def test_contradicting_lengths(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["obs"], file["act"] = np.zeros((3, 2)), np.zeros(4)
    assert "different numbers of rows: '/obs' 3, '/act' 4" in reason(tmp_path / "d.h5")


@pytest.mark.parametrize("name", ["_size", "_insertion_idx"])
def test_a_ring_that_lies(name: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["_meta/obs"], file["_meta/act"] = np.zeros((5, 2)), np.zeros(5)
        file.attrs.update({"maxsize": 5, "_size": 5, "_insertion_idx": 2, name: 1 << 40})
    assert "position lies outside" in reason(tmp_path / "d.h5")
