"""In the child: which ranges of which datasets make up each array of a replay, and copying them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read.file_bytes import Malformed
from gradscope.read.native_output import BLOCK_BYTES, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.read.hdf5_tree import Leaf, Tree
    from gradscope.read.native_output import Output

MAX_NOTES: Final = 8


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows ``start`` to ``stop`` of a dataset."""

    leaf: Leaf
    start: int
    stop: int
    zeros: int = 0
    """Rows of zeros behind them: next observations of ends have no meaning."""
    is_end: bool = False
    """The dataset is one number: of the last row; all others are 0."""

    @property
    def rows(self) -> int:
        """Rows of the result."""
        return self.stop - self.start + self.zeros


@dataclass(kw_only=True)
class Plan:
    """Arrays of a replay: (usual name, key of a Dict observation) -> parts in order of collection."""

    format: str
    parts: dict[tuple[str, str], list[Part]] = field(default_factory=dict)
    environments: int = 1
    """More than one: the parts are one for each, of equal lengths, side by side."""
    notes: list[str] = field(default_factory=list)
    capacity: int | None = None
    overwritten: bool = False

    def add(self, name: str, found: Mapping[str, Leaf], start: int, stop: int, **how: Any) -> None:
        """The same rows of every key's dataset."""
        for key, leaf in found.items():
            self.parts.setdefault((name, key), []).append(Part(leaf=leaf, start=start, stop=stop, **how))


def write(plan: Plan, tree: Tree, output: Output) -> dict[str, object]:
    """Copy all parts; an array that cannot be had from this file is left out and noted.

    Raises:
        Malformed: what is left is no replay's, or more than the file justifies.
    """
    problems: list[Malformed] = []
    for name, parts in plan.parts.items():
        try:
            dtype, row = _kind(tree, parts)
        except Malformed as error:
            problems.append(error)
            continue
        _copy(name, parts, (dtype, row, plan.environments), tree, output)
    if not any(name == "observations" for entry in output.entries for name in [entry["name"]]):
        raise problems[0] if problems else Malformed("has no observations")
    notes = [f"{each.problem}: left out" for each in problems] + plan.notes + _refusals(tree)
    shown = notes if len(notes) <= MAX_NOTES else [*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES} more notes"]
    return {
        "format": plan.format,
        "notes": shown,
        "capacity": plan.capacity,
        "overwritten": plan.overwritten,
    }


def _refusals(tree: Tree) -> list[str]:
    return [f"{path[:80]!r} is {what}: not followed" for path, what in tree.refused.items()]


def _kind(tree: Tree, parts: list[Part]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Dtype and shape of one row, the same in all parts."""
    kinds = set()
    for part in parts:
        dataset = tree.numbers(part.leaf)
        dtype = plain(dataset.dtype)
        assert dtype is not None
        kinds.add((dtype, () if part.is_end else dataset.shape[1:]))
        there = 1 if part.is_end and dataset.shape == () else (dataset.shape or (0,))[0]
        if (part.stop > there and not part.is_end) or not 0 <= part.start <= part.stop:
            raise Malformed(f"has a dataset {part.leaf.path[:80]!r} of fewer rows than others")
    if len(kinds) > 1:
        first, second = list(kinds)[:2]
        shown = f"{first[0]} {first[1]} and {second[0]} {second[1]}"
        raise Malformed(f"has rows like {parts[0].leaf.path[:80]!r} of different kinds: {shown[:80]}")
    found: tuple[np.dtype[Any], tuple[int, ...]] = kinds.pop()
    return found


def _copy(
    name: tuple[str, str],
    parts: list[Part],
    kind: tuple[np.dtype[Any], tuple[int, ...], int],
    tree: Tree,
    output: Output,
) -> None:
    dtype, row, environments = kind
    count = sum(part.rows for part in parts)
    if not count:
        raise Malformed("holds no rows")
    width = int(np.prod(row, dtype=object)) * dtype.itemsize
    offset = output.reserve(count * width)
    if environments == 1:
        output.entry(name, dtype, (count, *row), offset)
    else:
        times = count // environments
        output.entry(name, dtype, (times, environments, *row), offset, width, times * width)
    place = offset
    for part in parts:
        _stream(part, (dtype, row), place, tree, output)
        place += part.rows * width


def _stream(
    part: Part, kind: tuple[np.dtype[Any], tuple[int, ...]], place: int, tree: Tree, output: Output
) -> None:
    """One part, in blocks of whole chunks."""
    dtype, row = kind
    width = int(np.prod(row, dtype=object)) * dtype.itemsize
    if part.is_end:
        ends = np.zeros(part.rows, dtype)
        ends[-1:] = tree.value(part.leaf).reshape(-1)[:1]
        output.write(place, ends)
        return
    dataset = tree.numbers(part.leaf)
    chunk = (dataset.chunks or (1,))[0]
    block = max(BLOCK_BYTES // max(width, 1) // chunk, 1) * chunk
    start = part.start
    while start < part.stop:
        # up to the end of a chunk: one that is larger than the library's cache is unpacked only once
        stop = min(part.stop, (start // chunk) * chunk + block)
        rows = dataset[start:stop].astype(dtype, copy=False)
        output.write(place, rows)
        place, start = place + rows.nbytes, stop
    if part.zeros:
        output.write(place, np.zeros((part.zeros, *row), dtype))
