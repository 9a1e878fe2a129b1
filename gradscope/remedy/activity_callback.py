"""ActivityLearningRateCallback: ActivityLearningRate inside Stable-Baselines3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from gradscope.errors import UsageError
from gradscope.remedy.activity_learning_rate import ActivityLearningRate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stable_baselines3.common.base_class import BaseAlgorithm

    from gradscope.remedy.columns import Columns


class ActivityLearningRateCallback(BaseCallback):
    """Lowers the learning rate of all of a model's optimizers while the slice is active.

    Before each training phase the share of active rows is that of the observations collected since the
    last one: the whole rollout for PPO and A2C, the newest steps for algorithms with a replay buffer (whose
    batches are older than that). Behind VecNormalize the observations of the environment are looked at.
    Nothing stays on the model after training, nor in what it saves meanwhile.

    When it helps and when it cannot: see ``ActivityLearningRate``.

    Args:
        columns: the slice's columns of one bar.
        factor: of the learning rate.
        sequence_length: bars of a flat observation, oldest first; the newest is looked at.
        resting: value of the columns while inactive, one for all or one for each.
        threshold: least share of rows (0..1) with the slice active; at 0 one row is enough.
        key: entry of a Dict observation.
        verbose: as in BaseCallback.

    ``rate`` is the ``ActivityLearningRate`` while training runs, with ``is_active`` and
    ``active_fraction``; the logger has the latter as ``train/active_fraction``.

    Raises:
        UsageError: as ``ActivityLearningRate``; at the start of training also where the model has no
            optimizer, the key is unknown, or observations are stacked after VecNormalize.
    """

    def __init__(
        self,
        columns: Columns,
        factor: float = 0.5,
        *,
        sequence_length: int | None = None,
        resting: float | Sequence[float] = 0.0,
        threshold: float = 0.0,
        key: str | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.rate: ActivityLearningRate | None = None
        self._columns, self._factor, self._key = columns, factor, key
        self._options: dict[str, Any] = {
            "sequence_length": sequence_length,
            "resting": resting,
            "threshold": threshold,
        }
        self._fractions: list[float] = []

    def _on_training_start(self) -> None:
        self._stop()
        entries = getattr(self.model.observation_space, "spaces", None)
        if (entries is None) != (self._key is None) or (entries is not None and self._key not in entries):
            known = "no keys" if entries is None else ", ".join(map(repr, entries))
            raise UsageError(f"key={self._key!r}: the observations have {known}. Pass one of theirs.")
        normalised = self.model.get_vec_normalize_env()
        if normalised is not None and normalised.observation_space != self.model.observation_space:
            raise UsageError("observations are stacked after VecNormalize. Put VecNormalize outermost.")
        self.rate = ActivityLearningRate(
            optimizers_of(self.model), self._factor, columns=self._columns, **self._options
        )

    def _on_rollout_start(self) -> None:
        self._fractions = []

    def _on_step(self) -> bool:
        if self.rate is not None:
            self._fractions.append(self.rate.fraction_in(self._newest()))
        return True

    def _on_rollout_end(self) -> None:
        if self.rate is not None and self._fractions:
            self.rate.set_fraction(sum(self._fractions) / len(self._fractions))
            self.logger.record("train/active_fraction", self.rate.active_fraction)

    def _on_training_end(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.rate is not None:
            self.rate.remove()
            self.rate = None

    def _newest(self) -> Any:
        normalised = self.model.get_vec_normalize_env()
        seen = self.locals["new_obs"] if normalised is None else normalised.get_original_obs()
        return seen if self._key is None else seen[self._key]


def optimizers_of(model: BaseAlgorithm) -> Sequence[torch.optim.Optimizer]:
    """Every optimizer of the model, each once: of the policy, its actor and critic, the entropy coefficient.

    Raises:
        UsageError: the model has no torch optimizer.
    """
    owners = [model.policy, *model.policy.children()]
    found = [getattr(owner, "optimizer", None) for owner in owners] + list(vars(model).values())
    optimizers = {id(each): each for each in found if isinstance(each, torch.optim.Optimizer)}
    if not optimizers:
        raise UsageError(f"{type(model).__name__}: no torch optimizer. Train a model that has one.")
    return list(optimizers.values())
