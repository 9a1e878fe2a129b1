"""Small files that ask for much: what they refer to again and again is not counted, read or copied again."""

from __future__ import annotations

import pickle
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import NUMPY_TABLE
from gradscope.read.pickle_stubs import class_name
from gradscope.read.safe_pickle import unpickled

if TYPE_CHECKING:
    from collections.abc import Iterator

SCALAR = b"cnumpy.core.multiarray\nscalar\nq\x00(cnumpy\ndtype\n"


@pytest.fixture
def cheap() -> Iterator[None]:
    """Fails where a test took seconds, or more memory than its small inputs justify."""
    tracemalloc.start()
    started = time.perf_counter()
    yield
    seconds, memory = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 5
    assert memory < 200 << 20


pytestmark = pytest.mark.usefixtures("cheap")


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def refused(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        unpickled(data, NUMPY_TABLE)
    return caught.value.problem


@pytest.mark.parametrize("code", ["S1000000", "U250000"])
def test_a_scalar_of_text_is_not_copied_without_end(code: str) -> None:
    start = b"\x80\x04(cnumpy\ndtype\n" + text(code) + b"\x85Rq\x01B" + struct.pack("<I", 10**6)
    start += b"x" * 10**6 if code[0] == "S" else b"x\0\0\0" * 250_000
    call = b"cnumpy.core.multiarray\nscalar\nh\x01h\x02\x86R"
    assert "more than its size" in refused(start + b"q\x02" + call * 10_000 + b"t.")


def test_arrays_over_the_same_bytes_are_counted_each() -> None:
    start = (
        b"\x80\x04(cnumpy\ndtype\nX\x02\0\0\0u1\x85Rq\x01B"
        + struct.pack("<I", 10**6)
        + bytes(10**6)
        + b"q\x02"
    )
    call = b"cnumpy._core.numeric\n_frombuffer\n(h\x02h\x01J@B\x0f\0\x85X\x01\0\0\0CtR"
    assert "more than its size" in refused(start + call * 10_000 + b"t.")


def test_honest_arrays_are_not_too_many() -> None:
    arrays = [np.full(1000, each) for each in range(100)] + [np.float64(each) for each in range(100)]
    for protocol in range(6):
        unpickled(pickle.dumps(arrays, protocol), NUMPY_TABLE)


@pytest.mark.parametrize(
    "key", [b"\x8b" + struct.pack("<I", 10**6) + b"\x01" * 10**6, b"\x8a\x09" + b"\xff" * 8 + b"\0"]
)
def test_a_huge_number_is_no_key(key: bytes) -> None:
    assert "huge number" in refused(b"\x80\x04}(" + (key + b"q\x01N") + b"h\x01N" * 40_000 + b"u.")


def test_keys_that_are_tuples_are_few() -> None:
    pairs = b"".join(b"K\x01J" + struct.pack("<i", each) + b"\x86N" for each in range(11_000))
    assert "keys that are tuples" in refused(b"\x80\x04}(" + pairs + b"u.")


def test_a_complex_number_is_no_key() -> None:
    """a + 1000003 b is one hash for many of them."""
    with pytest.raises(Malformed, match="key of type complex"):
        unpickled(pickle.dumps({np.complex128(1 + 2j): 1}), NUMPY_TABLE)


def test_the_name_of_a_stub_of_a_stub_without_end() -> None:
    value = unpickled(b"\x80\x04(cosy\nx\n" + b")R" * 20_000 + b"q\x01" + b"h\x01" * 20_000 + b"t.", {}).value
    assert isinstance(value, tuple)
    assert {class_name(each) for each in value} == {None}


@pytest.mark.parametrize("module", ["a\nb", "a\x1b[31m", "a\u202eb"])
def test_a_name_is_one_line_that_can_be_shown(module: str) -> None:
    found = unpickled(b"\x80\x04" + text(module) + text("x") + b"\x93.", {})
    assert all(name.isprintable() for name in found.unknown)


def test_a_byte_that_numbers_an_object_takes_no_more_than_a_pointer() -> None:
    size = 200_000
    unpickled(b"\x80\x04]" + b"\x94" * size + b".", NUMPY_TABLE)
    assert tracemalloc.get_traced_memory()[1] < 20 * size


def test_numbers_out_of_turn_are_few() -> None:
    out_of_turn = b"".join(b"r" + struct.pack("<I", 10**6 + number) for number in range(100_001))
    assert "out of turn" in refused(b"\x80\x02]" + out_of_turn + b".")


def test_numbers_that_begin_at_1_as_python_2_wrote_them() -> None:
    count = 150_000
    puts = b"".join(b"Nr" + struct.pack("<I", number) + b"0" for number in range(1, count))
    data = (
        b"\x80\x02("
        + puts
        + b"K\x07r"
        + struct.pack("<I", count)
        + b"h\x01j"
        + struct.pack("<I", count)
        + b"t."
    )
    assert unpickled(data, NUMPY_TABLE).value == (7, None, 7)
    with pytest.raises(Malformed):
        unpickled(b"\x80\x02K\x05q\x01h\x00\x86.", NUMPY_TABLE)
    # Out of turn, then in turn: MEMOIZE counts every number once.
    mixed = b"\x80\x04(K\x02q\x02K\x00q\x00K\x01q\x01K\x03q\x02K\x09\x94h\x02h\x03t."
    assert unpickled(mixed, NUMPY_TABLE).value == pickle.loads(mixed)


def test_objects_come_back_by_any_number() -> None:
    # Numbers from the end, over each other, and MEMOIZE after them.
    data = b"\x80\x04(K\x05q\x05K\x00q\x00K\x01q\x01K\x02q\x00K\x09\x94h\x05h\x00h\x01h\x03t."
    assert unpickled(data, NUMPY_TABLE).value == (5, 0, 1, 2, 9, 5, 2, 1, 9) == pickle.loads(data)
