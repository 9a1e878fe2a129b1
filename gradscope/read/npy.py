"""numpy's own files: one array (npy), or a zip of them (npz). Nothing is unpickled.

Format: numpy.lib.format, versions 1 to 3.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from gradscope.read.deflated import Deflated, check_inflation
from gradscope.read.file_bytes import Malformed
from gradscope.read.numpy_pickle import checked_shape
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.zip_members import all_members

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.read.file_bytes import Section

MAGIC: Final = b"\x93NUMPY"
SUFFIX: Final = ".npy"
_PREFIX_BYTES: Final = {1: 10, 2: 12, 3: 12}
"""Magic, version and length of the header, by version."""
_MAX_HEADER: Final = 1 << 16
_MAX_FIELDS: Final = 1_000
_DTYPE: Final = re.compile(r"[<>|=](b1|[iu][1248]|f[248]|c8|c16)")
_TEXT: Final = re.compile(r"[<>|=][SU][0-9]{1,7}")
_PADDING: Final = re.compile(r"\|V[0-9]{1,7}")
_OBJECTS: Final = "Save numbers, without dtype=object: what such an array holds is a pickle."


class Source(Protocol):
    """Bytes of one npy file."""

    @property
    def size(self) -> int:
        """Bytes there are."""

    def read(self, start: int, size: int) -> bytes:
        """Exactly these bytes."""

    def view(self, start: int, size: int) -> bytes | memoryview:
        """The same bytes, in place where that saves memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Npy:
    """One array that lies in a file; its bytes are read when they are asked for."""

    source: Source
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool
    problem: str | None = None
    """Why its elements are not read."""

    @property
    def is_numbers(self) -> bool:
        """Whether its elements are numbers: no text, no records."""
        return self.problem is None and self.dtype.kind in "biufc"

    def array(self) -> NDArray[Any]:
        """The elements, ``shape``; of a large file that is not compressed, mapped.

        Raises:
            Malformed: the file changed, the member is damaged, or its elements are Python objects.
            OSError: the file cannot be opened any more.
        """
        if self.problem is not None:
            raise Malformed(self.problem, _OBJECTS)
        size = math.prod(self.shape) * self.dtype.itemsize
        if not size:
            return np.empty(self.shape, self.dtype)
        flat = np.frombuffer(self.source.view(self.start, size), self.dtype)
        flat.flags.writeable = False
        return flat.reshape(self.shape, order="F" if self.is_fortran else "C")


def npy(source: Source) -> Npy:
    """One npy file, its array unread.

    Raises:
        Malformed: another format, or an array of another size than its bytes.
    """
    head = source.read(0, 8) if source.size > 8 else b""  # noqa: PLR2004 - magic and version
    prefix = _PREFIX_BYTES.get(head[6]) if head.startswith(MAGIC) else None
    if prefix is None:
        raise Malformed("has an array of an unknown version of npy")
    length = int.from_bytes(source.read(8, prefix - 8), "little")
    if length > _MAX_HEADER:
        raise Malformed(f"has an array with a header of {length} bytes")
    header = _header(source.read(prefix, length))
    shape, is_fortran = checked_shape(header.get("shape")), header.get("fortran_order") is True
    found = Npy(source=source, start=prefix + length, dtype=np.dtype("V"), shape=shape, is_fortran=is_fortran)
    try:
        dtype = _dtype(header.get("descr"))
    except Malformed as error:
        return replace(found, problem=error.problem)
    size = math.prod(shape) * dtype.itemsize
    if found.start + size != source.size:
        raise Malformed(f"has an array of shape {shape} in {source.size - found.start} bytes")
    return replace(found, dtype=dtype)


def npz(file: Section) -> Mapping[str, Source]:
    """The npy files of an npz by name, without their suffix; compressed ones are inflated when they are read.

    Raises:
        Malformed: a damaged zip, or one that would take more memory than its size justifies.
    """
    found = {name: each for name, each in all_members(file).items() if name.endswith(SUFFIX)}
    check_inflation((each for each in found.values() if not each.is_stored), file.size)
    return {
        name.removesuffix(SUFFIX): each.section() if each.is_stored else Deflated(member=each)
        for name, each in found.items()
    }


def _header(text: bytes) -> Mapping[str, object]:
    try:
        header = ast.literal_eval(text.decode("latin1"))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise Malformed("has an array with a damaged header") from error
    if not is_text_keyed(header):
        raise Malformed("has an array with a damaged header")
    return header


def _dtype(code: object) -> np.dtype[Any]:
    """numpy's, of a plain code or a list of (name, code, shape)."""
    if isinstance(code, str) and (_DTYPE.fullmatch(code) or _TEXT.fullmatch(code)):
        return np.dtype(code)
    if isinstance(code, list) and 0 < len(code) <= _MAX_FIELDS:
        return _record(code)
    if isinstance(code, str) and code.endswith("O"):
        raise Malformed("has an array of Python objects, not of plain numbers", _OBJECTS)
    raise Malformed(f"has an array of {str(code)[:40]!r}, not of plain numbers")


def _record(fields: list[object]) -> np.dtype[Any]:
    names: list[str] = []
    formats: list[np.dtype[Any]] = []
    offsets: list[int] = []
    offset = 0
    for each in fields:
        if not isinstance(each, tuple) or not 2 <= len(each) <= 3:  # noqa: PLR2004 - name, code, shape
            raise Malformed("has an array with a damaged header")
        name, code, *shape = each
        if name == "" and isinstance(code, str) and _PADDING.fullmatch(code):
            offset += int(code[2:])
            continue
        if not isinstance(name, str) or name in names or not isinstance(code, str):
            raise Malformed(f"has records with a field {str(name)[:40]!r} that is no plain one", _OBJECTS)
        size = checked_shape(shape[0]) if shape else ()
        one = _dtype(code)
        if math.prod(size) * one.itemsize > 1 << 30:
            raise Malformed(f"has records of a field of shape {size}")
        names.append(name)
        formats.append(np.dtype((one, size)))
        offsets.append(offset)
        offset += formats[-1].itemsize
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": offset})
