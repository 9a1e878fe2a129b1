"""Facts of one snapshot are gathered, and every hypothesis judged by them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gradscope.errors import UsageError
from gradscope.judge.hypotheses import findings
from gradscope.judge.hypothesis_facts import Facts, bad_layers
from gradscope.records import Explanation, Status
from gradscope.run.explain_facts import Subject, facts_of
from gradscope.run.given import Means
from gradscope.run.listing import no_step
from gradscope.run.recorded import POSITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import Effect, Report, SnapshotGradient
    from gradscope.run.find import Progress
    from gradscope.run.given import Announce
    from gradscope.run.join import Moment
    from gradscope.run.listing import Opened, OpenedRun

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
    subject = Subject(report=report, opened=opened, moment=moment, snapshot=snapshot, name=name)
    made = tuple(each for each in effects if each.step == snapshot.step)
    facts = facts_of(subject, means, effects=made, progress=progress)
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
        why = NONE_TO_EXPLAIN if step is None else f"--step {step}: {no_step(opened.found, step, 'snapshot')}"
        raise UsageError(f"{why}. Steps of run {run.files.run!r}: {shown or 'none'}.")
    return max(wanted, key=lambda pair: (pair[1].status.rank, pair[1].zero_fraction or 0.0))


def _notes(snapshot: SnapshotGradient) -> tuple[str, ...]:
    """What limits the answer."""
    bare = Facts(snapshot=snapshot)
    unknown = [each.name for each in bad_layers(bare) if each.baseline_zero_fraction is None]
    if not unknown:
        return ()
    return ("how many zeros a fresh network of this shape would have is not known for some of these layers",)
