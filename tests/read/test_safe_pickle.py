"""What FORMATS section 8 asks of pickles, opcode by opcode."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import pickle
import pickletools
import struct
import sys
import time
import tracemalloc
from collections import OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import NUMPY_TABLE, as_array
from gradscope.read.pickle_machine import REFUSED
from gradscope.read.pickle_stubs import Global, Stub, attributes
from gradscope.read.safe_pickle import Unpickled, unpickled

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOLS = range(6)
ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.array(3.5),
    np.array([True, False]),
    np.array([1, 2], dtype=">i4"),
    np.array([1 + 2j], dtype=np.complex64),
    np.array(["a", "bcd"]),
    np.array([b"x"]),
    np.zeros((0, 3), np.float16),
    np.arange(10_000, dtype=np.uint8),
    np.arange(20)[::3],
]


class Runs:
    """Its pickle asks the reader to create a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


class Plain:
    pass


def read(data: bytes) -> Unpickled:
    return unpickled(data, NUMPY_TABLE)


def refused(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        read(data)
    assert "\n" not in caught.value.problem
    return caught.value.problem


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_back_as_they_were(protocol: int) -> None:
    value = {
        "a": [
            1,
            -1,
            2**70,
            1.5,
            None,
            True,
            False,
            "t\u00e4xt",
            b"bytes",
            (1,),
            (1, 2),
            (1, 2, 3),
            (1, 2, 3, 4),
            (),
        ],
        3: {"nested": {"deep": [[]]}},
        ("key", 1): float("inf"),
    }
    assert read(pickle.dumps(value, protocol)).value == value


@pytest.mark.parametrize("protocol", range(2, 6))
def test_known_containers_are_real(protocol: int) -> None:
    value = OrderedDict(a=1, b=deque([1, 2]), c=defaultdict(list, x=[1]))
    found = read(pickle.dumps(value, protocol))
    assert found.value == OrderedDict(a=1, b=deque([1, 2]), c={"x": [1]})
    assert found.unknown in {("builtins.list",), ("__builtin__.list",)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_are_those_numpy_wrote(array: np.ndarray, protocol: int) -> None:
    found = as_array(read(pickle.dumps(array, protocol)).value)
    assert found is not None
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("scalar", [np.float64(2.5), np.int64(-3), np.bool_(1), np.float32(0.1)])
def test_numpy_scalars_are_numbers(scalar: np.generic) -> None:
    assert read(pickle.dumps(scalar)).value == scalar.item()


def test_numpy_1_names_are_known_too() -> None:
    old = pickle.dumps(np.arange(5.0), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(as_array(read(old).value), np.arange(5.0))


@pytest.mark.parametrize(
    "array",
    [np.array([{}, []], object), np.zeros(2, [("a", "i4")]), np.array(["2026-01-01"], "datetime64[D]")],
    ids=["objects", "records", "dates"],
)
def test_arrays_of_other_things_stay_closed(array: np.ndarray) -> None:
    assert as_array(read(pickle.dumps(array)).value) is None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_runs(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    data = pickle.dumps([Runs(marker), 7], protocol)
    found = read(data)
    assert not marker.exists()
    assert isinstance(found.value[0], Stub)
    assert found.value[1] == 7
    assert found.unknown in {("posix.mkdir",), ("nt.mkdir",)}
    pickle.loads(data)
    assert marker.exists()


def test_nothing_is_imported() -> None:
    assert "antigravity" not in sys.modules
    assert read(b"\x80\x02cantigravity\nfly\n)R.").unknown == ("antigravity.fly",)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "builtins getattr",
        "os system",
        "numpy._core.numeric _frombuffer.__globals__",
        "operator attrgetter",
    ],
)
def test_no_name_is_ever_more_than_a_name(name: str) -> None:
    module, attribute = name.split()
    data = b"\x80\x04" + _short(module) + _short(attribute) + b"\x93."
    value = read(data).value
    assert isinstance(value, Global)
    assert str(value) == f"{module}.{attribute}"


def test_a_stub_that_is_called_again_stays_a_stub() -> None:
    value = read(b"\x80\x02cbuiltins\ngetattr\n)R)R)R.").value
    assert isinstance(value, Stub)


def test_objects_keep_their_attributes_without_their_class() -> None:
    thing = Plain()
    thing.__dict__ |= {"pos": 3, "when": dt.date(2026, 1, 1), "sizes": {1, 2}, "frozen": frozenset("a")}
    found = read(pickle.dumps(thing))
    assert attributes(found.value)["pos"] == 3
    assert attributes(found.value)["sizes"] == {1, 2}
    assert attributes(found.value)["frozen"] == frozenset("a")
    assert "datetime.date" in found.unknown


def test_attributes_of_real_objects_cannot_be_set() -> None:
    assert "sets attributes of a list" in refused(b"\x80\x02]}X\x01\x00\x00\x00aK\x01sb.")


def test_every_opcode_is_answered_or_refused() -> None:
    """No opcode of the standard library's own table reaches its import or call machinery."""
    acting = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ"}
    acting |= {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"}
    names = {opcode.name for opcode in pickletools.opcodes}
    assert acting <= names
    for name in set(REFUSED) | {"BINPERSID"}:
        code = getattr(pickle, name)
        problem = refused(b"\x80\x04]" + code + b"\x01\x00\x00\x00\n\n.")
        assert "not read" in problem or "outside of it" in problem


@pytest.mark.parametrize("size", [2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("opcode", [b"B", b"X", b"T", b"\x8b"])
def test_lying_lengths_cost_nothing(opcode: bytes, size: int) -> None:
    tracemalloc.start()
    refused(b"\x80\x04" + opcode + struct.pack("<I", size) + b"abc.")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("size", [100, 2**40, 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("opcode", [b"\x8e", b"\x8d", b"\x96", b"\x95"])
def test_lying_long_lengths_cost_nothing(opcode: bytes, size: int) -> None:
    tracemalloc.start()
    refused(b"\x80\x05" + opcode + struct.pack("<Q", size) + b"abc.")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_huge_memo_indexes_cost_nothing() -> None:
    tracemalloc.start()
    assert read(b"\x80\x02]r\xff\xff\xff\xffj\xff\xff\xff\xff\x86.").value == ([], [])
    assert read(b"]p99999999999999\n.").value == []
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("start", "step"),
    [(b"\x80\x02N", b"\x85"), (b"\x80\x02cosy\nx\n", b")R"), (b"\x80\x02K\x01", b"K\x02\x86")],
    ids=["tuples", "calls", "pairs"],
)
def test_deep_nesting_is_read_and_let_go_without_recursion(start: bytes, step: bytes) -> None:
    read(start + step * 100_000 + b".")


def test_deep_lists_and_dicts_are_read_without_recursion() -> None:
    depth = 100_000
    read(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
    read(b"\x80\x02" + b"}K\x01" * depth + b"N" + b"s" * depth + b".")


def test_deep_marks_are_refused() -> None:
    assert "nested too deeply" in refused(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".")


def test_a_deep_tuple_as_key_is_refused_before_it_is_hashed() -> None:
    """Hashing it would overrun the C stack: the process would die."""
    assert "key" in refused(b"\x80\x02}N" + b"\x85" * 200_000 + b"K\x01s.")
    assert "key" in refused(b"\x80\x04\x8f(N" + b"\x85" * 200_000 + b"\x90.")
    assert "key" in refused(b"\x80\x04(N" + b"\x85" * 200_000 + b"\x91.")


def test_a_shared_tuple_as_key_does_not_take_for_ever() -> None:
    doubling = b"".join(b"q%ch%c\x86" % (index, index) for index in range(100))
    assert "key" in refused(b"\x80\x02}N" + doubling + b"K\x01s.")


@pytest.mark.parametrize("key", [b"]", b"}", b"\x8f"], ids=["list", "dict", "set"])
def test_keys_that_cannot_be(key: bytes) -> None:
    assert "key of type" in refused(b"\x80\x04}" + key + b"K\x01s.")


def test_cycles_are_read() -> None:
    value: list[Any] = []
    value.append(value)
    found = read(pickle.dumps(value)).value
    assert found[0] is found
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert read(pickle.dumps(loop)).value["self"]["self"]["self"] is not None


def test_shared_lists_stay_shared() -> None:
    value: list[Any] = ["lol"]
    for _ in range(100):
        value = [value, value]
    started = time.perf_counter()
    read(pickle.dumps(value))
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("maker", [b"ccollections\ndeque\n", b"ccollections\nOrderedDict\n"])
def test_containers_are_not_copied_again_and_again(maker: bytes) -> None:
    """1,000 calls with one list of 100,000 items: a copy each would take 800 MB."""
    data = b"\x80\x02(]q\x00(" + b"N" * 100_000 + b"e0" + (maker + b"h\x00\x85R0") * 1_000 + b"t."
    tracemalloc.start()
    read(data)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_encoding_one_text_again_and_again_is_refused() -> None:
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x000"
    call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    assert "more than its size" in refused(b"\x80\x02(" + text + call * 100 + b"t.")


def test_a_second_pickle_is_told() -> None:
    one = pickle.dumps({"a": 1})
    assert (
        refused(one + pickle.dumps("hidden"))
        == f"holds {len(pickle.dumps('hidden'))} bytes after the pickle's end"
    )


def test_too_many_names_are_refused() -> None:
    names = b"".join(b"cm\nn%d\n0" % index for index in range(1_100))
    assert "globals" in refused(b"\x80\x02" + names + b"N.")


@pytest.mark.parametrize("length", [0, 1, 2, 10, 50])
def test_a_cut_pickle_is_refused(length: int) -> None:
    data = pickle.dumps({"a": np.arange(100)})
    assert length < len(data)
    refused(data[:length])


@pytest.mark.parametrize(
    "data", [b".", b"\x80\x02.", b"\x80\x02(.", b"\x80\xff.", b"\xff\xff", b"h\x05.", b"\x80\x02)R."]
)
def test_what_is_no_pickle(data: bytes) -> None:
    refused(data)


def _short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def _dtype(
    code: str, state: bytes = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
) -> bytes:
    return b"cnumpy\ndtype\n(X" + struct.pack("<I", len(code)) + code.encode() + b"\x89\x88tR" + state


def _array(dtype: bytes, shape: bytes, data: bytes) -> bytes:
    call = b"cnumpy._core.numeric\n_frombuffer\n("
    return (
        b"\x80\x04"
        + call
        + b"B"
        + struct.pack("<I", len(data))
        + data
        + dtype
        + shape
        + b"X\x01\x00\x00\x00CtR."
    )


def test_the_hand_made_array_is_a_real_one() -> None:
    data = np.arange(4, dtype="<f4")
    value = as_array(read(_array(_dtype("f4"), b"K\x04\x85", data.tobytes())).value)
    np.testing.assert_array_equal(value, data)


@pytest.mark.parametrize(
    "shape",
    [
        b"K\x05\x85",
        b"K\x03\x85",
        b"J\xff\xff\xff\xff\x85",
        b"K\x02K\x03\x86",
        b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85",
        b"X\x01\x00\x00\x004\x85",
        b"N",
    ],
)
def test_shapes_that_do_not_fit_the_bytes(shape: bytes) -> None:
    refused(_array(_dtype("f4"), shape, bytes(16)))


def test_a_dtype_cannot_be_turned_into_pointers() -> None:
    """numpy itself would take 16 bytes of the file for two object pointers, and die."""
    objects = b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    value = read(_array(_dtype("O8", objects), b"K\x02\x85", b"\x41" * 16)).value
    assert as_array(value) is None


@pytest.mark.parametrize(
    "code", ["f9", "O", "V8", "i4,i4", "S0", "U0", "m8", "g", "f4" * 100, "(2,)f4", "S99999999999"]
)
def test_strange_dtypes_make_no_array(code: str) -> None:
    data = _array(_dtype(code), b"K\x02\x85", bytes(8))
    with contextlib.suppress(Malformed):
        assert as_array(read(data).value) is None


def test_empty_items_cannot_be_multiplied() -> None:
    refused(_array(_dtype("S0"), b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x3f\x85", b""))


def test_the_standard_unpickler_agrees_on_a_large_mix() -> None:
    rng = np.random.default_rng(0)
    value = {
        f"k{index}": [index, rng.normal(), str(index), (index, None), {"x": b"y" * index}]
        for index in range(1_000)
    }
    for protocol in PROTOCOLS:
        data = pickle.dumps(value, protocol)
        assert read(data).value == pickle.Unpickler(io.BytesIO(data)).load()


def test_large_arrays_are_seen_in_place() -> None:
    data = pickle.dumps(np.zeros(4 << 20, np.uint8), 5)
    tracemalloc.start()
    assert as_array(read(data).value).nbytes == 4 << 20
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_member_of_an_enumeration_is_a_name_within_a_name() -> None:
    # Python 3.11.0 to 3.11.3 write it so; a call of it stays inert too.
    content = b"cbuiltins\ngetattr\n(cenumerations\nColor\nX\x03\x00\x00\x00REDtR."
    found = unpickled(content, {})
    assert str(found.value) == "enumerations.Color.RED"
    assert found.unknown == ("enumerations.Color",)
    called = unpickled(
        b"cbuiltins\ngetattr\n(cos\npath\nX\x06\x00\x00\x00systemtR(X\x02\x00\x00\x00lstR.", {}
    )
    assert isinstance(called.value, Stub)
    assert called.unknown == ("os.path",)
