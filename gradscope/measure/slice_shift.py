"""Numbers of one slice in one window become its record, every None with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from gradscope.records import ColumnShift, Slice, SliceShift, Status
from gradscope.settings import CRITICAL_WASSERSTEIN, SHIFTED_WASSERSTEIN, SIGNIFICANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradscope.measure.distance import Distances

    Floats: TypeAlias = NDArray[np.float64]

NO_ROWS: Final = "no rows in this window"
NO_REFERENCE_ROWS: Final = "no rows in the reference window"
NOT_FINITE: Final = "no finite value on one side"
IS_REFERENCE: Final = "the reference itself is not tested"
POOLED: Final = "in pooled standard deviations: the column is constant in the reference"
NO_OTHER: Final = "no other slice to compare with"
OTHERS_AT_ZERO: Final = "the median column of the other slices is all zeros"
_DISTANCES: Final = ("wasserstein", "wasserstein_max", "ks", "fraction_shifted", "status")


@dataclass(frozen=True, kw_only=True)
class SliceColumns:
    """One slice in one window; arrays are per column, NaN where unknown."""

    num_rows: int
    num_nonfinite: NDArray[np.int64]
    active_fraction: Floats
    rms: Floats
    distances: Distances
    activity: float | None
    is_reference: bool
    adjusted: Floats = field(default_factory=lambda: np.zeros(0))


def slice_shifts(
    slices: Sequence[Slice],
    columns: Sequence[SliceColumns],
    reference: Sequence[SliceColumns],
    feature_names: Sequence[str] | None,
) -> tuple[SliceShift, ...]:
    """Records of one window, in the order of ``slices``, from its columns and the reference's."""
    return tuple(
        _slice_shift(
            each,
            columns[place],
            reference[place],
            [other.rms for at, other in enumerate(columns) if at != place],
            feature_names,
        )
        for place, each in enumerate(slices)
    )


def _slice_shift(
    of: Slice,
    columns: SliceColumns,
    reference: SliceColumns,
    others: Sequence[Floats],
    feature_names: Sequence[str] | None,
) -> SliceShift:
    apart = columns.distances
    known = np.isfinite(apart.wasserstein)
    reasons: dict[str, str] = {}
    if not known.any():
        missing = NO_ROWS if not columns.num_rows else NO_REFERENCE_ROWS
        missing = missing if not columns.num_rows or not reference.num_rows else NOT_FINITE
        reasons = dict.fromkeys(
            ("wasserstein", "wasserstein_max", "ks", "fraction_shifted", "status"), missing
        )
    if columns.activity is None:
        reasons["activity"] = NO_ROWS
    rms = _slice_rms(columns.rms)
    if rms is None:
        reasons["rms"] = NO_ROWS if not columns.num_rows else NOT_FINITE
    shifted = (apart.wasserstein >= SHIFTED_WASSERSTEIN) & (columns.adjusted < SIGNIFICANCE)
    mean = float(apart.wasserstein[known].mean()) if known.any() else None
    return SliceShift(
        name=of.name,
        num_columns=len(of.columns),
        activity=columns.activity,
        wasserstein=mean,
        wasserstein_max=float(apart.wasserstein[known].max()) if known.any() else None,
        ks=float(apart.ks[known].mean()) if known.any() else None,
        fraction_shifted=float(shifted[known].mean()) if known.any() else None,
        rms=rms,
        rms_ratio=_rms_ratio(rms, others, reasons),
        status=_status(mean),
        columns=_column_shifts(of, columns, reference, feature_names),
        reasons=reasons,
    )


def _column_shifts(
    of: Slice, columns: SliceColumns, reference: SliceColumns, feature_names: Sequence[str] | None
) -> tuple[ColumnShift, ...]:
    names = feature_names if feature_names and not of.flat and not of.key else None
    return tuple(
        ColumnShift(
            index=index,
            name=names[index] if names else None,
            reasons=_column_reasons(columns, reference, place),
            **_column_measures(columns, reference, place),
        )
        for place, index in enumerate(of.columns)
    )


def _column_measures(columns: SliceColumns, reference: SliceColumns, place: int) -> dict[str, float | None]:
    apart = columns.distances
    return {
        "active_fraction_reference": _known(reference.active_fraction[place]),
        "active_fraction": _known(columns.active_fraction[place]),
        "wasserstein": _known(apart.wasserstein[place]),
        "ks": _known(apart.ks[place]),
        "psi": _known(apart.psi[place]),
        "p_value_adjusted": _known(columns.adjusted[place]),
        "rms": _known(columns.rms[place]),
        "rms_reference": _known(reference.rms[place]),
    }


def _column_reasons(columns: SliceColumns, reference: SliceColumns, place: int) -> dict[str, str]:
    missing = NO_ROWS if not columns.num_rows else NO_REFERENCE_ROWS if not reference.num_rows else NOT_FINITE
    measures = _column_measures(columns, reference, place)
    reasons = {key: missing for key, value in measures.items() if value is None}
    if columns.is_reference:
        reasons["p_value_adjusted"] = IS_REFERENCE
    elif columns.distances.pooled[place] and measures["wasserstein"] is not None:
        reasons["wasserstein"] = POOLED
    left_out = int(columns.num_nonfinite[place] + reference.num_nonfinite[place])
    if left_out:
        reasons["nonfinite"] = f"{left_out} non-finite values left out, reference and window together"
    return reasons


def _slice_rms(columns: Floats) -> float | None:
    known = columns[np.isfinite(columns)]
    # hypot of the columns' rms, as the square of a huge one overflows.
    return float(np.hypot.reduce(known) / np.sqrt(len(known))) if len(known) else None


def _rms_ratio(rms: float | None, others: Sequence[Floats], reasons: dict[str, str]) -> float | None:
    known = np.concatenate([each[np.isfinite(each)] for each in others] or [np.zeros(0)])
    median = float(np.median(known)) if len(known) else None
    if rms is None or median is None:
        reasons["rms_ratio"] = NO_OTHER if not others else reasons.get("rms", NOT_FINITE)
        return None
    if not median:
        reasons["rms_ratio"] = OTHERS_AT_ZERO
        return None
    return rms / median


def _status(mean_wasserstein: float | None) -> Status:
    if mean_wasserstein is None:
        return Status.UNKNOWN
    if mean_wasserstein >= CRITICAL_WASSERSTEIN:
        return Status.CRITICAL
    return Status.WARN if mean_wasserstein >= SHIFTED_WASSERSTEIN else Status.OK


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
