"""Exported programs (.pt2), compared with what torch.export.load gives; and damaged ones."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from gradscope.errors import ForeignFile, UnreadableFile
from gradscope.read import open_file, reader_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Model(nn.Module):
    """Parameters, buffers of both kinds, several dtypes, a transposed weight, one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.turned = nn.Parameter(torch.randn(2, 4).t())
        self.narrow = nn.Parameter(torch.randn(2, dtype=torch.bfloat16))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("scale", torch.tensor(3.0))
        self.register_buffer("passing", torch.ones(1), persistent=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.body(rows) @ self.turned * self.scale + self.narrow + self.frozen + self.passing


def exported(path: Path, model: nn.Module | None = None) -> Path:
    chosen = (model or Model()).eval()
    torch.export.save(torch.export.export(chosen, (torch.ones(2, 3),)), path)
    return path


def test_an_exported_program(tmp_path: Path) -> None:
    model = Model()
    snapshot: Any = open_file(exported(tmp_path / "policy_700.pt2", model))
    assert (snapshot.format, snapshot.step, snapshot.step_from) == ("torch-export", 700, "name")
    program = torch.export.load(tmp_path / "policy_700.pt2")
    assert set(snapshot.state) == set(program.state_dict) == set(model.state_dict())
    for name, tensor in program.state_dict.items():
        np.testing.assert_array_equal(snapshot.state[name].astype("f8"), tensor.detach().double().numpy())
    assert set(snapshot.layers) == {name for name, _ in model.named_parameters()}
    assert snapshot.layers["narrow"].dtype == "bfloat16"
    assert snapshot.layers["turned"].shape == (4, 2)
    assert snapshot.layers["narrow"].reasons["gradient"] == "an exported program holds no gradients"
    assert snapshot.notes == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2])
def test_dtypes(tmp_path: Path, dtype: torch.dtype) -> None:
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(-2, 2, 6).reshape(2, 3).to(dtype), requires_grad=False)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows @ self.weight.float().t()

    model = Narrow()
    layer = open_file(exported(tmp_path / "m.pt2", model)).layers["weight"]
    np.testing.assert_array_equal(layer.weight.astype("f8"), model.weight.double().numpy())


def altered(folder: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A program whose members (without the root) were changed."""
    source, target = exported(folder / "m.pt2", nn.Linear(3, 2)), folder / "bad.pt2"
    with zipfile.ZipFile(source) as archive:
        content = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(content)
    with zipfile.ZipFile(target, "w") as archive:
        for name, part in content.items():
            archive.writestr(f"m/{name}", part)
    return target


CONFIG = "data/weights/model_weights_config.json"


def described(key: str, value: Any) -> Callable[[dict[str, bytes]], None]:
    """Change one entry of the description of `weight`."""

    def change(content: dict[str, bytes]) -> None:
        document = json.loads(content[CONFIG])
        entry = document["config"]["weight"]
        (entry if key in entry else entry["tensor_meta"])[key] = value
        content[CONFIG] = json.dumps(document).encode()

    return change


def sizes(*values: object) -> list[dict[str, object]]:
    return [{"as_int": value} for value in values]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (described("path_name", "../../etc/passwd"), "lacks the uncompressed member"),
        (described("path_name", 3), "in an unknown way"),
        (described("tensor_meta", None), "in an unknown way"),
        (described("dtype", "float"), "in an unknown way"),
        (described("sizes", sizes(2**60, 3)), "leaves its 24 bytes"),
        (described("sizes", sizes(-2, 3)), "shape is no shape"),
        (described("sizes", sizes(2.0, 3)), "shape is no shape"),
        (described("sizes", sizes(2)), "in an unknown way"),
        (described("sizes", "x"), "shape is no shape"),
        (described("sizes", [{"as_expr": "s0"}, {"as_int": 3}]), "shape is no shape"),
        (described("strides", sizes(2**60, 1)), "leaves its 24 bytes"),
        (described("storage_offset", {"as_int": 1}), "leaves its 24 bytes"),
        (described("storage_offset", {"as_int": -1}), "in an unknown way"),
        (described("use_pickle", True), "zip without an end"),
        (lambda c: c.update({"data/weights/weight_0": b""}), "leaves its 0 bytes"),
        (lambda c: c.pop("data/weights/weight_0"), "lacks the uncompressed member"),
        (lambda c: c.update({CONFIG: b"{"}), "no JSON"),
        (lambda c: c.update({CONFIG: b"[" * 100_000}), "no JSON"),
        (lambda c: c.update({CONFIG: b'{"config": {"a": ' + b"9" * 10_000 + b"}}"}), "no JSON"),
        (lambda c: c.update({CONFIG: b"[]"}), "in an unknown way"),
        (lambda c: c.update({CONFIG: b'{"config": 3}'}), "in an unknown way"),
    ],
)
def test_damaged_programs(tmp_path: Path, change: Any, problem: str) -> None:
    with pytest.raises(UnreadableFile, match=problem):
        open_file(altered(tmp_path, change))


@pytest.mark.parametrize("number", [0, 14, 99, -1, 10**30])
def test_a_dtype_of_the_future_is_a_layer_without_a_weight(tmp_path: Path, number: int) -> None:
    layer = open_file(altered(tmp_path, described("dtype", number))).layers["weight"]
    assert layer.weight is None
    assert "has a dtype that is not read" in layer.reasons["weight"]


def test_an_expanded_weight_is_never_made(tmp_path: Path) -> None:
    def change(content: dict[str, bytes]) -> None:
        described("sizes", sizes(2**40, 3))(content)
        described("strides", sizes(0, 1))(content)

    snapshot = open_file(altered(tmp_path, change))
    assert list(snapshot.layers) == ["bias"]
    assert "more elements than its file has bytes" in snapshot.notes[0]


def test_a_program_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ForeignFile, match="an exported program without weights"):
        open_file(exported(tmp_path / "m.pt2", nn.ReLU()))
    with pytest.raises(UnreadableFile, match="without the file that describes them"):
        open_file(altered(tmp_path, lambda content: content.pop(CONFIG)))


def test_deflated_weights_are_not_inflated(tmp_path: Path) -> None:
    source = exported(tmp_path / "m.pt2", nn.Linear(3, 2))
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(tmp_path / "b.pt2", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            kind = zipfile.ZIP_STORED if name.endswith(".json") else zipfile.ZIP_DEFLATED
            new.writestr(name, old.read(name), kind)
    with pytest.raises(UnreadableFile, match="lacks the uncompressed member"):
        open_file(tmp_path / "b.pt2")


def test_a_name_that_promises_a_program(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"nothing of the kind")
    with pytest.raises(UnreadableFile, match="begins like no known format"):
        reader_of(tmp_path / "m.pt2")


def test_a_program_whose_weights_are_no_tensors_says_so(tmp_path: Path) -> None:
    whole, path = exported(tmp_path / "whole.pt2"), tmp_path / "policy.pt2"
    pickled = io.BytesIO()
    torch.save({"no": "tensor"}, pickled)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("weights_config.json"):
                described = json.loads(content)
                entries = {key: {**each, "use_pickle": True} for key, each in described["config"].items()}
                content = json.dumps({**described, "config": entries}).encode()
            new.writestr(name, pickled.getvalue() if "/data/weights/weight_" in name else content)
    with pytest.raises(ForeignFile, match=r"without weights: .* is pickled inside"):
        open_file(path)
