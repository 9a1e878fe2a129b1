"""Records from plain JSON, every value checked against its field's type."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
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

Build = Callable[[Any], Any]


def rebuilt(kind: Any, value: Any) -> Any:
    """The record of type ``kind`` that ``value`` was written from; keys the record lacks are left out.

    Raises:
        TypeError: a value is of another type than its field.
        ValueError: an unknown name of an enumeration, or a number that is not finite.
    """
    return _build(kind)(value)


@cache
def _build(kind: Any) -> Build:
    """What makes a value of that type; a type is looked into once, a scan has thousands of snapshots."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _of_record(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        inner = _build(next(each for each in arguments if each is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin in (Mapping, Sequence, tuple):
        return _of_several(origin, arguments)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return lambda value: kind(_plain(str, value))
    return _of_plain(kind)


def _of_record(kind: type) -> Build:
    hints = typing.get_type_hints(kind)
    builds = {each.name: _build(hints[each.name]) for each in dataclasses.fields(kind)}

    def record(value: Any) -> Any:
        given = _plain(dict, value)
        return kind(**{key: builds[key](each) for key, each in given.items() if key in builds})

    return record


def _of_several(origin: Any, kinds: tuple[Any, ...]) -> Build:
    if origin is Mapping:
        inner = _build(kinds[1])
        return lambda value: {key: inner(each) for key, each in _plain(dict, value).items()}
    if origin is Sequence or kinds[-1] is Ellipsis:
        inner = _build(kinds[0])
        return lambda value: tuple(map(inner, _plain(list, value)))
    builds = [_build(each) for each in kinds]
    return lambda value: tuple(build(each) for build, each in zip(builds, _plain(list, value), strict=True))


def _of_plain(kind: Any) -> Build:
    beyond = BEYOND.get(kind, math.inf)

    def number(value: Any) -> Any:
        if type(value) is kind and -beyond < value < beyond:
            return value
        return _plain(kind, value)

    def other(value: Any) -> Any:
        return value if type(value) is kind else _plain(kind, value)

    return number if kind in BEYOND else other


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
