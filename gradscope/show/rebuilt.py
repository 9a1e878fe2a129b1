"""Records from plain JSON, every value checked against its field's type."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, Final

PLAIN: Final[dict[Any, tuple[type, ...]]] = {
    str: (str,),
    int: (int,),
    float: (int, float),
    bool: (bool,),
    dict: (dict,),
    list: (list,),
}
"""What JSON holds where a field is of this type."""
BEYOND: Final[dict[Any, float]] = {int: 2**63, float: 1e300}
"""Numbers from here on no column or screen could hold."""


def rebuilt(kind: Any, value: Any) -> Any:
    """The record of type ``kind`` that ``value`` was written from; keys the record lacks are left out.

    Raises:
        TypeError: a value is of another type than its field.
        ValueError: an unknown name of an enumeration, or a number that is not finite.
    """
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        inner = next(each for each in arguments if each is not type(None))
        return None if value is None else rebuilt(inner, value)
    return _inside(kind, origin, arguments, value)


def _inside(kind: Any, origin: Any, arguments: tuple[Any, ...], value: Any) -> Any:
    if origin is Mapping:
        return {key: rebuilt(arguments[1], each) for key, each in _plain(dict, value).items()}
    if origin is Sequence:
        return tuple(rebuilt(arguments[0], each) for each in _plain(list, value))
    if origin is tuple:
        return _tuple(arguments, _plain(list, value))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(_plain(str, value))
    return _plain(kind, value)


def _record(kind: type, value: Any) -> Any:
    hints = _field_types(kind)
    return kind(
        **{key: rebuilt(hints[key], each) for key, each in _plain(dict, value).items() if key in hints}
    )


@cache
def _field_types(kind: type) -> dict[str, Any]:
    """Types of a record's fields; looking them up takes longer than all else."""
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)}


def _tuple(kinds: tuple[Any, ...], values: list[Any]) -> tuple[Any, ...]:
    each_kind = [kinds[0]] * len(values) if kinds[-1] is Ellipsis else kinds
    return tuple(rebuilt(kind, value) for kind, value in zip(each_kind, values, strict=True))


def _plain(kind: Any, value: Any) -> Any:
    """The value itself where JSON holds that for ``kind``; a kind that is not plain takes anything."""
    wanted = PLAIN.get(kind)
    if wanted is None:
        return value
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    if isinstance(value, int | float) and not abs(value) < BEYOND.get(kind, math.inf):
        raise ValueError(f"{value!r:.40} is too large or no number")
    return value
