"""The recorder's dense timeline: JSON lines, readable after a kill at any moment."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.read import checked_json, sniff
from gradscope.read.file_bytes import Malformed, head_or_nothing, reading, section_of
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.step_name import MAX_STEP
from gradscope.records import TIMELINE_SCHEMA, Timeline, TimelineLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Line = dict[str, Any]
    Numbers = NDArray[np.float64]

MAX_BYTES: Final = 1 << 30
PER_LAYER: Final = ("num_zero", "num_exact_zero", "num_expected", "norm")
PER_ROW: Final = ("norm_before_clip", "clip_coefficient", "num_rows", "num_active", "num_long", "num_short")


@dataclass(frozen=True, kw_only=True)
class TimelineReader:
    """Reader of the recorder's timelines."""

    format: str = sniff.TIMELINE

    def accepts(self, path: Path) -> bool:
        """Whether the first bytes are of this format."""
        return sniff.format_of(head_or_nothing(path)) == self.format

    def read(self, path: Path) -> Timeline:
        """Open a timeline; a line that was being written when the process died is left out.

        Raises:
            UnreadableFile: damaged, without a header, or of an unknown version.
        """
        with reading(path):
            file = section_of(path)
            if file.size > MAX_BYTES:
                raise Malformed(f"has {file.size} bytes; at most {MAX_BYTES} are read")
            parsed = _parsed(file.read(0, file.size))
            return _timeline(path, parsed)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    step: int
    optimizer: str
    row: Numbers
    """PER_ROW."""
    layers: Numbers
    """[PER_LAYER, layers of the optimizer]."""


@dataclass(kw_only=True)
class _Parsed:
    """Rows that count, and the layers that the header names for each optimizer."""

    header: Line = field(default_factory=dict)
    rows: list[_Row] = field(default_factory=list)
    layers: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    zero_tolerances: dict[float | None, None] = field(default_factory=dict)
    """In order; what rows before a restart were counted with may differ."""
    restarts: dict[int, int] = field(default_factory=dict)
    """Number of the first row after a header -> its step."""
    num_bad: int = 0
    num_superseded: int = 0


def _parsed(content: bytes) -> _Parsed:
    parsed = _Parsed()
    is_first = False
    for line in _lines(content, parsed):
        if "schema" in line:
            _take_header(line, parsed)
            is_first = True
            continue
        row = _row(line, parsed.layers)
        if row is None:
            parsed.num_bad += 1
            continue
        if is_first:
            parsed.restarts[len(parsed.rows)] = row.step
            is_first = False
        parsed.rows.append(row)
    if not parsed.header:
        raise Malformed("is a timeline without a header")
    _supersede(parsed)
    return parsed


def _lines(content: bytes, parsed: _Parsed) -> Iterator[Line]:
    """Objects of all complete lines; a torn last line is no fault."""
    for line in io.BytesIO(content):
        if not line.endswith(b"\n"):
            return
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if is_text_keyed(value):
            yield value
        else:
            parsed.num_bad += 1


def _take_header(line: Line, parsed: _Parsed) -> None:
    if line["schema"] != TIMELINE_SCHEMA:
        raise Malformed(f"is a timeline of another schema than {TIMELINE_SCHEMA!r}", "Update gradscope.")
    layers = {name: _layers(each) for name, each in checked_json.table(line.get("optimizers")).items()}
    if parsed.header and layers != parsed.layers:
        parsed.num_superseded += len(parsed.rows)
        parsed.rows.clear()
        parsed.restarts.clear()
        parsed.zero_tolerances.clear()
    parsed.zero_tolerances[checked_json.number(line.get("zero_tolerance"))] = None
    parsed.header, parsed.layers = line, layers


def _layers(value: object) -> list[tuple[str, int]]:
    described = [checked_json.table(each) for each in value] if isinstance(value, list) else []
    found = [
        (checked_json.text(each.get("name")), checked_json.count(each.get("num_elements")))
        for each in described
    ]
    named = [(name, elements) for name, elements in found if name is not None and elements is not None]
    if len(named) != len(found):
        raise Malformed("is a timeline whose header describes a layer without name or size")
    return named


def _row(line: Line, layers: dict[str, list[tuple[str, int]]]) -> _Row | None:
    """One line's numbers; None where it does not fit its header."""
    optimizer, step = line.get("optimizer"), checked_json.count(line.get("step"))
    if not isinstance(optimizer, str) or optimizer not in layers or step is None:
        return None
    per_layer = _numbers([line.get(key) for key in PER_LAYER])
    per_row = _numbers([line.get(key) for key in PER_ROW])
    if per_layer is None or per_row is None or per_row.shape != (len(PER_ROW),):
        return None
    if per_layer.shape != (len(PER_LAYER), len(layers[optimizer])):
        return None
    return _Row(step=step, optimizer=optimizer, row=per_row, layers=per_layer)


def _numbers(values: Sequence[object]) -> Numbers | None:
    """Numbers, NaN for null and for anything not finite; None where something is no number."""
    try:
        found = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    found[~np.isfinite(found)] = np.nan
    return found


def _supersede(parsed: _Parsed) -> None:
    """Training went back to an earlier checkpoint: what it had seen beyond was another future.

    One pass from the end: a row counts if no restart after it went back to its step or before.
    """
    kept: list[_Row] = []
    earliest = MAX_STEP + 1
    for number in range(len(parsed.rows) - 1, -1, -1):
        if parsed.rows[number].step < earliest:
            kept.append(parsed.rows[number])
        earliest = min(earliest, parsed.restarts.get(number, earliest))
    parsed.num_superseded += len(parsed.rows) - len(kept)
    parsed.rows[:] = kept[::-1]


def _timeline(path: Path, parsed: _Parsed) -> Timeline:
    columns = _columns(parsed.rows)
    del columns["num_rows"]
    return Timeline(
        source=path,
        num_rows=len(parsed.rows),
        layers=tuple(_layer_series(parsed)),
        step=_steps(parsed.rows),
        **columns,
        observed=checked_json.observed(parsed.header),
        zero_tolerances=tuple(parsed.zero_tolerances),
        notes=_notes(parsed),
    )


def _layer_series(parsed: _Parsed) -> Iterator[TimelineLayer]:
    by_optimizer: dict[str, list[_Row]] = {}
    for row in parsed.rows:
        by_optimizer.setdefault(row.optimizer, []).append(row)
    for optimizer, layers in parsed.layers.items():
        if not layers:
            continue
        rows = by_optimizer.get(optimizer, [])
        columns = _columns(rows)
        shape = len(rows), len(PER_LAYER), len(layers)
        cube = np.array([row.layers for row in rows], np.float64).reshape(shape)
        series = np.ascontiguousarray(cube.transpose(2, 1, 0))
        step = _steps(rows)
        for (name, elements), own in zip(layers, series, strict=True):
            yield TimelineLayer(
                name=name,
                num_elements=elements,
                step=step,
                num_rows=columns["num_rows"],
                num_active=columns["num_active"],
                **dict(zip(PER_LAYER, own, strict=True)),
            )


def _steps(rows: Sequence[_Row]) -> NDArray[np.int64]:
    return np.array([row.step for row in rows], np.int64)


def _columns(rows: Sequence[_Row]) -> dict[str, Numbers]:
    """One number a row, by name in PER_ROW."""
    table = np.array([row.row for row in rows], np.float64).reshape(len(rows), len(PER_ROW))
    return dict(zip(PER_ROW, np.ascontiguousarray(table.T), strict=True))


def _notes(parsed: _Parsed) -> tuple[str, ...]:
    notes: list[str] = []
    if parsed.num_bad:
        notes.append(f"{parsed.num_bad} lines of the timeline could not be read")
    if parsed.num_superseded:
        notes.append(f"{parsed.num_superseded} rows of the timeline are of an earlier attempt and left out")
    return tuple(notes)
