"""What a pickle may cost: one that refers to the same bytes again and again could cost without end."""

from __future__ import annotations

from typing import Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_stubs import Buildable, Global, Stub

SPARE_BYTES: Final = 1 << 20
MAX_KEY_ITEMS: Final = 100
"""A tuple used as a key is hashed whole; nested or shared ones could take for ever."""
MAX_TUPLE_KEYS: Final = 10_000
"""Tuples of numbers can be chosen to have one hash: every pair of them would be compared."""
MAX_KEY: Final = 1 << 60
"""Whole numbers below it have hashes of their own. Larger ones can be chosen to have one hash, and a huge
one is gone through whole each time."""
_PLAIN_KEYS: Final = (str, float, bytes, type(None), Global, Stub)


class Bounds:
    """Counts down while one pickle of ``size`` bytes is read."""

    def __init__(self, size: int) -> None:
        self._bytes = 4 * size + SPARE_BYTES
        self._tuple_keys = MAX_TUPLE_KEYS

    def counted(self, value: object) -> object:
        """The value, its bytes counted: every array and text of an honest file has bytes of its own.

        Raises:
            Malformed: all together are more than the file has bytes for.
        """
        if isinstance(value, (str, bytes)):
            self.count(len(value))
        elif isinstance(value, Buildable):
            self.count(value.num_bytes)
        return value

    def count(self, num_bytes: int) -> None:
        """Count bytes that something refers to.

        Raises:
            Malformed: all together are more than the file has bytes for.
        """
        self._bytes -= num_bytes
        if self._bytes < 0:
            raise Malformed("holds more than its size can justify")

    def key(self, key: object) -> object:
        """A key that can be hashed quickly and without depth.

        Raises:
            Malformed: a nested or endless tuple, too many tuples, or something that cannot be a key.
        """
        if not isinstance(key, tuple):
            _check_plain(key)
            return key
        self._tuple_keys -= 1
        if self._tuple_keys < 0:
            raise Malformed(f"has more than {MAX_TUPLE_KEYS} keys that are tuples")
        if len(key) > MAX_KEY_ITEMS or any(isinstance(item, tuple) for item in key):
            raise Malformed("has a key nested too deeply")
        for item in key:
            _check_plain(item)
        return key


def _check_plain(key: object) -> None:
    if isinstance(key, int) and not -MAX_KEY < key < MAX_KEY:
        raise Malformed("has a key that is a huge number")
    if not isinstance(key, (int, *_PLAIN_KEYS)):
        raise Malformed(f"has a key of type {type(key).__name__}")
