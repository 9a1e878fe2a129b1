"""Whether text is a table: a line of column names, then lines of numbers."""

from __future__ import annotations

import csv
import re
from typing import Final

from gradscope.read.file_bytes import HEAD_BYTES

DELIMITERS: Final = (",", ";", "\t")
_BINARY: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NAME: Final = re.compile(r"[\w .:/()\[\]#-]{0,200}")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|[+-]?inf", re.IGNORECASE)
_MARK: Final = "\ufeff"
"""Excel writes it before its UTF-8."""


def is_table(head: bytes) -> bool:
    """By the first bytes: names in the first line, at least one number in the second."""
    lines = decoded(head).split("\n")
    names = header(lines[0])
    if len(names) < 2 or _BINARY.search(lines[0]):  # noqa: PLR2004
        return False
    if not all(_NAME.fullmatch(name) for name in names) or any(map(_NUMBER.fullmatch, names)):
        return False
    if len(lines) == 1:
        # A line of names that is longer than what is looked at.
        return len(head) == HEAD_BYTES
    try:
        values = next(csv.reader([lines[1].rstrip("\r")], delimiter=delimiter(lines[0])), [])
    except csv.Error:
        return False
    is_cut = len(lines) == 2  # noqa: PLR2004
    fits = len(values) <= len(names) if is_cut else len(values) == len(names)
    return fits and any(_NUMBER.fullmatch(each.strip()) for each in values)


def header(line: str) -> list[str]:
    """Names in the first line; quoted or not."""
    try:
        return [name.strip() for name in next(csv.reader([line.rstrip("\r")], delimiter=delimiter(line)), [])]
    except csv.Error:
        return []


def delimiter(line: str) -> str:
    """What stands between names: the most frequent of , ; and tab."""
    return max(DELIMITERS, key=line.count)


def decoded(content: bytes) -> str:
    """As UTF-8, without the mark of its byte order; a character may be cut."""
    return content.decode("utf-8", "replace").removeprefix(_MARK)
