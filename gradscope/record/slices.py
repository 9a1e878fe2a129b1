"""Which columns of an observation are the position slice, checked before anything is trained."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from gradscope.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RANGE = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True, kw_only=True)
class ObservationLayout:
    """How observations lie in memory, as the recorder was told."""

    shapes: Mapping[str, tuple[int, ...]]
    """Shape of one observation as the network sees it; key "" for a plain space."""
    sequence_length: int | None = None
    feature_names: tuple[str, ...] | None = None

    @property
    def num_bars(self) -> int:
        """Bars in one observation: given, or the first axis of a [bars, features] space."""
        shape = self.shapes.get("", ())
        return self.sequence_length or (shape[0] if len(shape) == 2 else 1)  # noqa: PLR2004 - two axes

    @property
    def num_features(self) -> int:
        """Columns of one bar."""
        return math.prod(self.shapes.get("", (0,))) // self.num_bars


@dataclass(frozen=True, kw_only=True)
class SliceColumns:
    """Columns of the flattened observation (of its newest bar), and what they are called."""

    key: str
    columns: tuple[int, ...]
    names: tuple[str, ...] | None


def checked_layout(layout: ObservationLayout) -> ObservationLayout:
    """The layout, if sequence length and names fit the observations.

    Raises:
        UsageError: they do not.
    """
    shape = layout.shapes.get("")
    if shape is None:
        return layout
    size, bars, names = math.prod(shape), layout.num_bars, layout.feature_names
    if size % bars or (len(shape) == 2 and bars != shape[0]):  # noqa: PLR2004 - two axes
        raise UsageError(
            f"sequence_length: an observation of shape {shape} does not hold {bars} bars. "
            "Give the number of bars in one observation."
        )
    if names is not None and len(names) != layout.num_features:
        raise UsageError(
            f"feature_names: {len(names)} names for {layout.num_features} columns of one bar. "
            "Name each column of one bar, and give sequence_length if observations hold several bars."
        )
    return layout


def slice_columns(name: str, selectors: Sequence[str], layout: ObservationLayout) -> SliceColumns:
    """Columns of one slice. Selectors: "73:80", name globs, "flat:292:299", "key:account".

    Raises:
        UsageError: a selector is out of range, matches nothing, or mixes entries of the observation.
    """
    parts = [_selected(name, selector, layout) for selector in selectors]
    if len({part.key for part in parts}) != 1:
        raise UsageError(
            f"slice {name!r}: {list(selectors)!r} is empty or mixes entries. Select columns of one entry."
        )
    columns = [column for part in parts for column in part.columns]
    names = [label for part in parts for label in part.names or ()]
    named = dict(zip(columns, names, strict=True)) if len(names) == len(columns) else None
    unique = tuple(sorted(set(columns)))
    return SliceColumns(
        key=parts[0].key,
        columns=unique,
        names=tuple(named[column] for column in unique) if named is not None else None,
    )


def _selected(name: str, selector: str, layout: ObservationLayout) -> SliceColumns:
    if selector.startswith("key:"):
        return _entry(name, selector, layout)
    if "" not in layout.shapes:
        raise UsageError(
            f"slice {name!r}: {selector!r} selects columns, but observations are a Dict. "
            f"Try one of {', '.join(f'key:{key}' for key in layout.shapes)}."
        )
    if selector.startswith("flat:"):
        flat = _range(name, selector, selector.removeprefix("flat:"), math.prod(layout.shapes[""]))
        return SliceColumns(key="", columns=flat, names=None)
    return _of_newest_bar(_of_one_bar(name, selector, layout), layout)


def _entry(name: str, selector: str, layout: ObservationLayout) -> SliceColumns:
    key = selector.removeprefix("key:")
    if key not in layout.shapes or not key:
        known = ", ".join(entry for entry in layout.shapes if entry) or "none: the observation is no Dict"
        raise UsageError(f"slice {name!r}: {selector!r} names no entry of the observation. Entries: {known}.")
    return SliceColumns(key=key, columns=tuple(range(math.prod(layout.shapes[key]))), names=None)


def _of_one_bar(name: str, selector: str, layout: ObservationLayout) -> tuple[int, ...]:
    if RANGE.fullmatch(selector):
        return _range(name, selector, selector, layout.num_features)
    names = layout.feature_names
    if names is None:
        raise UsageError(
            f"slice {name!r}: {selector!r} selects by name. Give feature_names, or a range like '73:80'."
        )
    columns = tuple(index for index, label in enumerate(names) if fnmatchcase(label, selector))
    if not columns:
        raise UsageError(
            f"slice {name!r}: {selector!r} matches none of the {len(names)} feature_names. Check the glob."
        )
    return columns


def _of_newest_bar(columns: tuple[int, ...], layout: ObservationLayout) -> SliceColumns:
    newest = (layout.num_bars - 1) * layout.num_features
    names = layout.feature_names
    return SliceColumns(
        key="",
        columns=tuple(newest + column for column in columns),
        names=tuple(names[column] for column in columns) if names is not None else None,
    )


def _range(name: str, selector: str, text: str, size: int) -> tuple[int, ...]:
    found = RANGE.fullmatch(text)
    first, end = (int(found[1]), int(found[2])) if found else (0, 0)
    if not first < end <= size:
        raise UsageError(
            f"slice {name!r}: {selector!r} is not a range within 0:{size}. Write FIRST:END, END left out."
        )
    return tuple(range(first, end))
