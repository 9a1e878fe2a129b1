"""GradscopeCallback: Stable-Baselines3's CheckpointCallback that also keeps the gradients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from gradscope.errors import UsageError
from gradscope.measure import resolve_slices
from gradscope.record.batch import BatchWatch
from gradscope.record.captured import Saved
from gradscope.record.recording import Plan, Recording
from gradscope.record.sb3_model import entrances, observation_shapes, optimizers_of
from gradscope.record.sb3_normalize import RestingObservation
from gradscope.record.sb3_rollout import rollout_keeper
from gradscope.record.slices import flat_columns
from gradscope.record.timeline_file import TimelineFile
from gradscope.settings import ZERO_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stable_baselines3.common.base_class import BaseAlgorithm

    from gradscope.record.sb3_rollout import RolloutKeeper
    from gradscope.record.slices import SliceColumns

POSITION = "position"


class GradscopeCallback(CheckpointCallback):
    """Saves checkpoints as CheckpointCallback does, with the first gradients on each one's weights.

    Beside SB3's own files it writes ``{prefix}_gradscope_{N}_steps.safetensors`` at each save (gradients
    as the optimizers saw them, norms before and after clipping, the batch's observations) and
    ``{prefix}_gradscope_timeline.jsonl`` (zeros, norms and open positions of every n-th update), and where
    asked ``{prefix}_gradscope_rollout_{N}_steps.safetensors`` (the rollout that the checkpoint's next update
    trains on, which no SB3 file holds: with it the true gradients can be computed again).
    Training stays the same to the last bit: nothing is drawn, nothing on the model is changed.

    Args:
        save_freq: calls of ``env.step()`` between checkpoints, as in CheckpointCallback.
        save_path: folder for all files.
        name_prefix: first part of each file's name.
        save_replay_buffer: also save the replay buffer.
        save_vecnormalize: also save the VecNormalize statistics.
        verbose: 2 announces each checkpoint.
        slices: slice name to columns of one bar: "73:80", name globs, "flat:292:299" or "key:account".
            The slice ``position`` is counted in the timeline.
        feature_names: names of one bar's columns.
        sequence_length: bars in a flat observation, oldest first.
        timeline_every: updates between two rows of the timeline.
        zero_tolerance: |g| <= this is a zero.
        save_rollout: PPO, A2C and RecurrentPPO: also write the rollout of each checkpoint, at the rollout's
            end. A clip range that is a function is called once more for each.

    Raises:
        UsageError: an option is out of range; at the start of training also where slices, names or
            sequence length do not fit the model's observations, or rollouts are asked of a model that
            learns from a replay buffer.
    """

    def __init__(  # noqa: PLR0917 - CheckpointCallback's own parameters
        self,
        save_freq: int,
        save_path: str,
        name_prefix: str = "rl_model",
        save_replay_buffer: bool = False,
        save_vecnormalize: bool = False,
        verbose: int = 0,
        *,
        slices: Mapping[str, str | Sequence[str]] | None = None,
        feature_names: Sequence[str] | None = None,
        sequence_length: int | None = None,
        timeline_every: int = 20,
        zero_tolerance: float = ZERO_TOLERANCE,
        save_rollout: bool = False,
    ) -> None:
        super().__init__(save_freq, save_path, name_prefix, save_replay_buffer, save_vecnormalize, verbose)
        if timeline_every < 1 or zero_tolerance < 0 or (sequence_length is not None and sequence_length < 1):
            raise UsageError(
                f"timeline_every={timeline_every}, sequence_length={sequence_length}: at least 1 is needed; "
                f"zero_tolerance={zero_tolerance:g}: at least 0. Leave an option out for its default."
            )
        self._slices = {name: _selectors(columns) for name, columns in (slices or {}).items()}
        self._feature_names = None if feature_names is None else tuple(feature_names)
        self._sequence_length = sequence_length
        self._timeline_every = timeline_every
        self._zero_tolerance = zero_tolerance
        self._save_rollout = save_rollout
        self._rollouts: RolloutKeeper | None = None
        self._position: SliceColumns | None = None
        self._resting: RestingObservation | None = None
        self._recording: Recording | None = None
        self._baseline: dict[str, float | None] = {}
        self._baseline_model: BaseAlgorithm | None = None

    def _init_callback(self) -> None:
        if self._save_rollout and not isinstance(self.model, OnPolicyAlgorithm):
            raise UsageError(
                f"save_rollout=True: {type(self.model).__name__} learns from a replay buffer. "
                "Use save_replay_buffer=True."
            )
        self._position = self._position_columns()
        super()._init_callback()

    def _on_training_start(self) -> None:
        self._stop()
        if self._save_rollout and isinstance(self.model, OnPolicyAlgorithm):
            self._rollouts = rollout_keeper(self.model)
        plan = self._plan()
        if plan.is_fresh or self.model is not self._baseline_model:
            self._baseline, self._baseline_model = {}, self.model
        self._resting = RestingObservation(self.model)
        self._recording = Recording(
            plan,
            baseline=self._baseline,
            timeline=TimelineFile(Path(self.save_path) / f"{self.name_prefix}_gradscope_timeline.jsonl"),
            batch=BatchWatch(entrances(self.model.policy)),
            resting=self._resting,
            step=self._step_now,
        )

    def _on_rollout_start(self) -> None:
        if self._resting is not None and isinstance(self.model, OnPolicyAlgorithm):
            self._resting.start_window()
        if self._rollouts is not None:
            self._rollouts.begin()

    def _on_rollout_end(self) -> None:
        if self._rollouts is not None:
            self._rollouts.end()

    def _on_step(self) -> bool:
        if self._resting is not None and isinstance(self.model, OnPolicyAlgorithm):
            self._resting.widen_window()
        if self._recording is None or self.n_calls % self.save_freq:
            return super()._on_step()
        self._recording.before_save()
        goes_on = super()._on_step()
        self._recording.after_save(
            Saved(
                path=Path(self._checkpoint_path("gradscope_", "safetensors")),
                step=self.num_timesteps,
                num_updates=int(getattr(self.model, "_n_updates", 0)),
                batch_size=getattr(self.model, "batch_size", None),
            )
        )
        if self._rollouts is not None:
            self._rollouts.after_save(Path(self._checkpoint_path("gradscope_rollout_", "safetensors")))
        return goes_on

    def _on_training_end(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._recording is not None:
            self._recording.close()
            self._recording = None
        self._rollouts = None

    def _step_now(self) -> int | None:
        step = self.model.num_timesteps
        # learn() was interrupted and runs again without this callback: nobody else would unhook it.
        is_stale = self.parent is None and step != self.num_timesteps
        return None if is_stale else step

    def _position_columns(self) -> SliceColumns | None:
        shapes = observation_shapes(self.model.observation_space)
        names, length = self._feature_names, self._sequence_length
        slices = resolve_slices(self._slices, shapes=shapes, feature_names=names, sequence_length=length)
        for chosen in slices:
            if chosen.name == POSITION:
                shape = shapes[chosen.key]
                return flat_columns(chosen, shape, sequence_length=length, feature_names=names)
        return None

    def _plan(self) -> Plan:
        optimizers = optimizers_of(self.model)
        updates = int(getattr(self.model, "_n_updates", 0))
        return Plan(
            algorithm=type(self.model).__name__,
            clips=getattr(self.model, "max_grad_norm", None) is not None,
            is_fresh=updates == 0 and not any(optimizer.state for optimizer, _ in optimizers.values()),
            optimizers=optimizers,
            position=self._position,
            observed={
                "slices": {name: _written(columns) for name, columns in self._slices.items()},
                "sequence_length": self._sequence_length,
                "feature_names": None if self._feature_names is None else list(self._feature_names),
            },
            timeline_every=self._timeline_every,
            zero_tolerance=self._zero_tolerance,
        )


def _selectors(columns: str | Sequence[str]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


def _written(selectors: Sequence[str]) -> str | list[str]:
    return selectors[0] if len(selectors) == 1 else list(selectors)
