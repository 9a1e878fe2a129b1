"""What a pickle refers back to, by number: a dict of them would take 80 bytes for each byte of a file."""

from __future__ import annotations

from typing import Any, Final

from gradscope.read.file_bytes import Malformed

MAX_FAR: Final = 100_000
"""Numbers out of turn; picklers count from 0."""


class Memo:
    """Objects by number, as pickle's memo is; numbers that count up from 0 take 8 bytes each."""

    __slots__ = ("_far", "_near", "_num_holes")

    def __init__(self) -> None:
        self._near: list[Any] = []
        self._far: dict[int, Any] = {}
        self._num_holes = 0
        """One where numbers begin at 1, as those of Python 2's cPickle do."""

    def __len__(self) -> int:
        """How many there are: the number that MEMOIZE gives next."""
        return len(self._near) + len(self._far) - self._num_holes

    def __getitem__(self, number: int) -> Any:
        """The object of a number.

        Raises:
            KeyError: there is none.
        """
        if self._num_holes <= number < len(self._near):
            return self._near[number]
        return self._far[number]

    def __setitem__(self, number: int, value: object) -> None:
        """Give an object a number.

        Raises:
            Malformed: too many numbers are out of turn.
        """
        near = self._near
        if number == 1 and not near:
            near.append(None)
            self._num_holes = 1
        if number == len(near):
            near.append(value)
            self._far.pop(number, None)
        elif number == 0 and self._num_holes:
            near[0], self._num_holes = value, 0
        elif 0 <= number < len(near):
            near[number] = value
        elif len(self._far) < MAX_FAR:
            self._far[number] = value
        else:
            raise Malformed(f"numbers more than {MAX_FAR} objects out of turn")
