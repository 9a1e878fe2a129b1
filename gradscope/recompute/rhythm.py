"""When an algorithm moves its actor and its targets. Source: train() and _on_step() of the library's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.recompute.losses import number_of

if TYPE_CHECKING:
    from gradscope.recompute.inputs import Training

_DELAYED: Final = ("TD3", "DDPG")
_BY_CALLS: Final = ("DQN", "QRDQN")
NO_ALGORITHM: Final = ""
"""Of a model of the user's: what is beside its loss is not known."""
_WITHOUT_TARGETS: Final = ("PPO", "A2C", "RecurrentPPO", NO_ALGORITHM)


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """When an algorithm moves what it does not move at every update."""

    algorithm: str
    tau: float
    policy_delay: int = 1
    """Updates for each one of TD3's actor and targets."""
    target_interval: int = 1
    """SAC, TQC: updates within one train(); DQN, QR-DQN: calls of the environments."""
    gradient_steps: int = 1
    """Updates of one train(); 0 where not known."""

    def moves_actor(self, num_updates: int) -> bool:
        """At this update, the first is 1."""
        return self.algorithm not in _DELAYED or num_updates % self.policy_delay == 0

    @property
    def follows_calls(self) -> bool:
        """Whether targets follow as rows come in, before the update, and not behind it."""
        return self.algorithm in _BY_CALLS

    def num_target_moves(self, num_updates: int, num_done: int, calls: tuple[int, int]) -> int:
        """How often targets follow at this update.

        Args:
            num_updates: of the whole run, this one counted.
            num_done: updates done here before.
            calls: of the environments by the update before and by this one.
        """
        if self.algorithm in _WITHOUT_TARGETS:
            return 0
        if self.follows_calls:
            # The library follows at each call of the environments that completes an interval.
            return calls[1] // self.target_interval - calls[0] // self.target_interval
        if self.algorithm in _DELAYED:
            return int(self.moves_actor(num_updates))
        place = num_done % self.gradient_steps if self.gradient_steps else num_done
        return int(place % self.target_interval == 0)


def rhythm_of(training: Training) -> Rhythm:
    """When a checkpoint's run moves what.

    Raises:
        Mismatch: a setting is missing.
    """
    algorithm = str(training.algorithm)
    if algorithm in _WITHOUT_TARGETS:
        return Rhythm(algorithm=algorithm, tau=0.0)
    delay = int(number_of(training, "policy_delay")) if algorithm in _DELAYED else 1
    interval = 1 if algorithm in _DELAYED else int(number_of(training, "target_update_interval"))
    if algorithm in _BY_CALLS:
        interval //= max(int(number_of(training, "n_envs")), 1)
    steps = training.settings.get("gradient_steps")
    return Rhythm(
        algorithm=algorithm,
        tau=number_of(training, "tau"),
        policy_delay=max(delay, 1),
        target_interval=max(interval, 1),
        gradient_steps=steps if isinstance(steps, int) and steps > 0 else 0,
    )


def counts_of(training: Training) -> tuple[int, int]:
    """Updates so far, and calls of the environments whose targets' updates are done.

    Raises:
        Mismatch: the checkpoint does not say.
    """
    steps, environments = (int(number_of(training, name)) for name in ("num_timesteps", "n_envs"))
    return int(number_of(training, "_n_updates")), steps // max(environments, 1)
