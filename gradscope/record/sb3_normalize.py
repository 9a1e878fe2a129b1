"""What an observation at rest looks like after VecNormalize."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from stable_baselines3.common.base_class import BaseAlgorithm

    Flat = NDArray[np.float32]


class RestingObservation:
    """The value every column takes where the environment says 0, as the network sees it now.

    VecNormalize moves a resting 0 to -mean/std, and its statistics move with every step. Replay buffers are
    normalised when sampled, so today's statistics are exact. Rollouts were normalised while collected: there
    the range that 0 took since the rollout began counts as rest.
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model = model
        self._window: tuple[Mapping[str, Flat], Mapping[str, Flat]] | None = None

    def __call__(self, key: str) -> tuple[Flat, Flat] | None:
        """Lowest and highest resting value of each column of entry ``key``; None where unknown."""
        if self._window is not None:
            low, high = self._window
        else:
            low = high = self._now()
        return (low[key], high[key]) if key in low else None

    def start_window(self) -> None:
        """A rollout begins: what rested until now is forgotten."""
        now = self._now()
        self._window = (now, now)

    def widen_window(self) -> None:
        """One more step was normalised."""
        if self._window is None or self._model.get_vec_normalize_env() is None:
            return
        now, (low, high) = self._now(), self._window
        self._window = (
            {key: np.minimum(low[key], value) for key, value in now.items()},
            {key: np.maximum(high[key], value) for key, value in now.items()},
        )

    def _now(self) -> Mapping[str, Flat]:
        space = self._model.observation_space
        zeros = _zeros(getattr(space, "spaces", space))
        environment = self._model.get_vec_normalize_env()
        if environment is not None:
            if environment.observation_space != space:
                return {}  # Stacked after normalising: the columns are not the statistics' ones.
            zeros = environment.normalize_obs(zeros)
        entries = zeros if isinstance(zeros, dict) else {"": zeros}
        return {key: np.asarray(value, dtype=np.float32).ravel() for key, value in entries.items()}


def _zeros(space: object) -> Flat | dict[str, Flat]:
    if isinstance(space, dict):
        return {key: _zero(entry) for key, entry in space.items()}
    return _zero(space)


def _zero(space: object) -> Flat:
    return np.zeros(getattr(space, "shape", None) or (1,), dtype=np.float32)
