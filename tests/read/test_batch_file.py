"""Batch files: what torch, numpy and safetensors write, and what is refused in one line."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gradscope.errors import UnreadableFile
from gradscope.read.batch_file import read_batch

if TYPE_CHECKING:
    from pathlib import Path

X = torch.arange(12, dtype=torch.float32).reshape(4, 3)
Y = torch.tensor([0, 1, 2, 1])


def assert_rows(found: Any, expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, each in expected.items():
        wanted = np.asarray(each)
        assert found[name].dtype == wanted.dtype
        np.testing.assert_array_equal(found[name], wanted)


def test_a_dict_of_tensors(tmp_path: Path) -> None:
    torch.save({"x": X, "y": Y}, tmp_path / "batch.pt")
    assert_rows(read_batch(tmp_path / "batch.pt"), {"x": X, "y": Y})


def test_what_torch_wrote_before_1_6(tmp_path: Path) -> None:
    torch.save({"x": X, "y": Y}, tmp_path / "batch.pt", _use_new_zipfile_serialization=False)
    assert_rows(read_batch(tmp_path / "batch.pt"), {"x": X, "y": Y})


def test_a_pair_and_a_single_tensor(tmp_path: Path) -> None:
    torch.save((X, Y), tmp_path / "pair.pt")
    assert_rows(read_batch(tmp_path / "pair.pt"), {"0": X, "1": Y})
    torch.save([X.T.contiguous().T, Y], tmp_path / "list.pt")
    assert_rows(read_batch(tmp_path / "list.pt"), {"0": X, "1": Y})
    torch.save(X, tmp_path / "one.pt")
    assert_rows(read_batch(tmp_path / "one.pt"), {"0": X})


def test_arrays_within_torch_save(tmp_path: Path) -> None:
    torch.save({"x": X.numpy(), "y": Y}, tmp_path / "batch.pt")
    assert_rows(read_batch(tmp_path / "batch.pt"), {"x": X, "y": Y})


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint8", "bool", "complex64", ">f4"])
def test_numpy(dtype: str, tmp_path: Path) -> None:
    x, y = X.numpy().astype(dtype), np.asfortranarray(X.numpy())
    np.savez(tmp_path / "batch.npz", x=x, y=y)
    assert_rows(read_batch(tmp_path / "batch.npz"), {"x": x, "y": y})
    np.savez_compressed(tmp_path / "packed.npz", x=x, y=y)
    assert_rows(read_batch(tmp_path / "packed.npz"), {"x": x, "y": y})
    np.save(tmp_path / "batch.npy", x)
    assert_rows(read_batch(tmp_path / "batch.npy"), {"0": x})


def test_safetensors_and_small_floats(tmp_path: Path) -> None:
    save_file({"x": X.bfloat16(), "y": Y}, tmp_path / "batch.safetensors")
    found = read_batch(tmp_path / "batch.safetensors")
    assert set(found) == {"x", "y"}
    np.testing.assert_array_equal(found["x"].astype(np.float32), X.numpy())


def test_keys_select_and_rename(tmp_path: Path) -> None:
    torch.save({"inputs": X, "labels": Y, "epoch": 3}, tmp_path / "batch.pt")
    found = read_batch(tmp_path / "batch.pt", {"y": "labels", "x": "inputs"})
    assert_rows(found, {"y": Y, "x": X})
    with pytest.raises(UnreadableFile, match=r"has no entry 'label'. It has 'inputs', 'labels', 'epoch'"):
        read_batch(tmp_path / "batch.pt", {"y": "label"})


class Strange:
    pass


def bomb(shape: tuple[int, ...]) -> bytes:
    """An npy header that claims more than there is."""
    header = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8)


def npz(content: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("x.npy", content)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"x,y\n1,2\n", "is no batch file"),
    "pickle": (b"\x80\x04N.", "is no batch file"),
    "huge npy": (bomb((1 << 40,)), "has an array of shape"),
    "huge npz": (npz(bomb((1 << 40,))), "has an array of shape"),
    "negative": (bomb((-4,)), "whose shape is no shape"),
    "packed otherwise": (npz(npy(np.zeros((9, 9))), zipfile.ZIP_LZMA), "packed by method 14"),
    "objects": (npy(np.array([{"a": 1}], dtype=object)), "not of plain numbers"),
    "structured": (npy(np.zeros(3, dtype=[("a", "f4")])), "not of plain numbers"),
    "damaged header": (b"\x93NUMPY\x01\x00\x04\x00[[[[", "damaged header"),
    "version": (b"\x93NUMPY\x09\x00\x04\x00{}  ", "unknown version"),
    "long header": (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{}  ", "header of"),
    "nothing": (saved({}), "holds no arrays"),
    "number": (saved({"x": X, "epoch": 3}), "entry 'epoch' that is no array of rows"),
    "scalar": (saved({"x": X, "loss": torch.tensor(1.0)}), "entry 'loss' that is no array of rows"),
    "text entry": (saved({"x": X, "names": np.array(["a", "b", "c", "d"])}), "entry 'names'"),
    "lengths": (saved({"x": X, "y": Y[:2]}), "'x' has 4, 'y' has 2"),
    "no rows": (saved({"x": X[:0]}), "holds no rows"),
    "stride": (saved({"x": torch.zeros(1).expand(1 << 40)}), "larger than the file"),
    "dataset": (saved(torch.utils.data.TensorDataset(X)), "TensorDataset"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_one_line(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile) as raised:
        read_batch(path)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_in_a_batch_file_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Exploit:
        def __reduce__(self) -> Any:
            return eval, (f"__import__('pathlib').Path({str(marker)!r}).touch()",)

    torch.save({"x": X, "y": Exploit()}, tmp_path / "batch.pt")
    with pytest.raises(UnreadableFile, match="entry 'y'"):
        read_batch(tmp_path / "batch.pt")
    assert_rows(read_batch(tmp_path / "batch.pt", {"x": "x"}), {"x": X})
    assert not marker.exists()


def test_a_file_cut_anywhere_is_unreadable(tmp_path: Path) -> None:
    for content in (saved({"x": X, "y": Y}), npz(npy(X.numpy())), npy(X.numpy())):
        for end in range(0, len(content) - 1, 97):
            (tmp_path / "batch").write_bytes(content[:end])
            with pytest.raises(UnreadableFile):
                read_batch(tmp_path / "batch")
