"""Columns of a table -> the arrays of a replay: wide columns in numeric order, dotted ones by key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.rows import OBSERVATIONS, USUAL, bare, listed, named_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Columns = dict[str, dict[str, list[str]]]

_WIDE: Final = re.compile(r"(.+?)(?:[_. \[/-]|\[\s*)?([0-9]{1,6})\]?")
_DIGITS: Final = re.compile(r"([0-9]+)")


def chosen(names: Iterable[str], keys: Mapping[str, str], *, numbered: bool = True) -> Columns:
    """Usual name -> key of a Dict observation ("" for a plain one) -> columns side by side.

    ``obs_0, obs_1``, ``obs.0``, ``obs[0]`` are one array ``obs``, numbered without gaps from 0 or 1;
    ``obs.image, obs.speed`` are the keys of one ``obs``. Names of the user's (``keys``) may have a
    ``*`` for many columns. Empty where the table is no replay's. ``numbered=False``: a number is a key too.

    Raises:
        Malformed: the user named a column that is not there.
    """
    known = list(names)
    wide = _wide(known) if numbered else {}
    groups: Columns = {name: {"": [name]} for name in known}
    for stem, each in wide.items():
        groups.setdefault(stem, {"": each})
    members = {each for group in wide.values() for each in group}
    for name in [name for name in groups if name not in members]:
        head, _, key = name.partition(".")
        if key and head not in known:
            groups.setdefault(head, {})[key] = groups[name][""]
    for pattern in keys.values():
        if "*" in pattern and pattern not in groups:
            groups[pattern] = {"": _matching(pattern, known)}
    named = named_rows(groups, keys)
    return {name: groups[own] for name, own in named.items()}


def _wide(names: list[str]) -> dict[str, list[str]]:
    """Stem -> its columns by number, of those that have every number from 0 or 1 on."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        if match := _WIDE.fullmatch(name):
            found.setdefault(match[1], {})[int(match[2])] = name
    return {
        stem: [numbered[place] for place in sorted(numbered)]
        for stem, numbered in found.items()
        if (len(numbered) > 1 or _is_alone(stem, numbered)) and sorted(numbered) in _runs(len(numbered))
    }


def _is_alone(stem: str, numbered: Mapping[int, str]) -> bool:
    """An array of one column whose stem tells what it is: action_0; of observations others may be missing."""
    usual = (others for name, others in USUAL.items() if not name.endswith(OBSERVATIONS))
    return list(numbered) == [0] and any(bare(stem) in others for others in usual)


def _runs(count: int) -> tuple[list[int], list[int]]:
    return list(range(count)), list(range(1, count + 1))


def _matching(pattern: str, names: list[str]) -> list[str]:
    expression = ".*".join(re.escape(piece) for piece in pattern.split("*"))
    found = sorted((name for name in names if re.fullmatch(expression, name)), key=_natural)
    if not found:
        raise Malformed(f"has no columns like {pattern[:80]!r}", f"It has {listed(names)}.")
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """x2 comes before x10."""
    return [(int(each), "") if each.isdigit() else (-1, each) for each in _DIGITS.split(name)]
