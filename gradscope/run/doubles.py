"""Checkpoints that a run holds twice: identical copies, and best, last or latest beside a numbered file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.step_name import step_of_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from gradscope.records import Snapshot

ROLES: Final = re.compile(
    r"(?:^|[^a-z])(?:best|last|latest|final|newest|current|backup|copy|old)(?:$|[^a-z])"
)
"""Words of a name that say which of several checkpoints it is, not a part of one."""
_WORDS: Final = re.compile(r"[a-z]+")
_BLOCK: Final = 1 << 20
_EDGE: Final = 1 << 16
"""Bytes at the end that are compared first: a zip keeps the checksums of all its members there."""


@dataclass(frozen=True, kw_only=True)
class Double:
    """What a checkpoint doubles."""

    source: Path
    note: str


def doubles_of(
    checkpoints: Sequence[Snapshot], folder: Path, recorded: Collection[Path] = ()
) -> dict[Path, Double]:
    """By file: the checkpoint of the run that counts in its place, where there is one.

    The one that counts is the one with its step in its name, of several the one with a recorder file, else
    the first by name. A copy holds the same bytes; of files
    of one step that differ, one called best, last, latest or final doubles a numbered one with its layers.

    Args:
        checkpoints: of one run, in order.
        folder: of the run.
        recorded: those of them that a recorder file belongs to.
    """
    found: dict[Path, Double] = {}
    steps: dict[int | None, list[Snapshot]] = {}
    for each in checkpoints:
        steps.setdefault(each.step, []).append(each)
    for step, twins in steps.items():
        if step is not None and len(twins) > 1:
            ranked = sorted(twins, key=lambda each: _rank(each, recorded))
            found |= _doubles_of_step(step, ranked, folder)
    found |= _copies_without_step(steps.get(None, []), checkpoints, folder)
    return found


def _rank(snapshot: Snapshot, recorded: Collection[Path] = ()) -> tuple[bool, bool, bool, bool, str]:
    name = snapshot.source.name
    named = step_of_name(name)
    return is_role(name), named is None, named != snapshot.step, snapshot.source not in recorded, name


def is_role(name: str) -> bool:
    """Whether a name says best, last, latest, ... of several checkpoints."""
    return ROLES.search(name.lower()) is not None


def roles_of(name: str) -> frozenset[str]:
    """Which of several a file without a step in its name is: best, last, final, ...; empty for others."""
    if step_of_name(name) is not None:
        return frozenset()
    return frozenset(word for word in _WORDS.findall(name.lower()) if is_role(word))


def _doubles_of_step(step: int, twins: Sequence[Snapshot], folder: Path) -> dict[Path, Double]:
    found: dict[Path, Double] = {}
    for copy, first in _copies(twins):
        note = f"holds the same bytes as {within(first.source, folder)}, step {step}: it counts once"
        found[copy.source] = Double(source=first.source, note=note)
    kept = [each for each in twins if each.source not in found]
    for each in kept[1:]:
        # A Trainer leaves its last model in the folder of its checkpoints.
        if (is_role(each.source.name) or each.source == folder) and set(each.layers) == set(kept[0].layers):
            name = within(kept[0].source, folder)
            note = f"step {step} is claimed by {name} too, which counts: it is listed, and in no series"
            found[each.source] = Double(source=kept[0].source, note=note)
    return found


def _copies_without_step(
    unknown: Sequence[Snapshot], checkpoints: Sequence[Snapshot], folder: Path
) -> dict[Path, Double]:
    """Files that tell no step, with the bytes of one that does, or of one before them."""
    if not unknown:
        return {}
    ordered = [*(each for each in checkpoints if each.step is not None), *sorted(unknown, key=_rank)]
    return {
        copy.source: Double(
            source=first.source,
            note=f"holds the same bytes as {within(first.source, folder)}{_at(first.step)}: it counts once",
        )
        for copy, first in _copies(ordered)
        if copy.step is None
    }


def _at(step: int | None) -> str:
    return "" if step is None else f", step {step}"


def _copies(snapshots: Sequence[Snapshot]) -> Iterator[tuple[Snapshot, Snapshot]]:
    """(copy, first) of files with the same bytes; folders are not compared."""
    for alike in _groups(snapshots, _size_and_end):
        for same in _groups(alike, _hash):
            yield from ((each, same[0]) for each in same[1:])


def _groups(snapshots: Iterable[Snapshot], key_of: Callable[[Path], object]) -> Iterator[list[Snapshot]]:
    groups: dict[object, list[Snapshot]] = {}
    for each in snapshots:
        key = key_of(each.source)
        if key is not None:
            groups.setdefault(key, []).append(each)
    yield from (group for group in groups.values() if len(group) > 1)


def _size_and_end(path: Path) -> object:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _EDGE, 0))
            return size, hashlib.sha256(file.read(_EDGE)).digest()
    except OSError:
        # A folder, or gone since: whether it is a copy is not known, and so it is none.
        return None


def _hash(path: Path) -> object:
    content = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                content.update(block)
    except OSError:
        return None
    return content.digest()


def within(path: Path, folder: Path) -> str:
    """A file's name as a run's notes show it: relative to the run's folder, or that folder's own."""
    if path == folder:
        return path.name
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
