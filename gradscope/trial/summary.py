"""Curves of several seeds become one trial: points to draw, the end, the difference and a verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.judge.trials import ONE_SEED, trial_difference
from gradscope.records import Trial, TrialCrossing, TrialLayer, TrialPoint, TrialVerdict
from gradscope.trial.arms import NONE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gradscope.settings import Settings
    from gradscope.trial.training import Curve

    Floats = NDArray[np.float64]
    Curves = Mapping[int, Curve]
    """By seed."""

MOST_POINTS: Final = 40
LAST: Final = 0.25
"""Share of the gradient steps that count as the end."""
NOT_FINITE: Final = "gradients or losses are not finite"
SAME_ROWS: Final = "every seed trains on the same rows: no interval"
INTERRUPTED: Final = "interrupted before a training of it was finished"


def trial(
    remedy: str, curves: Curves, without: Curves, settings: Settings, *, is_one_batch: bool = False
) -> Trial:
    """What the finished trainings of one remedy say, against those of the same seeds without it.

    Args:
        remedy: its name.
        curves: of it, by seed.
        without: of ``none``, by seed.
        settings: limits.
        is_one_batch: whether all seeds saw the same rows: they are one training then.
    """
    if not curves:
        return Trial(remedy=remedy, reasons={"zero_fraction": INTERRUPTED, "verdict": INTERRUPTED})
    found = list(curves.values())
    bare = Trial(
        remedy=remedy,
        num_seeds=len(found),
        series=_series(found),
        zero_fraction=_known(_end([each.zeros for each in found])),
        loss=_known(_end([each.losses for each in found])),
        layers=_layers(curves, without if remedy != NONE else {}),
        crossings=_crossings(found, settings),
        reasons={"note": found[0].note} if found[0].note else {},
    )
    return bare if remedy == NONE else _judged(bare, curves, without, is_one_batch=is_one_batch)


def _judged(bare: Trial, curves: Curves, without: Curves, *, is_one_batch: bool) -> Trial:
    common = [seed for seed in curves if seed in without]
    common = common[:1] if is_one_batch else common
    reasons = dict(bare.reasons)
    bad = [each.first_bad for each in curves.values() if each.first_bad is not None]
    if bad and not any(each.first_bad is not None for each in without.values()):
        reasons["loss"] = f"the loss is not finite from gradient step {min(bad)} on"
        return replace(bare, verdict=TrialVerdict.HARMS, reasons=reasons | {"zero_fraction": NOT_FINITE})
    found = trial_difference(*([_last(each[seed].zeros) for seed in common] for each in (without, curves)))
    if found is None:
        return replace(bare, reasons=reasons | dict.fromkeys(("difference", "verdict"), NOT_FINITE))
    if found.interval is None:
        reasons["interval"] = SAME_ROWS if is_one_batch else ONE_SEED
    return replace(
        bare,
        difference=found.difference,
        interval=found.interval,
        verdict=found.verdict,
        reasons=reasons,
    )


def _layers(curves: Curves, without: Curves) -> tuple[TrialLayer, ...]:
    """Layers that every training has, as in the file."""
    names = [
        name
        for name in next(iter(curves.values())).layers
        if all(name in each.layers for each in curves.values())
    ]
    common = [seed for seed in curves if seed in without]
    return tuple(
        TrialLayer(
            name=name,
            zero_fraction=_known(_end([each.layers[name] for each in curves.values()])),
            difference=_difference(name, curves, without, common),
        )
        for name in names
        if all(len(each.layers[name]) for each in curves.values())
    )


def _difference(name: str, curves: Curves, without: Curves, common: Sequence[int]) -> float | None:
    pairs = [(without[seed].layers.get(name), curves[seed].layers[name]) for seed in common]
    if not pairs or any(before is None for before, _ in pairs):
        return None
    return _known(
        float(np.mean([_last(after) - _last(before) for before, after in pairs if before is not None]))
    )


def _series(found: Sequence[Curve]) -> tuple[TrialPoint, ...]:
    zeros, losses = (
        _points(np.mean([getattr(each, name) for each in found], axis=0)) for name in ("zeros", "losses")
    )
    ends = [int(each[-1]) + 1 for each in _parts(len(found[0].losses))]
    return tuple(
        TrialPoint(gradient_step=end, zero_fraction=_known(zero), loss=_known(loss))
        for end, zero, loss in zip(ends, zeros, losses, strict=True)
    )


def _crossings(found: Sequence[Curve], settings: Settings) -> tuple[TrialCrossing, ...]:
    """Per layer and limit, the first point at or above it."""
    crossings = []
    for name in found[0].layers:
        curves = [each.layers[name] for each in found if name in each.layers and len(each.layers[name])]
        if len(curves) < len(found):
            continue
        points, ends = _points(np.mean(curves, axis=0)), _parts(len(curves[0]))
        limits = settings.limits_of(name)
        for limit in ("warn", "critical", "collapse"):
            at = next((place for place, each in enumerate(points) if each >= getattr(limits, limit)), None)
            if at is not None:
                crossings.append(
                    TrialCrossing(
                        layer=name,
                        limit=limit,
                        gradient_step=int(ends[at][-1]) + 1,
                        zero_fraction=float(points[at]),
                    )
                )
    return tuple(crossings)


def _parts(count: int) -> list[Any]:
    return [each for each in np.array_split(np.arange(count), MOST_POINTS) if len(each)]


def _points(values: Floats) -> list[float]:
    return [float(np.mean(values[each])) for each in _parts(len(values))]


def _last(values: Floats) -> float:
    """Mean over the last LAST of the gradient steps."""
    return float(np.mean(values[-max(math.ceil(LAST * len(values)), 1) :])) if len(values) else float("nan")


def _end(curves: Sequence[Floats]) -> float:
    return float(np.mean([_last(each) for each in curves]))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
