"""The stream that torch.save wrote before 1.6, compared with what torch loads; and damaged ones."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.errors import UnreadableFile
from gradscope.read import open_file, reader_of

if TYPE_CHECKING:
    from pathlib import Path

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SIZES = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {}}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def saved(path: Path, value: object, protocol: int = 2) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_checkpoint_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(8, 3)).pow(2).sum().backward()
    optimizer.step()
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "grads": {name: each.grad for name, each in model.named_parameters()},
        "step": 6000,
    }
    path = saved(tmp_path / "c.pt", content, protocol)
    snapshot: Any = open_file(path)
    assert (snapshot.format, snapshot.step, snapshot.step_from) == ("torch-legacy", 6000, "step")
    assert list(snapshot.layers) == [name for name, _ in model.named_parameters()]
    loaded = torch.load(path, weights_only=False)
    for place, (name, layer) in enumerate(snapshot.layers.items()):
        np.testing.assert_array_equal(layer.weight, loaded["model"][name].numpy())
        np.testing.assert_array_equal(layer.gradient, loaded["grads"][name].numpy())
        for key, value in loaded["optimizer"]["state"][place].items():
            np.testing.assert_array_equal(layer.moments[key], value.numpy())
    assert list(snapshot.state) == list(loaded["model"])
    assert snapshot.notes == ()


def test_a_module_saved_whole(tmp_path: Path) -> None:
    model = network()
    snapshot: Any = open_file(saved(tmp_path / "m_300.pt", model))
    assert snapshot.step == 300
    assert [layer.module for layer in snapshot.layers.values()] == ["Linear"] * 2 + ["BatchNorm1d"] * 2 + [
        "Linear"
    ] * 2
    assert list(snapshot.state) == list(model.state_dict())


def test_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(marker),)

    snapshot: Any = open_file(saved(tmp_path / "m.pt", {"model": network().state_dict(), "x": Runs()}))
    assert len(list(snapshot.layers.values())) == 6
    assert not marker.exists()
    assert "mkdir" in snapshot.notes[0]


def test_storages_are_read_only_when_their_layer_is(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"a.weight": torch.zeros(24 << 20), "b.weight": torch.ones(2)})
    tracemalloc.start()
    snapshot: Any = open_file(path)
    np.testing.assert_array_equal(snapshot.layers["b.weight"].weight, [1.0, 1.0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20 < path.stat().st_size


def view_of(key: str, first: int, length: int) -> Any:
    """A storage that is a part of another, as torch before 0.4 wrote them."""
    return ("storage", torch.FloatStorage, key, "cpu", 12, ("view", first, length))


class Tensor:
    def __init__(self, storage: Any, *rest: Any) -> None:
        self.storage, self.rest = storage, rest

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (Storage(self.storage), *self.rest)


class Storage:
    def __init__(self, identity: Any) -> None:
        self.identity = identity


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.identity if isinstance(obj, Storage) else None


def stream(value: object, keys: object = ("7",), counts: tuple[int, ...] = (12,), **changes: Any) -> bytes:
    buffer = io.BytesIO()
    for each in (changes.get("magic", MAGIC), changes.get("version", VERSION), SIZES):
        pickle.dump(each, buffer, 2)
    Pickler(buffer, 2).dump(value)
    pickle.dump(list(keys) if isinstance(keys, tuple) else keys, buffer, 2)
    for count in counts:
        buffer.write(struct.pack("<q", count) + np.arange(12, dtype="<f4").tobytes())
    return buffer.getvalue()


def plain(key: str = "7", count: int = 12) -> Any:
    return ("storage", torch.FloatStorage, key, "cpu", count, None)


REST = ((2, 3), (3, 1), False, {})


def test_views_of_storages(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(stream({"a.weight": Tensor(view_of("7", 4, 8), 1, *REST)}))
    found: Any = open_file(path)
    np.testing.assert_array_equal(found.layers["a.weight"].weight, np.arange(5.0, 11).reshape(2, 3))
    np.testing.assert_array_equal(
        found.layers["a.weight"].weight, torch.load(path, weights_only=False)["a.weight"].numpy()
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (stream({"w": Tensor(plain(), 0, *REST)}, version=7), "no torch file, though it begins like one"),
        (stream({"w": Tensor(plain(), 0, *REST)}, keys=()), "does not list the storages"),
        (stream({"w": Tensor(plain(), 0, *REST)}, keys=("7", "8")), "does not list the storages"),
        (stream({"w": Tensor(plain(), 0, *REST)}, keys=("7", "7")), "does not list the storages"),
        (stream({"w": Tensor(plain(), 0, *REST)}, keys=([],)), "does not list the storages"),
        (stream({"w": Tensor(plain(), 0, *REST)}, keys=7), "does not list the storages"),
        (stream({"w": Tensor(plain(), 0, *REST)}, counts=(11,)), "of 11 elements that claims 12"),
        (stream({"w": Tensor(plain(), 0, *REST)}, counts=(-1,)), "elements that claims 12"),
        (stream({"w": Tensor(plain(), 0, *REST)}, counts=()), "ends before its last storage"),
        (stream({"w": Tensor(plain(), 0, *REST)}) + b"more", "4 bytes after its end"),
        (stream({"w": Tensor(plain(), 0, *REST)})[:-1], "lie outside"),
        (stream({"w": Tensor(plain(count=2**60), 0, *REST)}), "claims 1152921504606846976 elements"),
        (stream([Tensor(plain(), 0, *REST), Tensor(plain(count=13), 0, *REST)]), "claims 13 elements"),
        (stream({"w": Tensor(plain(), 7, *REST)}), "leaves its storage"),
        (stream({"w": Tensor(view_of("7", 8, 5), 0, *REST)}), "a view that leaves its storage"),
        (stream({"w": Tensor(view_of("7", -1, 5), 0, *REST)}), "a view that leaves its storage"),
        (stream({"w": Tensor(view_of("7", 0, 5), 0, *REST)}), "leaves its storage of 5"),
        (stream({"w": Tensor((*plain()[:5], "view"), 0, *REST)}), "a view of a storage that is none"),
        (stream({"w": Tensor(plain()[:5], 0, *REST)}), "refers to objects outside of it"),
        (stream({"w": Tensor(("storage", "x", "7", "cpu", 12, None), 0, *REST)}), "unknown type"),
        (stream({"w": Tensor(("module", "x", None, None), 0, *REST)}), "without a storage"),
        (stream({"a": 1})[:60], "ends in the middle|claims .* bytes"),
    ],
)
def test_damaged_streams(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(UnreadableFile, match=problem):
        open_file(tmp_path / "m.pt")


def test_an_expanded_view_is_never_made(tmp_path: Path) -> None:
    wide = Tensor(plain(), 0, (2**60,), (0,), False, {})
    (tmp_path / "m.pt").write_bytes(stream({"a.weight": Tensor(plain(), 0, *REST), "b.weight": wide}))
    snapshot: Any = open_file(tmp_path / "m.pt")
    assert list(snapshot.layers) == ["a.weight"]
    assert snapshot.notes == ("not read: b.weight is a view of more elements than its file has bytes for",)


def test_a_tar_is_told_apart(tmp_path: Path) -> None:
    """What torch wrote before 0.1.10."""
    with tarfile.open(tmp_path / "m.pt", "w") as archive:
        archive.addfile(tarfile.TarInfo("sys_info"))
    with pytest.raises(
        UnreadableFile, match=r"is a tar: packed files, or torch's format from before 0\.1\.10"
    ):
        reader_of(tmp_path / "m.pt")
