"""Every hypothesis of the field on one snapshot, worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_clipping import explosion_clipping
from gradscope.judge.hypothesis_effects import slice_is_cause
from gradscope.judge.hypothesis_expected import expected_zeros, never_trained
from gradscope.judge.hypothesis_inputs import domain_shift, flat_input, scale_mismatch
from gradscope.judge.hypothesis_underflow import underflow
from gradscope.judge.hypothesis_units import dead_units, saturation
from gradscope.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradscope.judge.hypothesis_facts import Facts
    from gradscope.records import Finding

HYPOTHESES: Final[tuple[Callable[[Facts], Finding], ...]] = (
    saturation,
    scale_mismatch,
    slice_is_cause,
    dead_units,
    flat_input,
    domain_shift,
    explosion_clipping,
    underflow,
    never_trained,
    expected_zeros,
)
"""Causes before the kinds they show as; what is no fault comes last."""
SHOWN: Final = ("scale-mismatch", "domain-shift", "slice-is-cause")
"""What only an intervention supports: before the kinds of zeros that they make."""
MOST: Final = 0.5
"""Share of what the largest finding accounts for that a shown cause needs to stand before it."""
_RANK: Final = {Verdict.SUPPORTED: 0, Verdict.NOT_TESTABLE: 1, Verdict.REJECTED: 2}


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Supported first, shown causes before what they make, then by share; then not testable, rejected."""
    found = [(place, hypothesis(facts)) for place, hypothesis in enumerate(HYPOTHESES)]
    shares = (each.share_of_zeros or 0.0 for _, each in found if each.verdict is Verdict.SUPPORTED)
    largest = max(shares, default=0.0)
    ordered = sorted(found, key=lambda each: (*_order(each[1], largest), each[0]))
    return tuple(finding for _, finding in ordered)


def _order(finding: Finding, largest: float) -> tuple[int, bool, bool, float]:
    is_harmless = finding.code == "expected-zeros"
    share = finding.share_of_zeros or 0.0
    is_cause = finding.code in SHOWN and share >= MOST * largest
    return _RANK[finding.verdict], is_harmless, not is_cause, -round(share, 2)
