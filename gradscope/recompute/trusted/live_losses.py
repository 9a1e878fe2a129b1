"""The losses of a run over its live policy: which module plays which part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gradscope.recompute.dqn import dqn
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.quantiles import qrdqn, tqc
from gradscope.recompute.sac import sac
from gradscope.recompute.td3 import td3
from gradscope.recompute.trusted.live_roles import LiveActor, LiveCritics, LiveSampledActor, LiveValues

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Losses
    from gradscope.recompute.trusted.live import Live


def live_dqn(training: Training, live: Live) -> Losses:
    """DQN's losses.

    Raises:
        Mismatch: a setting is missing.
    """
    online, target = _values(live, "q_net")
    width = int(live.policy.action_space.n)
    return dqn(training, online=online, target=target, targets={}, num_outputs=width, runs_user_code=True)


def live_qrdqn(training: Training, live: Live) -> Losses:
    """QR-DQN's losses.

    Raises:
        Mismatch: a setting is missing.
    """
    online, target = _values(live, "quantile_net")
    width = int(live.policy.action_space.n) * int(live.policy.n_quantiles)
    return qrdqn(training, online=online, target=target, targets={}, num_outputs=width, runs_user_code=True)


def live_sac(training: Training, live: Live) -> Losses:
    """SAC's losses.

    Raises:
        Mismatch: a setting is missing.
    """
    online, target = _critics(live)
    return sac(
        training,
        actor=_sampled_actor(live),
        critics=online,
        target_critics=target,
        targets={},
        runs_user_code=True,
    )


def live_tqc(training: Training, live: Live) -> Losses:
    """TQC's losses.

    Raises:
        Mismatch: a setting is missing.
    """
    online, target = _critics(live)
    return tqc(
        training,
        actor=_sampled_actor(live),
        critics=online,
        target_critics=target,
        targets={},
        num_critics=int(live.policy.critic.n_critics),
        num_quantiles=int(live.policy.critic.n_quantiles),
        runs_user_code=True,
    )


def live_td3(training: Training, live: Live) -> Losses:
    """TD3's losses, and DDPG's.

    Raises:
        Mismatch: a setting is missing.
    """
    policy = live.policy
    online, target = _critics(live)
    return td3(
        training,
        actor=LiveActor(live=live, network=policy.actor, names=live.names(policy.actor.optimizer)),
        target_actor=LiveActor(live=live, network=policy.actor_target, names=()),
        critics=online,
        target_critics=target,
        targets={},
        runs_user_code=True,
    )


_LOSSES: Final[Mapping[str, Callable[[Training, Live], Losses]]] = {
    "DQN": live_dqn,
    "QRDQN": live_qrdqn,
    "SAC": live_sac,
    "TQC": live_tqc,
    "TD3": live_td3,
    "DDPG": live_td3,
}
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "DQN": ("optimizer", "q_net", "q_net_target"),
    "QRDQN": ("optimizer", "quantile_net", "quantile_net_target"),
    "SAC": ("actor", "critic", "critic_target"),
    "TQC": ("actor", "critic", "critic_target"),
    "TD3": ("actor", "actor_target", "critic", "critic_target"),
    "DDPG": ("actor", "actor_target", "critic", "critic_target"),
}
"""What each algorithm's train() asks of its policy."""


def check_parts(training: Training, policy: Any) -> None:
    """A policy has the parts that its algorithm asks for.

    Raises:
        Mismatch: it is another algorithm's.
    """
    missing = [name for name in PARTS[str(training.algorithm)] if not hasattr(policy, name)]
    if missing:
        raise Mismatch(f"the checkpoint's policy has no {missing[0]}: it is none of {training.algorithm}")


def live_losses(training: Training, live: Live) -> Losses:
    """The losses of an algorithm of PARTS.

    Raises:
        Mismatch: a setting is missing.
    """
    return _LOSSES[str(training.algorithm)](training, live)


def _values(live: Live, name: str) -> tuple[LiveValues, LiveValues]:
    policy = live.policy
    online = LiveValues(live=live, network=getattr(policy, name), names=live.names(policy.optimizer))
    return online, LiveValues(live=live, network=getattr(policy, f"{name}_target"), names=())


def _sampled_actor(live: Live) -> LiveSampledActor:
    actor = live.policy.actor
    return LiveSampledActor(live=live, network=actor, names=live.names(actor.optimizer))


def _critics(live: Live) -> tuple[LiveCritics, LiveCritics]:
    policy = live.policy
    online = LiveCritics(live=live, network=policy.critic, names=live.names(policy.critic.optimizer))
    return online, LiveCritics(live=live, network=policy.critic_target, names=())
