"""The header of an npy file: a Python literal, of which numpy writes only the plainest kind."""

from __future__ import annotations

import ast
import re
from typing import Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_stubs import is_text_keyed

_PLAIN: Final = re.compile(
    rb"""(?:\s|[{}()\[\],:]|'[^'\\\n]*'|"[^"\\\n]*"|(?:True|False|None|-?[0-9]+)(?![\w'"]))*"""
)
"""What else Python would read as a literal, it may warn of on the user's screen."""


def npy_header(text: bytes) -> dict[str, object]:
    """The header's entries.

    Raises:
        Malformed: it is no plain literal, or no table of texts.
    """
    try:
        header = ast.literal_eval(text.decode("latin1")) if _PLAIN.fullmatch(text) else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise Malformed("has an array with a damaged header") from error
    if not is_text_keyed(header):
        raise Malformed("has an array with a damaged header")
    return header
