"""Every kind of tensor that torch saves, as torch itself loads it; what is no array says why."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from gradscope.errors import UnreadableFile
from gradscope.read import open_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"]),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
FLOATS = [
    *("float16", "float32", "float64", "bfloat16", "complex32", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
]
INTEGERS = ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "bool"]


def saved(path: Path, value: object, *, is_zip: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip)
    return path


def opened(path: Path, value: object, *, is_zip: bool) -> Any:
    return open_file(saved(path, value, is_zip=is_zip))


@pytest.mark.parametrize("name", FLOATS)
def test_every_dtype_that_can_be_trained(tmp_path: Path, *, is_zip: bool, name: str) -> None:
    dtype = getattr(torch, name)
    values = torch.linspace(0.5, 3, 12).reshape(3, 4).to(dtype)
    layer = opened(tmp_path / "m.pt", {"w": values.t(), "v": values[1]}, is_zip=is_zip).layers["w"]
    assert (layer.dtype, layer.shape) == (name, (4, 3))
    wide = torch.complex128 if dtype.is_complex else torch.float64
    expected = values.t().to(wide).numpy()
    np.testing.assert_array_equal(layer.weight.astype(expected.dtype), expected)


@pytest.mark.parametrize("name", INTEGERS)
def test_every_other_dtype_is_in_the_state(tmp_path: Path, *, is_zip: bool, name: str) -> None:
    values = torch.tensor([0, 1, 1]).to(getattr(torch, name))
    state = opened(tmp_path / "m.pt", {"f.weight": torch.ones(1), "n": values}, is_zip=is_zip).state
    np.testing.assert_array_equal(state["n"], values.numpy())
    assert state["n"].dtype == values.numpy().dtype


@pytest.mark.parametrize("name", ["bits8", "float4_e2m1fn_x2"])
def test_a_dtype_that_numpy_cannot_hold_is_a_layer_without_a_weight(
    tmp_path: Path, *, is_zip: bool, name: str
) -> None:
    packed = torch.empty(4, dtype=torch.uint8).view(getattr(torch, name))
    snapshot = opened(tmp_path / "m.pt", {"a.weight": torch.ones(1), "b.weight": packed}, is_zip=is_zip)
    layer = snapshot.layers["b.weight"]
    assert (layer.weight, layer.shape, layer.dtype) == (None, (4,), name)
    assert layer.reasons["weight"] == f"the weight has a dtype that is not read: {name}"
    assert snapshot.notes == (f"not read: b.weight has a dtype that is not read: {name}",)
    assert list(snapshot.state) == ["a.weight"]


@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32])
def test_a_tensor_quantised_as_a_whole(tmp_path: Path, *, is_zip: bool, dtype: torch.dtype) -> None:
    values = torch.quantize_per_tensor(torch.randn(3, 4), 0.013, 7, dtype)
    layer = opened(tmp_path / "m.pt", {"w": values, "v": values.t()}, is_zip=is_zip).layers["w"]
    assert layer.dtype == str(dtype).removeprefix("torch.")
    assert layer.weight.dtype == np.float32
    np.testing.assert_array_equal(layer.weight, values.dequantize().numpy())


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8])
def test_a_tensor_quantised_by_channel(
    tmp_path: Path, *, is_zip: bool, axis: int, dtype: torch.dtype
) -> None:
    size = (3, 4)[axis]
    scales, zeros = torch.rand(size) + 0.01, torch.arange(size)
    values = torch.quantize_per_channel(torch.randn(3, 4), scales, zeros, axis, dtype)
    layer = opened(tmp_path / "m.pt", {"w": values}, is_zip=is_zip).layers["w"]
    np.testing.assert_array_equal(layer.weight, values.dequantize().numpy())


def test_packed_quantised_elements_say_so(tmp_path: Path, *, is_zip: bool) -> None:
    values = torch.quantize_per_channel(
        torch.randn(3, 4), torch.rand(3) + 1, torch.zeros(3), 0, torch.quint4x2
    )
    layer = opened(tmp_path / "m.pt", {"w": values}, is_zip=is_zip).layers["w"]
    assert layer.reasons["weight"] == "the weight has a dtype that is not read: quint4x2"


SPARSE = {
    "coo": lambda: torch.sparse_coo_tensor([[0, 2, 0], [1, 3, 1]], [1.0, 2.0, 4.0], (3, 4)),
    "coo-coalesced": lambda: torch.eye(3).to_sparse(),
    "coo-hybrid": lambda: torch.sparse_coo_tensor([[0, 2]], torch.ones(2, 3), (4, 3)),
    "coo-empty": lambda: torch.zeros(3, 4).to_sparse(),
    "coo-bf16": lambda: torch.sparse_coo_tensor([[1, 1]], torch.ones(2, dtype=torch.bfloat16), (4,)),
    "csr": lambda: (torch.arange(12.0) % 3).reshape(3, 4).to_sparse_csr(),
    "csc": lambda: (torch.arange(12.0) % 3).reshape(3, 4).to_sparse_csc(),
    "bsr": lambda: (torch.arange(24.0) % 5).reshape(4, 6).to_sparse_bsr((2, 3)),
    "bsc": lambda: (torch.arange(24.0) % 5).reshape(4, 6).to_sparse_bsc((2, 3)),
}


@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_tensors_are_zero_where_they_say_nothing(tmp_path: Path, *, is_zip: bool, kind: str) -> None:
    values = SPARSE[kind]()
    content = {"model": {"w": values.to_dense()}, "grads": {"w": values}}
    layer = opened(tmp_path / "c.pt", content, is_zip=is_zip).layers["w"]
    np.testing.assert_array_equal(layer.gradient.astype("f8"), values.to_dense().double().numpy())
    assert layer.gradient.dtype == layer.weight.dtype


def test_a_sparse_gradient_of_an_embedding_counts_its_untouched_rows(tmp_path: Path, *, is_zip: bool) -> None:
    table = nn.Embedding(50, 4, sparse=True)
    table(torch.tensor([3, 3, 7])).sum().backward()
    assert table.weight.grad is not None
    content = {"model": table.state_dict(), "grads": {"weight": table.weight.grad}}
    layer = opened(tmp_path / "c.pt", content, is_zip=is_zip).layers["weight"]
    np.testing.assert_array_equal(layer.gradient, table.weight.grad.to_dense().numpy())
    assert np.count_nonzero(layer.gradient) == 8


def test_a_sparse_tensor_too_large_when_dense(tmp_path: Path, *, is_zip: bool) -> None:
    wide = torch.sparse_coo_tensor([[0], [1]], [1.0], (2**30, 2**20))
    content = {"model": {"w": torch.ones(2)}, "grads": {"w": wide}}
    layer = opened(tmp_path / "c.pt", content, is_zip=is_zip).layers["w"]
    assert layer.gradient is None
    assert "it would take 4503599627370496 bytes when dense" in layer.reasons["gradient"]


def test_sparse_indices_out_of_the_shape(tmp_path: Path, *, is_zip: bool) -> None:
    indices = torch.tensor([[5], [0]])
    bad = torch.sparse_coo_tensor(indices, [1.0], (3, 4), check_invariants=False)
    snapshot = opened(tmp_path / "c.pt", {"a.weight": bad}, is_zip=is_zip)
    with pytest.raises(UnreadableFile, match="indices out of its shape"):
        _ = snapshot.layers["a.weight"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.empty(3, 4, device="meta"), "lies on the meta device"),
        (
            lambda: TwoTensor(torch.ones(3, 4), torch.ones(3, 4)),
            "two_tensor.TwoTensor, which only its own code",
        ),
    ],
    ids=["meta", "wrapper"],
)
def test_a_tensor_without_data_is_a_layer_with_its_reason(
    tmp_path: Path, *, is_zip: bool, make: Any, reason: str
) -> None:
    content = {"model": {"a.weight": make(), "b.weight": torch.ones(2)}}
    snapshot = opened(tmp_path / "m.pt", content, is_zip=is_zip)
    layer = snapshot.layers["a.weight"]
    assert (layer.weight, layer.shape, layer.dtype) == (None, (3, 4), "float32")
    assert reason in layer.reasons["weight"]
    assert any(reason in note for note in snapshot.notes)
    assert list(snapshot.state) == ["b.weight"]


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_nested_tensors_and_lazy_parameters_are_told_in_a_note(
    tmp_path: Path, *, is_zip: bool, layout: Any
) -> None:
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(3, 3)], layout=layout)
    content = {"a.weight": nested, "b.weight": torch.ones(2), **nn.LazyLinear(3).state_dict()}
    snapshot = opened(tmp_path / "m.pt", content, is_zip=is_zip)
    assert list(snapshot.layers) == ["b.weight"]
    assert any(note.startswith("not read: a.weight is a") for note in snapshot.notes)
    assert "not read: weight (and 1 more) is a parameter of a lazy module" in " ".join(snapshot.notes)


class Tagged(torch.Tensor):
    """A subclass as users write them."""


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.as_subclass(Tagged),
        nn.Buffer,
        nn.Parameter,
        lambda t: nn.Parameter(t.as_subclass(Tagged)),
        lambda t: torch.complex(t, t).conj(),
        lambda t: torch.complex(t, t).conj().imag,
        lambda t: t[:0],
        lambda t: t[1, 1],
        lambda t: t.flip(0).t()[1:, ::2],
        lambda t: t[:1].expand(4, 6),
    ],
    ids=["subclass", "buffer", "parameter", "both", "conj", "neg", "empty", "0-dim", "view", "expanded"],
)
def test_what_is_a_plain_tensor_under_its_wrapping(tmp_path: Path, *, is_zip: bool, make: Any) -> None:
    values = make(torch.arange(24.0).reshape(4, 6))
    if type(values) is not torch.Tensor:
        values.tag = 3
    layer = opened(tmp_path / "m.pt", {"w": values, "o": torch.ones(1)}, is_zip=is_zip).layers["w"]
    expected = torch.Tensor.detach(values).as_subclass(torch.Tensor).resolve_conj().resolve_neg()
    np.testing.assert_array_equal(layer.weight, expected.numpy())


@pytest.mark.parametrize("location", [b"cuda", b"mps:", b"x" * 4, b"\xc3\xa9zz"])
def test_where_a_tensor_was_does_not_matter(tmp_path: Path, *, is_zip: bool, location: bytes) -> None:
    """Moved by hand: no accelerator is needed to meet its location string."""
    layer = nn.Linear(3, 2)
    path = saved(tmp_path / "m.pt", layer.state_dict(), is_zip=is_zip)
    text, other = b"X\x03\x00\x00\x00cpu", b"X\x04\x00\x00\x00" + location
    if is_zip:
        content = dict(members(path))
        content["data.pkl"] = content["data.pkl"].replace(text, other)
        rewrite(tmp_path / "m.pt", content)
    else:
        path.write_bytes(path.read_bytes().replace(text, other))
    np.testing.assert_array_equal(open_file(path).layers["weight"].weight, layer.weight.detach().numpy())


def members(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        return [(name.partition("/")[2], archive.read(name)) for name in archive.namelist()]


def rewrite(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in content.items():
            archive.writestr(f"m/{name}", part)


def test_shared_storages_are_read_for_each_name(tmp_path: Path, *, is_zip: bool) -> None:
    whole = torch.arange(10.0)
    content = {"a.weight": whole[:4], "b.weight": whole[4:], "c.weight": whole.view(5, 2).t()}
    layers = opened(tmp_path / "m.pt", content, is_zip=is_zip).layers
    for name, values in content.items():
        np.testing.assert_array_equal(layers[name].weight, values.numpy())


def test_bfloat16_stays_what_it_is(tmp_path: Path, *, is_zip: bool) -> None:
    values = torch.randn(64).to(torch.bfloat16)
    weight = opened(tmp_path / "m.pt", {"w": values}, is_zip=is_zip).layers["w"].weight
    assert weight.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(weight.view(np.uint16), values.view(torch.uint16).numpy())
