"""What a pickle may cost: one that refers to the same bytes again and again could cost without end."""

from __future__ import annotations

import math
from typing import Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.pickle_stubs import Buildable
from gradscope.read.stored_tensor import ITEM_BYTES, StoredTensor

SPARE_BYTES: Final = 1 << 20
SPARE_TENSOR_BYTES: Final = 1 << 30
"""A sparse tensor is larger than its file; each is made when it is asked for, not before."""
MAX_SHARED: Final = 64
"""Times that all storages may be named as tensors, each of which may be read; honest ones have few names."""
MAX_KEY_ITEMS: Final = 100
"""A tuple used as a key is hashed whole; nested or shared ones could take for ever."""
MAX_TUPLE_KEYS: Final = 10_000
"""Tuples of numbers can be chosen to have one hash: every pair of them would be compared."""
MAX_KEY: Final = 1 << 60
"""Whole numbers below it have hashes of their own. Larger ones can be chosen to have one hash, and a huge
one is gone through whole each time."""
_PLAIN_KEYS: Final = (str, float, bytes, type(None))


class Bounds:
    """Counts down while one pickle of ``size`` bytes is read, whose tensors lie in ``room`` bytes beside."""

    def __init__(self, size: int, room: int) -> None:
        self._bytes = 4 * size + SPARE_BYTES
        self._tensor_bytes = MAX_SHARED * room + SPARE_TENSOR_BYTES
        self._tuple_keys = MAX_TUPLE_KEYS

    def counted(self, value: object) -> object:
        """The value, its bytes counted: arrays and texts of an honest file have bytes of their own.

        Raises:
            Malformed: all together are more than the file has bytes for.
        """
        if isinstance(value, (str, bytes)):
            self._bytes -= len(value)
        elif isinstance(value, Buildable):
            self._bytes -= value.num_bytes
        elif isinstance(value, StoredTensor) and value.is_bounded:
            self._tensor_bytes -= math.prod(value.shape) * ITEM_BYTES.get(value.dtype, 1)
        if min(self._bytes, self._tensor_bytes) < 0:
            raise Malformed("holds more than its size can justify")
        return value

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
    is_identity = type(key).__hash__ is object.__hash__
    if not is_identity and not isinstance(key, (int, *_PLAIN_KEYS)):
        raise Malformed(f"has a key of type {type(key).__name__}")
