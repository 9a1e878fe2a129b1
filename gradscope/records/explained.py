"""Why gradients are zero: units that are dead or saturated, effects of interventions, findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gradscope.records.opened import Reasons


class Verdict(StrEnum):
    """What became of a hypothesis; not testable is not rejected."""

    SUPPORTED = "supported"
    REJECTED = "rejected"
    NOT_TESTABLE = "not testable"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Zeros of one layer with and without an intervention on one slice: same weights, same batches."""

    step: int | None
    layer: str
    intervention: str
    """flat, permuted, rescaled, active rows, inactive rows."""
    zero_fraction: float | None = None
    """As it is, over weights outside the slice's own columns."""
    zero_fraction_after: float | None = None
    difference: float | None = None
    """After minus before, outside the slice's own columns."""
    mechanical_difference: float | None = None
    """The same of the slice's own columns: what the intervention does by construction."""
    interval: tuple[float, float] | None = None
    """95 % bootstrap interval of ``difference`` over batches."""
    verdict: str = "unclear"
    """effect, no effect, unclear."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UnitActivity:
    """Units of one layer over the rows of all recomputed batches."""

    layer: str
    """Weight whose rows make these units."""
    num_units: int
    activation: str | None = None
    """Type of the activation behind it: ReLU, Tanh, ...; None where none follows."""
    num_rows: int = 0
    dormant_fractions: Mapping[str, float] = field(default_factory=dict)
    """Share of units with a mean-normalised score at or below tau, by tau "0", "0.025", "0.1" (ReDo)."""
    dead: Sequence[int] = ()
    """Zero on every row."""
    saturated: Sequence[int] = ()
    """Slope exactly 0 on every row although the output is not 0."""
    saturated_fraction: float | None = None
    """Share of (row, unit) pairs with a slope of exactly 0 and an output that is not 0."""
    outgoing_zero: Sequence[int] = ()
    """All weights of the next layer from it are exactly 0."""
    num_cloned: int | None = None
    """Units that double another one's outputs."""
    effective_rank: float | None = None
    """exp of the entropy of the normalised singular values of the outputs [rows, units] (Roy & Vetterli)."""
    update_to_weight: float | None = None
    """rms of the next optimizer step over rms of the weight."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One number that a verdict rests on."""

    measure: str
    value: float | None
    limit: float | None = None
    source: str = ""
    """Where the limit comes from."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One hypothesis and what became of it."""

    code: str
    """flat-input, dead-units, saturation, ... as the contract names them."""
    verdict: Verdict
    layers: Sequence[str] = ()
    share_of_zeros: float | None = None
    """Of all zeros of the snapshot, those this hypothesis accounts for, 0..1."""
    evidence: Sequence[Evidence] = ()
    reason: str = ""
    """In plain words, with the numbers; for not testable: what is missing."""
    what_to_do: str = ""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Every hypothesis on one snapshot of one run, worst first."""

    run: str
    step: int | None
    source: str
    findings: Sequence[Finding] = ()
    units: Sequence[UnitActivity] = ()
    effects: Sequence[Effect] = ()
    notes: Sequence[str] = ()
    reasons: Reasons = field(default_factory=dict)
