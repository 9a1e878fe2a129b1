"""Input shift of both runs side by side, each against its own reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.judge.compare_zeros import NO_COMMON_STEP
from gradscope.records import ComparedShift, ComparedSlice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.judge.compare_steps import Pair
    from gradscope.records import Report, SliceShift, StepShift

NO_SLICE: Final = "no such slice"
NOT_MEASURED: Final = "not measured; `report -o FILE.json` writes it, `scan` does not"
NO_INPUTS: Final = "no step at which both have inputs"
_MEASURES: Final = ("activity", "wasserstein", "rms", "rms_ratio")


def compared_shift(a: Report, b: Report, pairs: Sequence[Pair]) -> tuple[ComparedShift, ...]:
    """Every slice at every step at which both runs have inputs."""
    steps_a, steps_b = _steps(a), _steps(b)
    found: list[ComparedShift] = []
    for pair in pairs:
        if pair.a is None or pair.b is None:
            continue
        one, other = steps_a.get(pair.a.step), steps_b.get(pair.b.step)
        if one is not None and other is not None:
            found.extend(_slices(pair.step, one, other))
    return tuple(found)


def shift_reasons(a: Report, b: Report, shift: Sequence[ComparedShift]) -> dict[str, str]:
    """Why there is no shift to show, where there is none."""
    if shift:
        return {}
    whys = [f"{name}: {why}" for name, report in (("A", a), ("B", b)) if (why := _why(report))]
    return {"shift": "; ".join(whys) or NO_INPUTS}


def reference_steps(report: Report) -> tuple[int | None, ...]:
    """Steps that the run's shift is measured against."""
    return tuple(step.step for step in (report.shift.steps if report.shift else ()) if step.is_reference)


def _why(report: Report) -> str:
    if report.shift is None:
        return NOT_MEASURED
    return "" if report.shift.steps else next(iter(report.shift.reasons.values()), "no inputs")


def _steps(report: Report) -> Mapping[int | None, StepShift]:
    return {step.step: step for step in (report.shift.steps if report.shift else ())}


def _slices(step: int | None, one: StepShift, other: StepShift) -> list[ComparedShift]:
    in_a = {each.name: _slice(each, one) for each in one.slices}
    in_b = {each.name: _slice(each, other) for each in other.slices}
    return [
        ComparedShift(
            step=step,
            slice=name,
            a=in_a.get(name),
            b=in_b.get(name),
            reasons={side: NO_SLICE for side, known in (("a", in_a), ("b", in_b)) if name not in known}
            | ({} if step is not None else {"step": NO_COMMON_STEP}),
        )
        for name in dict.fromkeys([*in_a, *in_b])
    ]


def _slice(found: SliceShift, step: StepShift) -> ComparedSlice:
    return ComparedSlice(
        step=step.step,
        is_reference=step.is_reference,
        activity=found.activity,
        wasserstein=found.wasserstein,
        rms=found.rms,
        rms_ratio=found.rms_ratio,
        status=found.status,
        reasons={key: why for key, why in found.reasons.items() if key in {*_MEASURES, "status"}},
    )
