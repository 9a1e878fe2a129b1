"""What a pickle refers back to, by number: a dict of them would take 80 bytes for each byte of a file."""

from __future__ import annotations

from typing import Any, Final

from gradscope.read.file_bytes import Malformed

MAX_FAR: Final = 100_000
"""Numbers out of turn; picklers count from 0."""


class Memo:
    """Objects by number, as pickle's memo is; numbers that count up from 0 take 8 bytes each."""

    __slots__ = ("_far", "_near")

    def __init__(self) -> None:
        self._near: list[Any] = []
        self._far: dict[int, Any] = {}

    def __len__(self) -> int:
        """How many there are: the number that MEMOIZE gives next."""
        return len(self._near) + len(self._far)

    def __getitem__(self, number: int) -> Any:
        """The object of a number.

        Raises:
            KeyError: there is none.
        """
        return self._near[number] if 0 <= number < len(self._near) else self._far[number]

    def __setitem__(self, number: int, value: object) -> None:
        """Give an object a number.

        Raises:
            Malformed: too many numbers are out of turn.
        """
        near = self._near
        if number == len(near):
            near.append(value)
        elif 0 <= number < len(near):
            near[number] = value
        elif len(self._far) < MAX_FAR:
            self._far[number] = value
        else:
            raise Malformed(f"numbers more than {MAX_FAR} objects out of turn")
