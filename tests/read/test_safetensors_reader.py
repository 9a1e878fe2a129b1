"""Safetensors files, compared with what the safetensors library loads; headers that lie."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save, save_file

from gradscope.errors import UnreadableFile
from gradscope.read import open_file
from gradscope.records import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = [torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


def opened(path: Path) -> Snapshot:
    record = open_file(path)
    assert isinstance(record, Snapshot)
    return record


def written(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_what_the_library_loads(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {
        "b.weight": torch.linspace(-2, 2, 6).reshape(2, 3).to(dtype),
        "a.bias": torch.ones(4).to(dtype),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    layers = opened(tmp_path / "model.safetensors").layers
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(layers) == set(file.keys())
        for name, layer in layers.items():
            expected = file.get_tensor(name)
            assert layer.dtype == str(dtype).removeprefix("torch.")
            assert layer.weight is not None
            np.testing.assert_array_equal(layer.weight.astype(np.float64), expected.double().numpy())
            assert set(layer.reasons) == {"gradient", "moments"}


@pytest.mark.parametrize(
    ("metadata", "name", "step", "source"),
    [
        ({"step": "300"}, "model.safetensors", 300, "step"),
        ({"global_step": "300", "format": "pt"}, "model.safetensors", 300, "global_step"),
        ({}, "model_7.safetensors", 7, "name"),
        (None, "model.safetensors", None, None),
        ({"step": "-3"}, "model.safetensors", None, None),
        ({"step": "9" * 25}, "model.safetensors", None, None),
        ({"step": "9" * 5000}, "model.safetensors", None, None),
        ({"step": "\u00b2"}, "model.safetensors", None, None),
    ],
)
def test_the_step(
    tmp_path: Path, metadata: dict[str, str] | None, name: str, step: int | None, source: str | None
) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / name, metadata)
    snapshot = opened(tmp_path / name)
    assert (snapshot.step, snapshot.step_from) == (step, source)
    assert ("step" in snapshot.reasons) == (step is None)


def test_integers_are_no_layers(tmp_path: Path) -> None:
    save_file(
        {"w": torch.ones(2), "steps": torch.arange(3), "s": torch.tensor(1.0)}, tmp_path / "m.safetensors"
    )
    assert set(opened(tmp_path / "m.safetensors").layers) == {"w", "s"}


def test_hostile_names_stay_texts(tmp_path: Path) -> None:
    names = {"a\nb", "\x1b[31m", "\u202e", "../../etc", "x" * 10_000}
    save_file({name: torch.ones(1) for name in names}, tmp_path / "m.safetensors")
    assert set(opened(tmp_path / "m.safetensors").layers) == names


def test_the_hand_written_file_is_a_real_one(tmp_path: Path) -> None:
    path = written(tmp_path / "m.safetensors", entry(), np.array([1, 2], "<f4").tobytes())
    np.testing.assert_array_equal(opened(path).layers["w"].weight, [1, 2])


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"{" + b'"a":{' * 100_000,
        b'{"w": ' + b"9" * 10_000 + b"}",
        b'{"\xff": 1}',
        {"w": 3},
        {"w": {}},
        entry(dtype="F31"),
        entry(dtype=None),
        entry(dtype=["F32"]),
        entry(shape=(3,)),
        entry(shape=(-2,)),
        entry(shape=(2.0,)),
        entry(shape="2"),
        entry(shape=None),
        entry(shape=(2**40, 2**40)),
        entry(shape=(1,) * 100),
        entry(shape=(True, 2)),
        entry(offsets=(0, 9)),
        entry(offsets=(4, 12)),
        entry(offsets=(8, 0)),
        entry(offsets=(-8, 0)),
        entry(offsets=(2**62, 2**62 + 8)),
        entry(offsets=(0,)),
        entry(offsets=None),
        {"__metadata__": 3, **entry()},
        {"__metadata__": {"a": 3}, **entry()},
    ],
    ids=lambda header: str(header)[:40],
)
def test_headers_that_lie(tmp_path: Path, header: object) -> None:
    with pytest.raises(UnreadableFile):
        open_file(written(tmp_path / "m.safetensors", header, bytes(8)))


@pytest.mark.parametrize("length", [0, 3, 10**6, 2**32 - 1, 2**40, 2**63, 2**64 - 1])
def test_lengths_that_lie(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + json.dumps(entry()).encode() + bytes(8))
    with pytest.raises(UnreadableFile):
        open_file(path)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_whatever_the_library_refuses_or_takes_nothing_else_is_raised(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(save({"a": torch.ones(2, 3), "b": torch.zeros(5)}, {"step": "3"}))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(content)
    try:
        record = open_file(path)
    except UnreadableFile:
        return
    assert isinstance(record, Snapshot)
    for layer in record.layers.values():
        assert layer.weight is not None
        assert layer.weight.shape == layer.shape
