"""Facts of one snapshot are gathered, and every hypothesis judged by them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gradscope.errors import UnreadableFile, UsageError
from gradscope.judge.hypotheses import findings
from gradscope.judge.hypothesis_facts import Facts, bad_layers, zero_layers
from gradscope.records import Explanation, Status
from gradscope.run.explain_numbers import past_steps, pushed_zeros, taken_inputs, unreached_layers
from gradscope.run.given import Means
from gradscope.run.recorded import POSITION
from gradscope.run.step_effects import moment_effects
from gradscope.run.units import moment_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradscope.records import Effect, Report, SnapshotGradient, StepShift, UnitActivity
    from gradscope.run.find import Progress
    from gradscope.run.given import Announce
    from gradscope.run.join import Moment
    from gradscope.run.listing import Opened, OpenedRun

NOT_ASKED: Final = "activations and interventions recompute gradients, and --source {source} asks for others"
NO_BAD_LAYER: Final = "no layer reached a limit, so none was tried"
NO_STEP_SHIFT: Final = "no inputs of this step are known"
NO_SLICE: Final = "no slice is called {name!r}; define it with --slice {name}=A:B"
NONE_TO_EXPLAIN: Final = "no snapshot of this run could be measured"
MOST_STEPS: Final = 12
"""Steps named where the one asked for is not there."""


def explanation(
    report: Report,
    opened: Opened,
    *,
    step: int | None = None,
    name: str = POSITION,
    effects: Sequence[Effect] = (),
    announce: Announce | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Every hypothesis on one snapshot of one run: the worst, or the one of a step.

    Args:
        report: scanned, with its shift.
        opened: of one run, as ``one_run`` gives it.
        step: of the snapshot; None: the worst status, then the most zeros.
        name: of the slice that interventions are made on.
        effects: of interventions on that slice made before; made anew where none is of this step.
        announce: told of the user's own code before it runs.
        progress: told of each gradient pass.

    Raises:
        UsageError: no snapshot of that step.
    """
    moment, snapshot = _chosen(report, opened, opened.runs[0], step)
    means = Means(settings=opened.settings, given=opened.given, announce=announce)
    subject = _Subject(report=report, opened=opened, moment=moment, snapshot=snapshot, name=name)
    units = _units(subject, means, progress)
    made = tuple(each for each in effects if each.step == snapshot.step)
    facts = _facts(subject, units, made or _effects(subject, means, progress))
    return Explanation(
        run=snapshot.run,
        step=snapshot.step,
        source=snapshot.source,
        findings=findings(facts),
        units=facts.units,
        effects=facts.effects,
        notes=_notes(snapshot),
        reasons=facts.reasons,
    )


def run_whys(
    report: Report, opened: Opened, *, announce: Announce | None = None, progress: Progress | None = None
) -> dict[str, Explanation]:
    """The worst snapshot of every run explained, where one reached a limit; interventions are taken over.

    Args:
        report: scanned, with its shift and associations.
        opened: all its runs.
        announce: told of the user's own code before it runs.
        progress: told of each gradient pass.
    """
    made = {each.run: each.effects for each in report.associations if each.slice == POSITION}
    found = {}
    for run in opened.runs:
        name = run.files.run
        bad = (each.status.rank >= Status.WARN.rank for each in report.snapshots if each.run == name)
        if any(bad):
            found[name] = explanation(
                report,
                replace(opened, runs=(run,)),
                effects=made.get(name, ()),
                announce=announce,
                progress=progress,
            )
    return found


@dataclass(frozen=True, kw_only=True)
class _Subject:
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


def _facts(
    subject: _Subject, units: tuple[UnitActivity, ...] | str, effects: tuple[Effect, ...] | str
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
        unreached=unreached_layers(snapshot),
        reasons={key: why for key, why in missing.items() if isinstance(why, str)},
    )


def _chosen(
    report: Report, opened: Opened, run: OpenedRun, step: int | None
) -> tuple[Moment, SnapshotGradient]:
    by_source = {each.source: each for each in report.snapshots if each.run == run.files.run}
    pairs = [
        (moment, by_source[source])
        for moment in run.moments
        if (source := opened.found.relative(moment.main.source)) in by_source
    ]
    wanted = [pair for pair in pairs if step is None or pair[1].step == step]
    if not wanted:
        steps = [str(pair[1].step) for pair in pairs if pair[1].step is not None]
        shown = ", ".join(steps[:MOST_STEPS]) + (", ..." if len(steps) > MOST_STEPS else "")
        what = f"--step {step}: no snapshot of that step" if step is not None else NONE_TO_EXPLAIN
        raise UsageError(f"{what}. Steps of run {run.files.run!r}: {shown or 'none'}.")
    return max(wanted, key=lambda pair: (pair[1].status.rank, pair[1].zero_fraction or 0.0))


def _units(subject: _Subject, means: Means, progress: Progress | None) -> tuple[UnitActivity, ...] | str:
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


def _effects(subject: _Subject, means: Means, progress: Progress | None) -> tuple[Effect, ...] | str:
    """Interventions on the layers with zeros; none where there is nothing to take away."""
    if means.settings.source in {"stored", "optimizer"}:
        return NOT_ASKED.format(source=means.settings.source)
    known, name = subject.run.slices, subject.name
    if known.named(name) is None:
        return known.reason or NO_SLICE.format(name=name)
    limits = {layer.name: means.settings.limits_of(layer.name) for layer in subject.snapshot.layers}
    layers = [layer.name for layer in zero_layers(Facts(snapshot=subject.snapshot, limits=limits))]
    if not layers:
        return NO_BAD_LAYER

    def told(done: int, total: int) -> None:
        if progress:
            progress("intervening", done, total)

    return moment_effects(subject.moment, means, known, name, layers=layers, told=told)


def _pushed(subject: _Subject) -> dict[str, int] | str:
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


def _notes(snapshot: SnapshotGradient) -> tuple[str, ...]:
    """What limits the answer."""
    bare = Facts(snapshot=snapshot)
    unknown = [each.name for each in bad_layers(bare) if each.baseline_zero_fraction is None]
    if not unknown:
        return ()
    return ("how many zeros a fresh network of this shape would have is not known for some of these layers",)
