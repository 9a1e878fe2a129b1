"""What is known of one snapshot, gathered for the hypotheses; what is not, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.errors import UnreadableFile
from gradscope.judge.hypothesis_facts import Facts, zero_layers
from gradscope.run.explain_numbers import past_steps, pushed_zeros, taken_inputs, unreached_layers
from gradscope.run.recorded import POSITION
from gradscope.run.repeated import lost_fractions
from gradscope.run.step_effects import moment_effects
from gradscope.run.units import moment_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.records import Effect, Report, SnapshotGradient, StepShift, UnitActivity
    from gradscope.run.find import Progress
    from gradscope.run.given import Means
    from gradscope.run.join import Moment
    from gradscope.run.listing import Opened, OpenedRun

NOT_ASKED: Final = "activations and interventions recompute gradients, and --source {source} asks for others"
NO_BAD_LAYER: Final = "no layer reached a limit, so none was tried"
NO_STEP_SHIFT: Final = "no inputs of this step are known"
NO_SLICE: Final = "no slice is called {name!r}; define it with --slice {name}=A:B"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is explained."""

    report: Report
    opened: Opened
    moment: Moment
    snapshot: SnapshotGradient
    name: str
    """Of the slice."""

    @property
    def run(self) -> OpenedRun:
        """The one run."""
        return self.opened.runs[0]


def facts_of(
    subject: Subject, means: Means, *, effects: tuple[Effect, ...] = (), progress: Progress | None = None
) -> Facts:
    """Everything known of a snapshot: what files hold, what units do, what interventions and float64 show.

    Args:
        subject: the snapshot and its run.
        means: settings and what recomputing may use.
        effects: of interventions on that slice made before; made anew where there are none.
        progress: told of each gradient pass.
    """
    units = _units(subject, means, progress)
    done = effects or _effects(subject, means, progress)
    return _facts(subject, units, done, _lost(subject, means, progress))


def _facts(
    subject: Subject,
    units: tuple[UnitActivity, ...] | str,
    effects: tuple[Effect, ...] | str,
    lost: Mapping[str, float] | str,
) -> Facts:
    """What is known, and why the rest is not."""
    report, snapshot, run = subject.report, subject.snapshot, subject.run
    settings = subject.opened.settings
    shift = _step_shift(report, snapshot)
    inputs = taken_inputs(snapshot, run.slices, shift)
    pushed = _pushed(subject)
    missing = {
        "units": units,
        "effects": effects,
        "inputs": inputs,
        "pushed_zeros": pushed,
        "lost_fractions": lost,
        "shift": _why_no_shift(report, run) if shift is None else None,
    }
    return Facts(
        snapshot=snapshot,
        limits={layer.name: settings.limits_of(layer.name) for layer in snapshot.layers},
        slice=subject.name,
        at_rest=subject.name == POSITION and snapshot.position_activity == 0,
        units=() if isinstance(units, str) else units,
        effects=() if isinstance(effects, str) else effects,
        shift=shift,
        history=past_steps(report, run, snapshot, settings),
        inputs=None if isinstance(inputs, str) else inputs,
        pushed_zeros=None if isinstance(pushed, str) else pushed,
        lost_fractions=None if isinstance(lost, str) else lost,
        unreached=unreached_layers(snapshot),
        reasons={key: why for key, why in missing.items() if isinstance(why, str)},
    )


def _units(subject: Subject, means: Means, progress: Progress | None) -> tuple[UnitActivity, ...] | str:
    if means.settings.source in {"stored", "optimizer"}:
        return NOT_ASKED.format(source=means.settings.source)
    if progress:
        progress("looking at units", 0, 1)
    try:
        return moment_units(subject.moment, subject.run.slices, means)
    except UnreadableFile as error:
        subject.opened.found.add_unreadable(error)
        return f"{error.path.name} cannot be read any more: {error.reason}"
    finally:
        if progress:
            progress("looking at units", 1, 1)


def _effects(subject: Subject, means: Means, progress: Progress | None) -> tuple[Effect, ...] | str:
    """Interventions on the layers with zeros; none where there is nothing to take away."""
    if means.settings.source in {"stored", "optimizer"}:
        return NOT_ASKED.format(source=means.settings.source)
    known, name = subject.run.slices, subject.name
    if known.named(name) is None:
        return known.reason or NO_SLICE.format(name=name)
    layers = _layers_with_zeros(subject, means)
    if not layers:
        return NO_BAD_LAYER

    def told(done: int, total: int) -> None:
        if progress:
            progress("intervening", done, total)

    return moment_effects(subject.moment, means, known, name, layers=layers, told=told)


def _lost(subject: Subject, means: Means, progress: Progress | None) -> Mapping[str, float] | str:
    """What float64 brings back in the layers with zeros."""
    if means.settings.source in {"stored", "optimizer"}:
        return NOT_ASKED.format(source=means.settings.source)
    layers = _layers_with_zeros(subject, means)
    if not layers:
        return NO_BAD_LAYER
    if progress:
        progress("repeating in float64", 0, 1)
    try:
        return lost_fractions(subject.moment, means, layers)
    except UnreadableFile as error:
        subject.opened.found.add_unreadable(error)
        return f"{error.path.name} cannot be read any more: {error.reason}"
    finally:
        if progress:
            progress("repeating in float64", 1, 1)


def _layers_with_zeros(subject: Subject, means: Means) -> list[str]:
    limits = {layer.name: means.settings.limits_of(layer.name) for layer in subject.snapshot.layers}
    return [layer.name for layer in zero_layers(Facts(snapshot=subject.snapshot, limits=limits))]


def _pushed(subject: Subject) -> dict[str, int] | str:
    try:
        tolerance = subject.opened.settings.zero_tolerance
        return pushed_zeros(subject.moment, subject.snapshot, tolerance)
    except UnreadableFile as error:
        subject.opened.found.add_unreadable(error)
        return f"{error.path.name} cannot be read any more: {error.reason}"


def _step_shift(report: Report, snapshot: SnapshotGradient) -> StepShift | None:
    steps = report.shift.steps if report.shift is not None else ()
    return next((each for each in steps if (each.run, each.step) == (snapshot.run, snapshot.step)), None)


def _why_no_shift(report: Report, run: OpenedRun) -> str:
    reasons: Mapping[str, str] = report.shift.reasons if report.shift is not None else {}
    return reasons.get(run.files.run, run.slices.reason or NO_STEP_SHIFT)
