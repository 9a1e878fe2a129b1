"""What a user wrote for a slice becomes its columns."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import combinations
from typing import TYPE_CHECKING, Final, TypeAlias

from gradscope.errors import UsageError
from gradscope.measure.slices import ranges
from gradscope.records import Slice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Shape: TypeAlias = tuple[int, ...]

MARKET: Final = "market"
"""The slice that all other columns make up where nobody named it."""
_RANGE: Final = re.compile(r"(\d{1,18})?:(\d{1,18})?")
_NUMBER: Final = re.compile(r"\d{1,18}")
_NUM_BAR_DIMENSIONS: Final = 2


@dataclass(frozen=True, kw_only=True)
class _Space:
    """One entry of the observation space, measured in columns."""

    key: str
    num_columns: int
    """Of one bar."""
    num_bars: int
    names: tuple[str, ...] | None

    @property
    def num_flat(self) -> int:
        return self.num_columns * self.num_bars


def resolve_slices(
    selectors: Mapping[str, tuple[str, ...]],
    *,
    shapes: Mapping[str, Shape],
    feature_names: Sequence[str] | None = None,
    sequence_length: int | None = None,
) -> tuple[Slice, ...]:
    """Columns of every slice, in the order given; ``market``, where not given, is all other columns.

    Selectors: ``"146:153"`` and ``"5"`` are columns of one bar (either end may be left out), a name or
    glob ``"position_*"`` takes them by name, ``"flat:1500:1510"`` are columns of the flat observation,
    ``"key:image"`` is one entry of a Dict space. Several selectors of one slice add up. Slices may
    overlap; ``overlap_notes`` says so. No ``market`` is added where no column, or more than one entry
    of a Dict space, is left over.

    Args:
        selectors: slice name to selectors.
        shapes: observation shape by key ("" for a plain space), without the row axis.
        feature_names: names of one bar's columns.
        sequence_length: bars of a flat observation, oldest first.

    Raises:
        UsageError: a selector fits nothing, or contradicts the observation; one line says which.
    """
    spaces = {key: _space(key, shape, feature_names, sequence_length) for key, shape in shapes.items()}
    slices = tuple(_slice(name, given, spaces) for name, given in selectors.items())
    rest = () if MARKET in selectors else _rest(slices, spaces)
    return (*rest, *slices)


def overlap_notes(slices: Sequence[Slice]) -> tuple[str, ...]:
    """One line for each pair of slices that share columns of the same kind."""
    notes = []
    for one, other in combinations(slices, 2):
        shared = set(one.columns) & set(other.columns)
        if shared and (one.key, one.flat) == (other.key, other.flat):
            where = ", ".join(ranges(sorted(shared)))
            notes.append(f"slices {one.name!r} and {other.name!r} share columns {where}")
    return tuple(notes)


def _space(key: str, shape: Shape, names: Sequence[str] | None, sequence_length: int | None) -> _Space:
    size = math.prod(shape)
    bars = shape[0] if len(shape) == _NUM_BAR_DIMENSIONS else 1
    if len(shape) == _NUM_BAR_DIMENSIONS and key == "" and sequence_length not in {None, bars}:
        message = (
            f"sequence_length {sequence_length}: the observation {list(shape)} has {bars} bars. Leave it out."
        )
        raise UsageError(message)
    if len(shape) == 1 and key == "" and sequence_length:
        bars = sequence_length
        if size % bars:
            message = f"sequence_length {bars}: does not divide the observation's {size} columns. Correct it."
            raise UsageError(message)
    width = size // bars if bars else 0
    fitting = tuple(names) if names is not None and key == "" else None
    if fitting is not None and len(fitting) != width:
        message = (
            f"features: {len(fitting)} names for the {width} columns of one bar. "
            "Name every column of one bar, or set sequence_length."
        )
        raise UsageError(message)
    return _Space(key=key, num_columns=width, num_bars=bars, names=fitting)


def _slice(name: str, given: Sequence[str], spaces: Mapping[str, _Space]) -> Slice:
    if not given:
        raise UsageError(f"slice {name!r}: no columns given. Try --slice {name}=0:10.")
    if not all(isinstance(selector, str) for selector in given):
        raise UsageError(f"slice {name!r}: {given!r} are no texts. Write columns as '0:10' or '4, 5'.")
    parts = [_part(name, selector.strip(), spaces) for selector in given]
    kinds = {(key, flat) for key, flat, _ in parts}
    if len(kinds) > 1:
        message = f"slice {name!r}: {', '.join(given)!r} mixes bars, flat columns, keys. Make it two slices."
        raise UsageError(message)
    ((key, flat),) = kinds
    columns = tuple(sorted({column for _, _, columns in parts for column in columns}))
    return Slice(name=name, columns=columns, selector=", ".join(given), key=key, flat=flat)


def _part(name: str, selector: str, spaces: Mapping[str, _Space]) -> tuple[str, bool, Sequence[int]]:
    """Key, whether flat, and columns of one selector."""
    if selector.startswith("key:"):
        space = _entry(name, selector, selector.removeprefix("key:"), spaces)
        return space.key, False, range(space.num_columns)
    space = _plain(name, selector, spaces)
    if selector.startswith("flat:"):
        columns = _numbers(name, selector, selector.removeprefix("flat:"), space.num_flat, "the observation")
        return space.key, True, columns
    if _NUMBER.fullmatch(selector) or _RANGE.fullmatch(selector):
        return space.key, False, _numbers(name, selector, selector, space.num_columns, "one bar")
    return space.key, False, _named(name, selector, space)


def _entry(name: str, selector: str, key: str, spaces: Mapping[str, _Space]) -> _Space:
    if key not in spaces or not spaces[key].num_columns:
        known = ", ".join(repr(each) for each in spaces if each)
        advice = f"Its keys: {known}." if known else "Only a Dict space has keys."
        raise UsageError(f"slice {name!r}: {selector!r} is no entry of the observation. {advice}")
    return spaces[key]


def _plain(name: str, selector: str, spaces: Mapping[str, _Space]) -> _Space:
    if len(spaces) == 1:
        return next(iter(spaces.values()))
    keys = ", ".join(f"key:{each}" for each in spaces)
    raise UsageError(f"slice {name!r}: {selector!r} in a Dict observation is ambiguous. Try {keys}.")


def _numbers(name: str, selector: str, text: str, width: int, of_what: str) -> range:
    match = _RANGE.fullmatch(text)
    if match:
        start, stop = int(match[1] or 0), int(match[2] or width)
    elif _NUMBER.fullmatch(text):
        start, stop = int(text), int(text) + 1
    else:
        raise UsageError(f"slice {name!r}: {selector!r} is no range. Try flat:0:{width}.")
    if start >= stop:
        raise UsageError(f"slice {name!r}: {selector!r} is empty. The end is exclusive: 5:6 is column 5.")
    if stop > width:
        message = f"slice {name!r}: {selector!r} is outside {of_what}'s columns 0:{width}. Stay within."
        raise UsageError(message)
    return range(start, stop)


def _named(name: str, selector: str, space: _Space) -> Sequence[int]:
    if space.names is None:
        message = (
            f"slice {name!r}: {selector!r} needs feature names and none are known. "
            f"Set features in gradscope.toml, or give columns of one bar such as 0:{space.num_columns}."
        )
        raise UsageError(message)
    columns = [place for place, each in enumerate(space.names) if fnmatchcase(each, selector)]
    if not columns:
        near = difflib.get_close_matches(selector.strip("*"), space.names, n=3, cutoff=0.3)
        advice = f"Near: {', '.join(near or space.names[:3])}."
        raise UsageError(
            f"slice {name!r}: {selector!r} fits none of {len(space.names)} feature names. {advice}"
        )
    return columns


def _rest(slices: Sequence[Slice], spaces: Mapping[str, _Space]) -> tuple[Slice, ...]:
    """All columns that no slice took, as ``market``; flat where any slice is flat."""
    left = [each for space in spaces.values() if (each := _rest_of(slices, space)) is not None]
    return tuple(left) if len(left) == 1 else ()


def _rest_of(slices: Sequence[Slice], space: _Space) -> Slice | None:
    own = [each for each in slices if each.key == space.key]
    flat = any(each.flat for each in own)
    taken: set[int] = set()
    for each in own:
        bars = range(space.num_bars) if flat and not each.flat else range(1)
        taken |= {bar * space.num_columns + column for bar in bars for column in each.columns}
    columns = [each for each in range(space.num_flat if flat else space.num_columns) if each not in taken]
    if not columns:
        return None
    selector = ", ".join(f"flat:{each}" if flat else each for each in ranges(columns))
    if space.key and not own:
        selector = f"key:{space.key}"
    return Slice(name=MARKET, columns=tuple(columns), selector=selector, key=space.key, flat=flat)
