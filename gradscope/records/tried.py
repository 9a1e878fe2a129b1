"""Trials: a checkpoint trained on offline as it was and with each remedy, on the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gradscope.records.opened import Reasons


class TrialVerdict(StrEnum):
    """What a remedy did to the zeros, against the same training without it."""

    HELPS = "helps"
    NO_EFFECT = "no effect"
    HARMS = "harms"
    UNCLEAR = "unclear"


@dataclass(frozen=True, kw_only=True)
class TrialPoint:
    """Means over some gradient steps that follow each other, and over seeds."""

    gradient_step: int
    """The last of them, from 1."""
    zero_fraction: float | None = None
    loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrialLayer:
    """One layer at the end of a trial."""

    name: str
    zero_fraction: float | None = None
    """Over the last quarter of the gradient steps, mean over seeds, outside the slice's own columns."""
    difference: float | None = None
    """Against the trial without remedy."""


@dataclass(frozen=True, kw_only=True)
class TrialCrossing:
    """First gradient step from which a layer's zeros are at or above a limit, as a mean over its point."""

    layer: str
    limit: str
    gradient_step: int
    zero_fraction: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One remedy; ``none`` is the training as it was."""

    remedy: str
    num_seeds: int = 0
    """Trainings that were finished."""
    series: Sequence[TrialPoint] = ()
    zero_fraction: float | None = None
    """Of all layers, over the last quarter of the gradient steps, mean over seeds; weights outside the
    slice's own columns, without expected zeros."""
    difference: float | None = None
    """Against ``none``, seed by seed."""
    interval: tuple[float, float] | None = None
    """95 % of ``difference`` over seeds (Student's t)."""
    loss: float | None = None
    """Of values or critics, over the last quarter, mean over seeds."""
    layers: Sequence[TrialLayer] = ()
    crossings: Sequence[TrialCrossing] = ()
    verdict: TrialVerdict | None = None
    """None where there is none: for ``none``, and where it could not be tried."""
    reasons: Reasons = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TryReport:
    """All remedies tried from one checkpoint."""

    run: str
    source: str
    from_step: int
    to_step: int
    """Last step whose rows were met."""
    gradient_steps: int
    num_seeds: int
    """That were asked for."""
    batch_size: int
    slice: str
    slices_from: str | None
    """Who said which columns it is: config, option, recorded, guessed; None where nobody did (see notes)."""
    rows_per_update: float
    """New rows of the environments before each gradient step, as in the run."""
    trials: Sequence[Trial] = ()
    is_interrupted: bool = False
    notes: Sequence[str] = ()
