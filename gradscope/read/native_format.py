"""The temporary file between us and the child that reads: rows, a JSON answer, the answer's length."""

from __future__ import annotations

import json
import os
from typing import IO, TYPE_CHECKING, Final

from gradscope.read.pickle_stubs import is_text_keyed

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ANSWER: Final = 4 << 20
"""Bytes of the JSON answer: names and shapes, no rows."""
MAX_ENTRIES: Final = 10_000
TOO_MUCH: Final = "Bring a part of it, or unpack it to .npz with the library that wrote it."
END: Final = b"gradscop"
_LENGTH_BYTES: Final = 8


def ending(answer: Mapping[str, object]) -> bytes:
    """What comes after the rows; too long an answer is left out, so that the reader sees none."""
    text = json.dumps(answer).encode()
    return text + len(text).to_bytes(_LENGTH_BYTES, "little") + END if len(text) <= MAX_ANSWER else b""


def answer_of(output: IO[bytes]) -> Mapping[str, object] | None:
    """The answer; None where the child did not come to its end."""
    size = output.seek(0, os.SEEK_END)
    tail = _LENGTH_BYTES + len(END)
    if size < tail:
        return None
    output.seek(size - tail)
    length, end = int.from_bytes(output.read(_LENGTH_BYTES), "little"), output.read()
    if end != END or length > min(MAX_ANSWER, size - tail):
        return None
    output.seek(size - tail - length)
    try:
        found = json.loads(output.read(length))
    except (ValueError, RecursionError):
        return None
    return found if is_text_keyed(found) else None
