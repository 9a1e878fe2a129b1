"""In the child: tianshou's replay buffers, rings of transitions that may have wrapped.

Written by ReplayBuffer.save_hdf5 (tianshou/data/utils/converter.py, to_hdf5): arrays are datasets in
``_meta``, whole numbers are attributes, everything else is pickled bytes and left alone. A
VectorReplayBuffer lays its environments' rings end to end: ``_offset``, ``_lengths``, ``last_index``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.read.file_bytes import Malformed
from gradscope.read.hdf5_plan import Plan
from gradscope.read.hdf5_tree import Leaf, Tree, leaves
from gradscope.read.rows import named_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

TIANSHOU: Final = "tianshou"
_ONE_AFTER_THE_OTHER: Final = (
    "environments of different lengths are shown one after the other, not side by side"
)


@dataclass(frozen=True, kw_only=True)
class _Ring:
    """One environment's part of the arrays."""

    offset: int
    size: int
    count: int
    oldest: int
    """Of its rows, where the order of collection begins; 0 before it wraps."""

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Rows in order of collection."""
        start, end = self.offset + self.oldest, self.offset + self.count
        return [(start, end), (self.offset, start)] if self.oldest else [(start, end)]


def planned(tree: Tree) -> Plan | None:
    """Where the rows lie; None for a file of something else.

    Raises:
        Malformed: a buffer whose numbers contradict each other, or that is empty.
    """
    meta, maximum, size = tree.root.get("_meta"), tree.attribute("maxsize"), tree.attribute("_size")
    if not isinstance(meta, dict) or maximum is None or size is None:
        return None
    names = named_rows(meta, {})
    if not names:
        raise Malformed("is a tianshou buffer without observations, or nothing was collected in it")
    rings = _rings(tree, maximum) if "_lengths" in tree.root else [_ring(tree, maximum, size)]
    rings = [ring for ring in rings if ring.count]
    if not rings:
        raise Malformed("is a tianshou buffer that nothing was collected in")
    sizes = {ring.size for ring in rings}
    overwritten = any(ring.count == ring.size for ring in rings)
    plan = Plan(format=TIANSHOU, capacity=sizes.pop() if len(sizes) == 1 else None, overwritten=overwritten)
    rows = {name: dict(leaves(meta[own])) for name, own in names.items()}
    _add(plan, rows, rings)
    return plan


def _add(plan: Plan, rows: Mapping[str, Mapping[str, Leaf]], rings: list[_Ring]) -> None:
    is_even = len({ring.count for ring in rings}) == 1
    if is_even:
        plan.environments = len(rings)
    else:
        plan.notes.append(_ONE_AFTER_THE_OTHER)
    for ring in rings:
        for start, stop in ring.ranges:
            for name, each in rows.items():
                plan.add(name, each, start, stop)


def _ring(tree: Tree, maximum: int, size: int) -> _Ring:
    following = tree.attribute("_insertion_idx") or 0
    return _checked(_Ring(offset=0, size=maximum, count=size, oldest=following if size == maximum else 0))


def _rings(tree: Tree, maximum: int) -> list[_Ring]:
    """One for each environment."""
    offsets, counts, newest = (_whole(tree, name) for name in ("_offset", "_lengths", "last_index"))
    if not len(offsets) == len(counts) == len(newest):
        raise Malformed("is a tianshou buffer whose environments contradict each other")
    ends = [*offsets[1:], maximum]
    rings = []
    for offset, end, count, last in zip(offsets, ends, counts, newest, strict=True):
        size = end - offset
        oldest = (last - offset + 1) % size if count == size and size > 0 else 0
        rings.append(_checked(_Ring(offset=offset, size=size, count=count, oldest=oldest)))
    return rings


def _checked(ring: _Ring) -> _Ring:
    if not (ring.offset >= 0 and 0 <= ring.oldest <= ring.count <= ring.size):
        raise Malformed("is a tianshou buffer whose position lies outside of it")
    return ring


def _whole(tree: Tree, name: str) -> list[int]:
    leaf = tree.root.get(name)
    if not isinstance(leaf, Leaf):
        raise Malformed(f"is a tianshou buffer without {name}")
    return [int(each) for each in tree.value(leaf).reshape(-1)]
