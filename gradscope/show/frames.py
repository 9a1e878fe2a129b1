"""Reports as pandas frames and CSV, one row a layer and snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gradscope.show.rows import KINDS, safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from gradscope.records import LayerGradient, Report, SnapshotGradient

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters a spreadsheet would take for a formula."""
_DTYPES: Final = {float: "Float64", int: "Int64", str: "string"}
"""Nullable type of a column by what it holds, the first that fits."""


def to_frame(report: Report) -> pd.DataFrame:
    """One row a layer and snapshot; unknown is a missing value, fractions are 0..1."""
    import pandas as pd  # noqa: PLC0415  heavy, only where asked for

    rows = [_row(snapshot, layer) for snapshot in report.snapshots for layer in snapshot.layers]
    return _typed(pd.DataFrame(encodable(rows), columns=_columns(), dtype=object))


def shift_frame(report: Report) -> pd.DataFrame:
    """One row a column, slice and step of the shift."""
    import pandas as pd  # noqa: PLC0415  heavy, only where asked for

    rows = [
        {"run": step.run, "step": step.step, "slice": each.name}
        | {key: value for key, value in vars(column).items() if key != "reasons"}
        for step in (report.shift.steps if report.shift else ())
        for each in step.slices
        for column in each.columns
    ]
    return _typed(pd.DataFrame(encodable(rows), dtype=object))


def series_frame(report: Report) -> pd.DataFrame:
    """One row a step: slice activity and pooled zero fraction."""
    import pandas as pd  # noqa: PLC0415  heavy, only where asked for

    rows = [
        {"run": found.run, "slice": found.slice} | vars(point)
        for found in report.associations
        for point in found.series
    ]
    return _typed(pd.DataFrame(encodable(rows), dtype=object))


def encodable(rows: Iterable[dict[str, Any] | tuple[Any, ...]]) -> list[dict[str, Any] | tuple[Any, ...]]:
    """Rows whose texts fit every type of column: bytes of a file's name that are no UTF-8 are written out.

    Python holds such bytes as lone surrogates, which pandas refuses where its strings are Arrow's.
    """
    return [
        {name: _encodable(value) for name, value in row.items()}
        if isinstance(row, dict)
        else tuple(map(_encodable, row))
        for row in rows
    ]


def _encodable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of nullable types. A column with any float is one of floats: 1.0 stays 1.0 beside 0.5."""
    dtypes = {}
    for name in frame:
        types = {type(value) for value in frame[name]}
        dtypes[name] = next((dtype for kind, dtype in _DTYPES.items() if kind in types), "object")
    return frame.astype(dtypes)


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV; text that a spreadsheet would run as a formula gets a quote in front."""
    for column in frame.select_dtypes(exclude="number"):
        frame[column] = [_harmless(value) if isinstance(value, str) else value for value in frame[column]]
    return frame.to_csv(index=False)


def _harmless(text: str) -> str:
    shown = safe(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _columns() -> list[str]:
    return list(_names()) + [f"zeros_{kind}" for kind in KINDS]


def _names() -> tuple[str, ...]:
    return (
        "run",
        "step",
        "source",
        "layer",
        "origin",
        "num_elements",
        "num_zero",
        "num_exact_zero",
        "num_nonfinite",
        "zero_fraction",
        "baseline_zero_fraction",
        "norm",
        "max_abs",
        "status",
        "position_activity",
    )


def _row(snapshot: SnapshotGradient, layer: LayerGradient) -> dict[str, Any]:
    own = {name: getattr(layer, name) for name in _names() if hasattr(layer, name)}
    kinds = {f"zeros_{kind}": getattr(layer.anatomy, kind) if layer.anatomy else None for kind in KINDS}
    of_snapshot = {name: getattr(snapshot, name) for name in ("run", "step", "source", "position_activity")}
    status = {"origin": layer.origin.value, "status": layer.status.value}
    return own | of_snapshot | {"layer": layer.name} | kinds | status
