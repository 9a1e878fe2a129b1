"""TRIAL: which remedy works on this very run, without one new step in the environment.

    a checkpoint and its buffer  -> stream.py    rows of this and the later buffers, in order of collection
    or its stored rollouts       -> rollouts.py  epochs over one after the other
    or rows for --model          -> model_feed.py  shuffled epochs
    its networks and optimizers  -> recompute/trainee.py, once as they were and once per remedy (arms.py)
    the same batches for all     -> training.py  zeros and loss of every gradient step
    seed by seed                 -> summary.py   difference to the training as it was, interval, verdict

What it cannot say: how the agent would have acted with other weights. The rows are those of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import UsageError
from gradscope.records import Trial, TryReport
from gradscope.run.given import Means
from gradscope.run.interventions import AT_REST
from gradscope.run.listing import no_step
from gradscope.run.recomputed import recomputation
from gradscope.run.step_effects import own_columns_of
from gradscope.trial.arms import NEVER_MOVES, NO_OWN, NONE, REMEDIES, Context
from gradscope.trial.feeds import feed_of
from gradscope.trial.summary import trial
from gradscope.trial.training import Curve, Plan, curve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradscope.records import Slice
    from gradscope.run.find import Progress
    from gradscope.run.given import Announce
    from gradscope.run.inputs import RunSlices
    from gradscope.run.join import Moment
    from gradscope.run.listing import Opened
    from gradscope.settings import Settings
    from gradscope.trial.feed import Feed

MOST_UPDATES: Final = 1000
"""Gradient steps where nothing is asked for, or as many as the buffers hold rows for."""
NUM_SEEDS: Final = 3
NO_SLICE: Final = "no slice is called {name!r}; define it with --slice {name}=A:B"


def tried(
    opened: Opened,
    *,
    from_step: int,
    remedies: Sequence[str] = (),
    gradient_steps: int | None = None,
    seeds: int = NUM_SEEDS,
    name: str = "position",
    announce: Announce | None = None,
    progress: Progress | None = None,
) -> TryReport:
    """Train on from one checkpoint, once as it was and once per remedy; an interrupt keeps what is finished.

    Args:
        opened: of one run, as ``one_run`` gives it.
        from_step: of the checkpoint.
        remedies: names of REMEDIES; () all of them. ``none`` is always among them.
        gradient_steps: of each training; None: as many as the later buffers hold rows for, at most 1,000.
        seeds: trainings of each remedy, on batches of their own.
        name: of the slice that remedies act on.
        announce: told of the user's own code before it runs.
        progress: told of gradient steps done.

    Raises:
        UsageError: no such step or remedy, or the checkpoint cannot be trained on, with the reason.
    """
    chosen = _chosen(remedies)
    means = Means(settings=opened.settings, given=opened.given, announce=announce)
    moments = _moments(opened, from_step)
    work = _work(
        _context(moments, means, opened.runs[0].slices, name),
        from_step,
        opened.settings,
        gradient_steps,
        seeds,
    )
    work.run(chosen, progress)
    source = opened.found.relative(moments[0].main.source)
    return work.report(chosen, run=moments[0].run, source=source, from_step=from_step, slice=name)


def _work(context: Context, step: int, settings: Settings, gradient_steps: int | None, seeds: int) -> _Work:
    room = context.feed.num_updates or MOST_UPDATES
    plan = Plan(
        num_updates=gradient_steps or min(room, MOST_UPDATES),
        batch_size=context.found.batch_size,
        settings=settings,
    )
    return _Work(context=context, step=step, plan=plan, seeds=range(settings.seed, settings.seed + seeds))


@dataclass(kw_only=True)
class _Work:
    """Trainings, seed after seed, every remedy within each."""

    context: Context
    step: int
    """Of the checkpoint."""
    plan: Plan
    seeds: range
    is_interrupted: bool = False

    def __post_init__(self) -> None:
        self.curves: dict[str, dict[int, Curve]] = {}
        self.refused: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()

    def run(self, chosen: Sequence[str], progress: Progress | None) -> None:
        """All of them; an interrupt keeps what is finished."""
        total = len(chosen) * len(self.seeds) * self.plan.num_updates
        done = 0
        try:
            for seed, remedy in ((seed, remedy) for seed in self.seeds for remedy in chosen):
                self._one(remedy, seed, lambda number, done=done: _told(progress, done + number, total))
                done += self.plan.num_updates
        except KeyboardInterrupt:
            if not self.curves.get(NONE):
                raise
            self.is_interrupted = True

    def _one(self, remedy: str, seed: int, told: Any) -> None:
        if remedy in self.refused:
            return
        try:
            arm = REMEDIES[remedy](self.context, seed)
            if isinstance(arm, str):
                self.refused[remedy] = arm
                return
            self.notes = arm.trainee.notes
            self.curves.setdefault(remedy, {})[seed] = curve(arm, self.context, self.plan, seed, told)
        except UsageError as problem:
            if remedy == NONE:
                text = str(problem).rstrip(".")
                raise UsageError(f"step {self.step} cannot be trained on: {text}.") from problem
            self.refused[remedy] = str(problem)

    def report(self, chosen: Sequence[str], **known: Any) -> TryReport:
        """With all trials in the order asked for, and what limits them; ``known`` says what was tried."""
        feed, plan = self.context.feed, self.plan
        return TryReport(
            to_step=feed.step_after(plan.num_updates),
            gradient_steps=plan.num_updates,
            num_seeds=len(self.seeds),
            batch_size=plan.batch_size,
            rows_per_update=feed.rows_per_update,
            slices_from=None if isinstance(self.context.wanted, str) else self.context.known.source,
            trials=tuple(self._trial(remedy) for remedy in chosen),
            is_interrupted=self.is_interrupted,
            notes=(*_notes(self.context, plan), *self.notes),
            **known,
        )

    def _trial(self, remedy: str) -> Trial:
        if remedy in self.refused:
            reasons = dict.fromkeys(("zero_fraction", "verdict"), self.refused[remedy])
            return Trial(remedy=remedy, reasons=reasons)
        curves, without = self.curves.get(remedy, {}), self.curves.get(NONE, {})
        is_one_batch = self.context.feed.is_one_batch
        return trial(remedy, curves, without, self.plan.settings, is_one_batch=is_one_batch)


def _told(progress: Progress | None, done: int, total: int) -> None:
    if progress:
        progress("training on", done, total)


def _chosen(remedies: Sequence[str]) -> list[str]:
    unknown = [each for each in remedies if each not in REMEDIES]
    if unknown:
        raise UsageError(f"--remedy {unknown[0]}: unknown. Known: {', '.join(REMEDIES)}.")
    return [NONE, *(each for each in REMEDIES if each != NONE and (not remedies or each in remedies))]


def _moments(opened: Opened, from_step: int) -> list[Moment]:
    """The checkpoint's, then those after it that have a buffer or a rollout."""
    run = opened.runs[0]
    own = [each for each in run.moments if each.step == from_step and each.checkpoint is not None]
    if not own:
        known = (str(each.step) for each in run.moments if each.checkpoint and each.step is not None)
        steps = ", ".join(dict.fromkeys(known))
        why = no_step(opened.found, from_step, "checkpoint")
        raise UsageError(f"--from {from_step}: {why}. Steps: {steps or 'none'}.")
    later = [each for each in run.moments if each.step is not None and each.step > from_step]
    return [own[0], *(each for each in later if each.replay is not None or each.rollout is not None)]


def _context(moments: Sequence[Moment], means: Means, known: RunSlices, name: str) -> Context:
    found: Any = recomputation(moments[0], means)
    if isinstance(found, str):
        raise UsageError(f"step {moments[0].step} cannot be trained on: {found}.")
    feed = feed_of(found, moments, means)
    wanted = known.named(name) or known.reason or NO_SLICE.format(name=name)
    return Context(
        found=found, feed=feed, wanted=wanted, known=known, own=_own(found, feed, wanted, known, means)
    )


def _own(
    found: Any, feed: Feed, wanted: Slice | str, known: RunSlices, means: Means
) -> Mapping[str, Any] | str:
    """The slice's own columns, seen where it moves: in the newest rows."""
    if isinstance(wanted, str):
        return wanted
    own = own_columns_of(feed.latest(found), wanted, known, means)
    if isinstance(own, str):
        return NEVER_MOVES if own == AT_REST else own
    return own or NO_OWN


def _notes(context: Context, plan: Plan) -> Iterator[str]:
    feed, found = context.feed, context.found
    yield from feed.notes
    if plan.num_updates > feed.num_updates and feed.rows_per_update:
        room = feed.num_updates
        yield (
            f"after gradient step {room:,} no new rows come in: batches are drawn from the newest ones"
            if room > 0
            else "no later checkpoint has new rows: all batches are drawn from this one's"
        )
    if isinstance(context.own, str):
        yield f"zeros are counted over all weights, the slice's own columns among them: {context.own}"
    if getattr(found.drawing, "normalizer", None) is not None:
        yield "observations are normalised with the statistics of the checkpoint throughout"
