"""In the child: rows into the temporary file, and where each array of them lies."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.native_format import TOO_MUCH, ending
from gradscope.read.stored_tensor import ITEM_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES: Final = 16 << 20
"""Rows pass through memory in blocks of about this size."""
_ALIGNMENT: Final = 64
_STANDARD_OUTPUT: Final = 1


@dataclass(kw_only=True)
class _Written:
    entries: list[dict[str, object]] = field(default_factory=list)
    end: int = 0


class Output:
    """The temporary file, at most ``max_bytes`` of rows."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._written = _Written()

    @property
    def entries(self) -> list[dict[str, object]]:
        """Name, key, dtype, shape, offset and strides (bytes) of each array."""
        return self._written.entries

    def check(self, num_bytes: int) -> None:
        """Refuse rows before any of them is read.

        Raises:
            Malformed: they would be more than the file justifies.
        """
        if self._written.end + num_bytes > self.max_bytes:
            raise Malformed(
                f"says it holds {(self._written.end + num_bytes) >> 20} MiB of rows, "
                f"more than its size justifies ({self.max_bytes >> 20} MiB)",
                TOO_MUCH,
            )

    def reserve(self, num_bytes: int) -> int:
        """Where so many bytes may be written.

        Raises:
            Malformed: they are more than the file justifies.
        """
        self.check(num_bytes)
        start = -(-self._written.end // _ALIGNMENT) * _ALIGNMENT
        self._written.end = start + num_bytes
        return start

    def write(self, offset: int, rows: NDArray[Any]) -> None:
        """The rows' bytes, in C order, from ``offset``."""
        left = memoryview(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
        os.lseek(_STANDARD_OUTPUT, offset, os.SEEK_SET)
        while left:
            left = left[os.write(_STANDARD_OUTPUT, left) :]

    def extend(self, rows: NDArray[Any]) -> None:
        """More rows directly behind what was written last."""
        offset = self._written.end
        self.check(rows.nbytes)
        self._written.end += rows.nbytes
        self.write(offset, rows)

    def entry(
        self, name: tuple[str, str], dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, *strides: int
    ) -> None:
        """Say where an array lies; ``strides`` in bytes, of its first dimensions where they are unusual."""
        row = shape[len(strides) :]
        usual = [dtype.itemsize * math.prod(row[place + 1 :]) for place in range(len(row))]
        self._written.entries.append(
            {
                "name": name[0],
                "key": name[1],
                "dtype": dtype.name,
                "shape": list(shape),
                "offset": offset,
                "strides": [*strides, *usual],
            }
        )

    def finish(self, answer: dict[str, object]) -> None:
        """The answer, behind all rows."""
        os.lseek(_STANDARD_OUTPUT, self._written.end, os.SEEK_SET)
        left = ending(answer)
        while left:
            left = left[os.write(_STANDARD_OUTPUT, left) :]


def plain(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype in this machine's byte order; None for what is no plain number."""
    native = dtype.newbyteorder("=")
    return native if native.name in ITEM_BYTES and native.kind in "buif" else None
