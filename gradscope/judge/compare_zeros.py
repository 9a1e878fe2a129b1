"""Zeros of one gradient in A against those in B: by how much they differ, and whether that counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import hypot
from typing import TYPE_CHECKING, Final, Protocol

from gradscope.records import CompareVerdict
from gradscope.settings import BASELINE_MARGIN

if TYPE_CHECKING:
    from collections.abc import Mapping

MARGIN: Final = BASELINE_MARGIN
_LEAST: Final = MARGIN - 1e-12
"""0.25 - 0.20 is 0.04999... in floats and must still count as 0.05."""
NO_FRESH: Final = "the zeros of a fresh network are not known in {runs}"
NO_INTERVAL: Final = "no interval over batches in {runs}"
OPPOSITE: Final = "one has more zeros, the other more beyond its fresh network"
WITHIN: Final = "the batches spread as far as the two differ"
NO_COMMON_STEP: Final = "the only snapshots of both runs, which have no step in common"
NOT_KNOWN: Final = "its zeros are not known in {runs}"


class Zeros(Protocol):
    """What is compared of a layer or of a whole snapshot."""

    @property
    def zero_fraction(self) -> float | None: ...  # noqa: D102
    @property
    def unexpected_zero_fraction(self) -> float | None: ...  # noqa: D102
    @property
    def baseline_zero_fraction(self) -> float | None: ...  # noqa: D102
    @property
    def interval(self) -> tuple[float, float] | None: ...  # noqa: D102
    @property
    def num_nonfinite(self) -> int | None: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class ZeroDifference:
    """B minus A, and what it comes to."""

    difference: float | None = None
    difference_beyond_fresh: float | None = None
    interval: tuple[float, float] | None = None
    verdict: CompareVerdict = CompareVerdict.NOT_COMPARABLE
    reasons: Mapping[str, str] = field(default_factory=dict)


def zero_difference(a: Zeros, b: Zeros) -> ZeroDifference:
    """Zeros of B minus those of A, expected ones left out; what is unknown stays unknown.

    It counts from 0.05 on, and where both fresh networks are known, only if what each run has beyond its
    own differs as much: neither zeros that fresh networks have too, nor fresh networks that differ where
    the zeros do not, make a run worse. Where these two say the opposite it is unclear. Where both have
    intervals over batches, so has the difference (MOVER: Zou and Donner 2008, of independent samples), and
    it is unclear where that reaches 0. NaN or infinite values in one run alone make it worse.
    """
    if a.unexpected_zero_fraction is None or b.unexpected_zero_fraction is None:
        why = NOT_KNOWN.format(runs=which(a.unexpected_zero_fraction, b.unexpected_zero_fraction))
        keys = ("difference", "difference_beyond_fresh", "interval", "verdict")
        return ZeroDifference(verdict=_nonfinite(a, b), reasons=dict.fromkeys(keys, why))
    plain = b.unexpected_zero_fraction - a.unexpected_zero_fraction
    beyond = _beyond_fresh(a, b)
    interval = _interval(plain, a, b)
    verdict, why = _verdict(plain, beyond, interval)
    reasons = {"verdict": why} if why else {}
    if beyond is None:
        runs = which(a.baseline_zero_fraction, b.baseline_zero_fraction)
        reasons["difference_beyond_fresh"] = NO_FRESH.format(runs=runs)
    if interval is None:
        reasons["interval"] = NO_INTERVAL.format(runs=which(a.interval, b.interval))
    broken = _nonfinite(a, b)
    return ZeroDifference(
        difference=plain,
        difference_beyond_fresh=beyond,
        interval=interval,
        verdict=verdict if broken is CompareVerdict.NOT_COMPARABLE else broken,
        reasons=reasons,
    )


def which(a: object, b: object) -> str:
    """The runs in which a value is missing: "A", "B", "A and B"."""
    return " and ".join(name for name, value in (("A", a), ("B", b)) if value is None)


def differs(difference: float | None) -> bool:
    """Whether a known difference reaches the margin."""
    return difference is not None and abs(difference) >= _LEAST


def worse(difference: float) -> CompareVerdict:
    """The run with more zeros."""
    return CompareVerdict.B_WORSE if difference > 0 else CompareVerdict.A_WORSE


def _verdict(
    plain: float, beyond: float | None, interval: tuple[float, float] | None
) -> tuple[CompareVerdict, str]:
    counted = plain if beyond is None else beyond
    if not (differs(plain) and differs(counted)):
        return CompareVerdict.SAME, ""
    if plain * counted < 0:
        return CompareVerdict.UNCLEAR, OPPOSITE
    if interval is not None and not (_clear(0.0, interval) and _clear(counted - plain, interval)):
        return CompareVerdict.UNCLEAR, WITHIN
    return worse(plain), ""


def _clear(moved: float, interval: tuple[float, float]) -> bool:
    """Whether the interval, moved by what fresh networks take away, leaves 0 out."""
    return interval[0] + moved > 0 or interval[1] + moved < 0


def _beyond_fresh(a: Zeros, b: Zeros) -> float | None:
    own_a, own_b = _excess(a), _excess(b)
    return None if own_a is None or own_b is None else own_b - own_a


def _excess(zeros: Zeros) -> float | None:
    if zeros.unexpected_zero_fraction is None or zeros.baseline_zero_fraction is None:
        return None
    return max(zeros.unexpected_zero_fraction - zeros.baseline_zero_fraction, 0.0)


def _interval(plain: float, a: Zeros, b: Zeros) -> tuple[float, float] | None:
    if a.interval is None or b.interval is None or a.zero_fraction is None or b.zero_fraction is None:
        return None
    below = hypot(b.zero_fraction - b.interval[0], a.interval[1] - a.zero_fraction)
    above = hypot(b.interval[1] - b.zero_fraction, a.zero_fraction - a.interval[0])
    return plain - below, plain + above


def _nonfinite(a: Zeros, b: Zeros) -> CompareVerdict:
    """The run that alone has NaN or infinite values; not comparable where that decides nothing."""
    if a.num_nonfinite is None or b.num_nonfinite is None or bool(a.num_nonfinite) == bool(b.num_nonfinite):
        return CompareVerdict.NOT_COMPARABLE
    return CompareVerdict.A_WORSE if a.num_nonfinite else CompareVerdict.B_WORSE
