"""Every hypothesis of the field on one snapshot, worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.judge.hypothesis_effects import slice_is_cause
from gradscope.judge.hypothesis_expected import expected_zeros, never_trained
from gradscope.judge.hypothesis_inputs import domain_shift, flat_input, scale_mismatch
from gradscope.judge.hypothesis_numbers import explosion_clipping, underflow
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
_RANK: Final = {Verdict.SUPPORTED: 0, Verdict.NOT_TESTABLE: 1, Verdict.REJECTED: 2}


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Supported first, by their share of the zeros; then what could not be tested, then what lost."""
    found = [(place, hypothesis(facts)) for place, hypothesis in enumerate(HYPOTHESES)]
    ordered = sorted(found, key=lambda each: (*_order(each[1]), each[0]))
    return tuple(finding for _, finding in ordered)


def _order(finding: Finding) -> tuple[int, bool, float]:
    is_harmless = finding.code == "expected-zeros"
    return _RANK[finding.verdict], is_harmless, -round(finding.share_of_zeros or 0.0, 2)
