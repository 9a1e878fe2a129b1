"""Headers of npy files: numpy's own, and what Python reads beyond them."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest

from gradscope.read.file_bytes import Malformed
from gradscope.read.npy_header import npy_header


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f4", "|S3", [("a", "<f4"), ("b c", "<i2", (2,))]])
def test_numpys_own(version: tuple[int, int], dtype: object) -> None:
    written = io.BytesIO()
    np.lib.format.write_array(written, np.zeros((2, 3), np.dtype(dtype)), version=version)  # type: ignore[call-overload]
    start = 10 if version == (1, 0) else 12
    length = int.from_bytes(written.getvalue()[8:start], "little")
    header = npy_header(written.getvalue()[start : start + length])
    assert header == {"descr": dtype, "fortran_order": False, "shape": (2, 3)}


@pytest.mark.parametrize(
    "text",
    [
        "{'a': '\\d'}",
        "{'a': 1if}",
        "{'a': 0x1}",
        "{'a': b'x'}",
        "{'a': 1_0}",
        "[1]",
        "(" * 9000,
        "{'a': 'b",
    ],
)
def test_anything_else_is_refused_without_a_warning(text: str) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(Malformed, match="damaged header"):
            npy_header(text.encode())
    assert not told
