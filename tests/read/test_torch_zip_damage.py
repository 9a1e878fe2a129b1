"""torch zip checkpoints that are damaged, altered or hostile."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from gradscope.errors import UnreadableFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path


def saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def altered(
    source: Path, target: Path, changes: dict[str, bytes | None], method: int = zipfile.ZIP_STORED
) -> Path:
    """Copy an archive with some members replaced or left out, data.pkl first."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in old.namelist():
            root, _, rest = name.partition("/")
            content = changes.get(rest, old.read(name))
            if content is not None:
                new.writestr(f"{root}/{rest}", content)
    return target


def test_big_endian_files(tmp_path: Path) -> None:
    saved(tmp_path / "m.pt", {"w": torch.arange(4.0)})
    swapped = np.arange(4, dtype=">f4").tobytes()
    path = altered(tmp_path / "m.pt", tmp_path / "big.pt", {"byteorder": b"big", "data/0": swapped})
    np.testing.assert_array_equal(open_file(path).layers["w"].weight, np.arange(4.0))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data/0": None}, "lacks storage '0'"),
        ({"data/0": b""}, "claims 12 elements"),
        ({"data/0": bytes(47)}, "claims 12 elements"),
        ({"data.pkl": b""}, "in the middle of a pickle"),
        ({"data.pkl": b"\x80\x02."}, "no well-formed pickle"),
        ({"data.pkl": b"\x80\x02N.N."}, "after the pickle's end"),
        ({"data.pkl": b"\x80\x02K\x01Q."}, "objects outside of it"),
    ],
)
def test_damaged_archives(tmp_path: Path, changes: dict[str, bytes | None], problem: str) -> None:
    saved(tmp_path / "m.pt", {"w": torch.ones(12)})
    with pytest.raises(UnreadableFile, match=problem):
        open_file(altered(tmp_path / "m.pt", tmp_path / "bad.pt", changes))


def test_deflated_storages_are_not_inflated(tmp_path: Path) -> None:
    saved(tmp_path / "m.pt", {"w": torch.zeros(1 << 20)})
    path = altered(tmp_path / "m.pt", tmp_path / "bomb.pt", {}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UnreadableFile, match="packed anew, with compression"):
        open_file(path)


@pytest.mark.parametrize(
    "arguments",
    [
        "(storage, 13, (1,), (1,), False, None)",
        "(storage, 0, (13,), (1,), False, None)",
        "(storage, 1, (12,), (1,), False, None)",
        "(storage, 0, (2,), (12,), False, None)",
        "(storage, -1, (1,), (1,), False, None)",
        "(storage, 0, (-1,), (1,), False, None)",
        "(storage, 0, (2,), (-1,), False, None)",
        "(storage, 0, (2**40, 2**40), (1, 1), False, None)",
        "(storage, 0, (2, 2), (1,), False, None)",
        "(storage, 0, 5, 5, False, None)",
        "(storage, True, (1,), (1,), False, None)",
        "(None, 0, (1,), (1,), False, None)",
        "(storage, 0)",
    ],
)
def test_tensors_that_leave_their_storage(tmp_path: Path, arguments: str) -> None:
    class Storage:
        pass

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, eval(arguments, {"storage": Storage()})  # noqa: S307

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 12) if isinstance(obj, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"w": Tensor()})
    saved(tmp_path / "m.pt", {"w": torch.ones(12)})
    with pytest.raises(UnreadableFile):
        open_file(altered(tmp_path / "m.pt", tmp_path / "bad.pt", {"data.pkl": buffer.getvalue()}))


def test_names_that_climb_are_never_followed(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    saved(folder / "m.pt", {"w": torch.ones(2)})
    with zipfile.ZipFile(folder / "m.pt", "a") as archive:
        archive.writestr("../../escaped", b"x")
    assert len(open_file(folder / "m.pt").layers) == 1
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "m.pt"]


def test_two_archives_in_one_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "m.pt", {"w": torch.ones(2)})
    shutil.copy(tmp_path / "m.pt", tmp_path / "two.pt")
    with zipfile.ZipFile(tmp_path / "two.pt", "a") as archive:
        archive.writestr("other/data.pkl", b"\x80\x02N.")
    with pytest.raises(UnreadableFile, match=r"2 of its members are a data\.pkl"):
        open_file(tmp_path / "two.pt")
