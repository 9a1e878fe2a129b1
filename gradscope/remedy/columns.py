"""What a user wrote for columns becomes column numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import index
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

from gradscope.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Columns: TypeAlias = str | int | range | slice | Sequence[int]
    """Columns of one bar: "73:80", "73:80, 90", "80%:" (the last fifth), 5, range, slice, numbers."""

REST: Final = "market"
"""The slice of all columns that nobody named."""
SECOND_REST: Final = "other"
"""Its name where the user has given the first one to other columns."""
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_RANGE: Final = re.compile(r"(?:([0-9]{1,18})(%?))?:(?:([0-9]{1,18})(%?))?")


def column_numbers(columns: Columns, num_columns: int) -> tuple[int, ...]:
    """Rising numbers of the columns of one bar, each once.

    A percentage is rounded down to a whole column: "80%:" of 7 columns is "5:".

    Raises:
        UsageError: the columns are none, no numbers, or not within ``0:num_columns``.
    """
    if isinstance(columns, str):
        numbers = {column for part in columns.split(",") for column in _written(part, columns, num_columns)}
    elif isinstance(columns, slice):
        numbers = set(range(*columns.indices(num_columns)))
    else:
        numbers = set(_counted(columns))
    if not numbers:
        raise UsageError(f"columns {columns!r}: no column at all. The end is exclusive: 5:6 is column 5.")
    if min(numbers) < 0 or max(numbers) >= num_columns:
        raise UsageError(f"columns {columns!r}: outside 0:{num_columns}. Name columns of one bar.")
    return tuple(sorted(numbers))


def slice_columns(slices: Mapping[str, Columns], num_columns: int) -> Mapping[str, tuple[int, ...]]:
    """Columns by slice; those in none make up ``market``, or ``other`` where ``market`` is taken.

    Raises:
        UsageError: columns are wrong, or belong to two slices.
    """
    found = {name: column_numbers(columns, num_columns) for name, columns in slices.items()}
    owners: dict[int, str] = {}
    for name, numbers in found.items():
        for column in numbers:
            if column in owners:
                message = (
                    f"column {column} is in slices {owners[column]!r} and {name!r}. Leave it in one of them."
                )
                raise UsageError(message)
            owners[column] = name
    rest = tuple(column for column in range(num_columns) if column not in owners)
    name = SECOND_REST if REST in found else REST
    if rest and name in found:
        raise UsageError(f"columns {rest[0]}...: in no slice, and the name {name!r} is taken. Name them.")
    return found | ({name: rest} if rest else {})


def repeated_columns(columns: Columns, width: int, sequence_length: int | None) -> tuple[int, ...]:
    """Columns of every bar in an input of ``width`` columns: bars outer, features inner.

    Raises:
        UsageError: columns are wrong, or the bars do not divide the width.
    """
    bars = checked_sequence_length(sequence_length) or 1
    if width % bars:
        raise UsageError(f"sequence_length={bars}: does not divide the {width} inputs. Correct it.")
    size = width // bars
    numbers = column_numbers(columns, size)
    return tuple(bar * size + column for bar in range(bars) for column in numbers)


def checked_sequence_length(sequence_length: int | None) -> int | None:
    """The same number.

    Raises:
        UsageError: it is below 1.
    """
    if sequence_length is not None and sequence_length < 1:
        raise UsageError(f"sequence_length={sequence_length}: at least 1 bar. Leave it out for one bar.")
    return sequence_length


def by_bar(observations: torch.Tensor, num_features: int, sequence_length: int | None) -> torch.Tensor:
    """Observations with one bar's features in the last axis: [..., features] or [..., bars, features].

    Raises:
        UsageError: the last axis is not as wide as it was said to be.
    """
    bars = sequence_length or 1
    if observations.shape[-1] != num_features * bars:
        message = (
            f"observations {list(observations.shape)}: the last axis is not {bars} x {num_features}. "
            "Correct num_features, or sequence_length."
        )
        raise UsageError(message)
    if sequence_length is None:
        return observations
    return observations.reshape(*observations.shape[:-1], bars, num_features)


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """The type to compute in: float32, or float64 where that came in."""
    return torch.promote_types(dtype, torch.float32)


def _counted(columns: int | range | Sequence[int]) -> Sequence[int]:
    given = list(columns) if isinstance(columns, Iterable) else [columns]
    # A mask of booleans would pass for columns 0 and 1.
    if not all(hasattr(each, "__index__") and "bool" not in type(each).__name__ for each in given):
        raise UsageError(f"columns {columns!r}: not numbers. Try 73:80, or their numbers.")
    return [index(each) for each in given]


def _written(part: str, columns: str, num_columns: int) -> range:
    text = part.strip()
    if _NUMBER.fullmatch(text):
        return range(int(text), int(text) + 1)
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UsageError(f"columns {columns!r}: {text!r} is no range. Try 73:80, or 80%: for the last fifth.")
    start, start_percent, stop, stop_percent = match.groups()
    first = 0 if start is None else _place(start, start_percent, num_columns)
    return range(first, num_columns if stop is None else _place(stop, stop_percent, num_columns))


def _place(number: str, percent: str | None, num_columns: int) -> int:
    return int(number) * num_columns // 100 if percent else int(number)
