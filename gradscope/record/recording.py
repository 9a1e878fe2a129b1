"""From optimizer steps to timeline rows and snapshots. Knows torch, but no training library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradscope.record.batch import position_counts
from gradscope.record.captured import Captured, Saved, clipping, rounded, snapshot_content
from gradscope.record.gradients import OptimizerWatch
from gradscope.record.snapshot_file import write_snapshot
from gradscope.records import TIMELINE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from gradscope.record.batch import BatchWatch, PositionCounts, Resting
    from gradscope.record.gradients import GradientCounts, WatchedLayer
    from gradscope.record.slices import SliceColumns
    from gradscope.record.timeline_file import TimelineFile


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is recorded of one training run."""

    algorithm: str
    clips: bool
    """Whether the training code clips gradients itself."""
    is_fresh: bool
    """Whether the network has never been updated: only then the first update is a baseline."""
    optimizers: Mapping[str, tuple[torch.optim.Optimizer, Sequence[WatchedLayer]]]
    position: SliceColumns | None
    observed: Mapping[str, object]
    """Slices, sequence_length and feature_names as given, for the files."""
    timeline_every: int
    zero_tolerance: float


class Recording:
    """Watches a training run until closed."""

    def __init__(
        self,
        plan: Plan,
        *,
        baseline: dict[str, float | None],
        timeline: TimelineFile,
        batch: BatchWatch,
        resting: Resting,
        step: Callable[[], int | None],
    ) -> None:
        """Hook everything.

        ``baseline`` is filled at a fresh network's first updates. ``step`` is the training's time step now;
        None once somebody else drives the training.
        """
        self._plan = plan
        self._timeline = timeline
        self._batch = batch
        self._resting = resting
        self._step = step
        self._saved: list[Saved] = []
        self._baseline = baseline
        self._without_baseline = set(plan.optimizers) if plan.is_fresh else set()
        self._watches = [
            OptimizerWatch(optimizer, name=name, layers=layers, on_step=self._on_step)
            for name, (optimizer, layers) in plan.optimizers.items()
        ]
        self._update = max(watch.num_steps for watch in self._watches)
        self._next_row = {watch.name: self._row_after(self._update) for watch in self._watches}
        self._pace = {watch.name: (self._update, 1) for watch in self._watches}
        """The update of each optimizer's last step, and how many updates after the one before that."""
        self._timeline.append(self._header())
        self._arm_where_needed()

    def before_save(self) -> None:
        """Close snapshots that wait for a late optimizer, and leave no hook that a save could meet."""
        waiting = [saved for saved in self._saved if not saved.captured]
        for saved in self._saved:
            if saved.captured:
                self._write(saved)
        # Without an update since, the weights are still theirs, and the next gradient too.
        self._saved = waiting
        self._rest()

    def after_save(self, saved: Saved) -> None:
        """Wait for the first gradients on the weights just saved."""
        saved.update = self._update
        self._saved.append(saved)
        self._arm_where_needed()

    def close(self) -> None:
        """Write what is there and remove every hook."""
        for saved in self._saved:
            self._write(saved)
        self._saved = []
        self._batch.look_away()
        for watch in self._watches:
            watch.remove()
        self._timeline.close()

    def _fall_silent(self) -> None:
        """Close for good, from inside a step: torch walks the step hooks just now, they must stay."""
        self._saved = []
        self._batch.look_away()
        for watch in self._watches:
            watch.silence()
        self._timeline.close()

    def _on_step(self, watch: OptimizerWatch) -> None:
        step = self._step()
        if step is None:
            self._fall_silent()
            return
        self._update = max(self._update, watch.num_steps + 1)
        self._pace[watch.name] = (self._update, self._update - self._pace[watch.name][0])
        # An optimizer off its pace steps unarmed: its row then comes with its next step.
        wants_row = self._update >= self._next_row[watch.name] and watch.is_armed
        waiting = [saved for saved in self._saved if watch.name not in saved.captured]
        wants_baseline = watch.name in self._without_baseline
        if wants_row or waiting or wants_baseline:
            counts = watch.counts(self._plan.zero_tolerance)
            if wants_baseline:
                self._baseline.update(baseline_fractions(watch.layers, counts))
                self._without_baseline.remove(watch.name)
            if wants_row:
                self._timeline.append(self._row(watch.name, step, counts))
                self._next_row[watch.name] = self._row_after(self._update)
            if waiting:
                self._capture(watch, counts, waiting, step)
        self._arm_where_needed()

    def _row_after(self, update: int) -> int:
        return (update // self._plan.timeline_every + 1) * self._plan.timeline_every

    def _is_needed(self, watch: OptimizerWatch) -> bool:
        last, gap = self._pace[watch.name]
        if max(last + gap, self._update) >= self._next_row[watch.name]:
            return True
        return any(watch.name not in saved.captured for saved in self._saved)

    def _arm_where_needed(self) -> None:
        needed = [self._is_needed(watch) for watch in self._watches]
        for watch, is_needed in zip(self._watches, needed, strict=True):
            watch.arm() if is_needed else watch.disarm()
        self._batch.look() if any(needed) else self._batch.look_away()

    def _rest(self) -> None:
        self._batch.look_away()
        for watch in self._watches:
            watch.disarm()

    def _capture(
        self, watch: OptimizerWatch, counts: GradientCounts, waiting: Sequence[Saved], step: int
    ) -> None:
        gradients = watch.gradients()
        for saved in waiting:
            if not saved.captured:
                saved.observations = self._batch.observations
                saved.rows = self._rows()
            saved.captured[watch.name] = Captured(
                step=step,
                updates_after_save=self._update - saved.update,
                gradients=gradients,
                counts=counts,
            )
        for saved in [saved for saved in waiting if len(saved.captured) == len(self._watches)]:
            self._write(saved)
            self._saved.remove(saved)

    def _write(self, saved: Saved) -> None:
        tensors, metadata = snapshot_content(saved, self._plan, self._baseline)
        write_snapshot(saved.path, tensors=tensors, metadata=metadata)

    def _rows(self) -> PositionCounts:
        return position_counts(self._batch.observations, self._plan.position, self._resting)

    def _header(self) -> Mapping[str, object]:
        return {
            "schema": TIMELINE_SCHEMA,
            "algorithm": self._plan.algorithm,
            "zero_tolerance": self._plan.zero_tolerance,
            **self._plan.observed,
            "optimizers": {
                watch.name: [
                    {"name": layer.name, "num_elements": layer.parameter.numel()} for layer in watch.layers
                ]
                for watch in self._watches
            },
        }

    def _row(self, optimizer: str, step: int, counts: GradientCounts) -> Mapping[str, object]:
        clip = clipping(counts, self._plan)
        rows = self._rows()
        return {
            "step": step,
            "update": self._update,
            "optimizer": optimizer,
            "num_zero": counts.num_zero,
            "num_exact_zero": counts.num_exact_zero,
            "num_expected": counts.num_expected,
            "num_nonfinite": counts.num_nonfinite,
            "norm": [rounded(norm) for norm in counts.norm],
            "norm_before_clip": clip.norm_before_clip,
            "clip_coefficient": clip.clip_coefficient,
            "num_rows": rows.num_rows,
            "num_active": rows.num_active,
            "num_long": rows.num_long,
            "num_short": rows.num_short,
        }


def baseline_fractions(layers: Sequence[WatchedLayer], counts: GradientCounts) -> Mapping[str, float | None]:
    """Zeros that are not expected, over elements; None where no gradient came or there are no elements."""
    return {
        layer.name: None
        if zero is None or expected is None or not layer.parameter.numel()
        else (zero - expected) / layer.parameter.numel()
        for layer, zero, expected in zip(layers, counts.num_zero, counts.num_expected, strict=True)
    }
