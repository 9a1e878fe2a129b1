"""d3rlpy's run folders: ``<parameter>_grad.csv``, the gradient's least, largest, mean and spread at each log.

d3rlpy writes what ``.grad`` held after the last update before the log (FileAdapter.watch_model). numpy's
``std`` divides by n, so n * (mean^2 + std^2) is the sum of squares: the norm. Least = largest = 0 says that
all of it was zero; how many zeros a gradient had otherwise is not known. n comes from a model beside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.errors import UnreadableFile
from gradscope.read.d3rlpy_file import num_elements
from gradscope.read.file_bytes import Foreign, Malformed, reading
from gradscope.read.folder_files import names_in, part_of, parts_named
from gradscope.read.layers import MAX_SHOWN
from gradscope.read.sniff_folder import D3RLPY_RUN, GRADIENT_LOG, folder_format
from gradscope.read.step_name import named_step, whole_number
from gradscope.records import Timeline, TimelineLayer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gradscope.read.file_bytes import Section

    Numbers = NDArray[np.float64]

MAX_BYTES: Final = 64 << 20
"""Of one file; a row takes about 90."""
HEADER: Final = "epoch,step,min,max,mean,std"
NOTE: Final = (
    "norms from d3rlpy's min, max, mean and std of .grad at each log; a critic's also holds what the actor's "
    "loss added to it"
)
_CELLS: Final = 6


@dataclass(frozen=True, kw_only=True)
class D3rlpyRun:
    """Reader of the gradients' logs in a run folder."""

    format: str = D3RLPY_RUN
    is_whole: bool = False

    def accepts(self, path: Path) -> bool:
        """Whether the folder's names are of this format."""
        return folder_format(names_in(path), ()) == self.format

    def parts(self, path: Path) -> tuple[Path, ...]:
        """All logs and the run's settings; the models are checkpoints of their own."""
        names = names_in(path)
        return parts_named(path, (name for name in names if name == "params.json" or name.endswith(".csv")))

    def read(self, path: Path) -> Timeline:
        """Open the logs of all parameters.

        Raises:
            UnreadableFile: a log is damaged, or no model tells how large the parameters are.
        """
        with reading(path):
            names = [name for name in names_in(path) if name.endswith(GRADIENT_LOG)]
            logs = {name.removesuffix(GRADIENT_LOG): _log(part_of(path, name, D3RLPY_RUN)) for name in names}
            sizes = _sizes(path)
            known = {name: logs[name] for name in sizes if name in logs}
            if not known:
                raise Foreign("tells of gradients of parameters of unknown size", "Keep a model_*.d3 in it.")
            steps = np.unique(np.concatenate([log.step for log in known.values()]))
            unknown = np.full(len(steps), np.nan)
            left = len(logs) - len(known)
            more = (f"{left} logs are of parameters that no model beside has",) if left else ()
            return Timeline(
                source=path,
                num_rows=len(steps),
                layers=tuple(_layer(name, sizes[name], log) for name, log in known.items()),
                step=steps,
                norm_before_clip=unknown,
                clip_coefficient=unknown,
                num_active=unknown,
                num_long=unknown,
                num_short=unknown,
                notes=(NOTE, *more, *_zero_note(known), *_bad_notes(known)),
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Log:
    """One parameter's rows."""

    step: NDArray[np.int64]
    numbers: Numbers
    """[rows, (min, max, mean, std)]."""
    notes: tuple[str, ...] = field(default=())


def _log(file: Section) -> _Log:
    name = file.path.name[:80]
    if file.size > MAX_BYTES:
        raise Malformed(f"{name} has {file.size} bytes; at most {MAX_BYTES} are read")
    lines = file.read(0, file.size).decode("ascii", "replace").splitlines()
    if not lines or lines[0].strip() != HEADER:
        raise Malformed(f"{name} does not begin with {HEADER!r}")
    rows = [row for line in lines[1:] if (row := _row(line)) is not None]
    num_bad = len(lines) - 1 - len(rows)
    return _Log(
        step=np.array([int(row[0]) for row in rows], np.int64),
        numbers=np.array([row[1:] for row in rows], np.float64).reshape(len(rows), _CELLS - 2),
        notes=(f"{num_bad} rows could not be read",) if num_bad else (),
    )


def _row(line: str) -> tuple[float, ...] | None:
    """Step, least, largest, mean, spread; None where a cell is no number."""
    try:
        cells = [float(cell) for cell in line.split(",")]
    except ValueError:
        return None
    if len(cells) != _CELLS or (step := whole_number(cells[1])) is None:
        return None
    return (step, *cells[2:])


def _layer(name: str, elements: int, log: _Log) -> TimelineLayer:
    mean, spread = log.numbers.T[2:]
    unknown = np.full(len(log.step), np.nan)
    zeros = np.where(_is_zero(log), float(elements), np.nan)
    return TimelineLayer(
        name=name,
        num_elements=elements,
        step=log.step,
        num_zero=zeros,
        num_exact_zero=zeros,
        num_expected=unknown,
        norm=_norm(elements, mean, spread),
        num_rows=unknown,
        num_active=unknown,
    )


def _zero_note(logs: Mapping[str, _Log]) -> tuple[str, ...]:
    """Parameters whose gradient was zero as a whole, and how often."""
    counts = {name: int(_is_zero(log).sum()) for name, log in logs.items()}
    shown = [f"{name} ({zeros} of {len(logs[name].step)} logs)" for name, zeros in counts.items() if zeros]
    if not shown:
        return ()
    more = f" and {len(shown) - MAX_SHOWN} more" if len(shown) > MAX_SHOWN else ""
    return (f"no gradient at all: {', '.join(shown[:MAX_SHOWN])}{more}",)


def _bad_notes(logs: Mapping[str, _Log]) -> tuple[str, ...]:
    return tuple(f"{name}: {note}" for name, log in logs.items() for note in log.notes)


def _is_zero(log: _Log) -> NDArray[np.bool_]:
    least, largest = log.numbers.T[:2]
    zero: NDArray[np.bool_] = (least == 0) & (largest == 0)
    return zero


def _norm(elements: int, mean: Numbers, spread: Numbers) -> Numbers:
    with np.errstate(over="ignore"):
        norm: NDArray[Any] = math.sqrt(elements) * np.hypot(mean, spread)
    return np.where(np.isfinite(norm), norm, np.nan)


def _sizes(folder: Path) -> Mapping[str, int]:
    """Elements of each parameter, from the first model in the folder that can be read."""
    models = sorted((name for name in names_in(folder) if name.endswith(".d3")), key=_step)
    for name in models:
        try:
            return num_elements(folder / name)
        except UnreadableFile:
            continue
    return {}


def _step(name: str) -> tuple[int, str]:
    named = named_step(name)
    return (named.step if named else 0, name)
