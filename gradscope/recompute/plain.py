"""Policies of Stable-Baselines3 and sb3-contrib, rebuilt from names and shapes of their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.recompute.dqn import dqn
from gradscope.recompute.gaussian_actor import gaussian_actor
from gradscope.recompute.networks import Mismatch, activation_of, perceptron, width_of
from gradscope.recompute.plain_roles import PlainActor, PlainCritics, PlainValues
from gradscope.recompute.quantiles import qrdqn, tqc
from gradscope.recompute.sac import sac
from gradscope.recompute.td3 import td3

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradscope.recompute.gaussian_actor import GaussianActor
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Losses
    from gradscope.recompute.networks import Perceptron, Shapes
    from gradscope.recompute.roles import Features

    Extractor = Callable[[str], Features]
    """The extractor whose parameters start with a prefix."""

EXTRACTOR: Final = "features_extractor."


def plain_dqn(training: Training, shapes: Shapes, extractor: Extractor, num_actions: int) -> Losses:
    """DQN's losses.

    Raises:
        Mismatch: other networks, or a setting is missing.
    """
    del num_actions
    online, target, width = _values(training, shapes, extractor, "q_net")
    pairs = followed(online.names, target.names, shapes)
    return dqn(training, online=online, target=target, targets=pairs, num_outputs=width)


def plain_qrdqn(training: Training, shapes: Shapes, extractor: Extractor, num_actions: int) -> Losses:
    """QR-DQN's losses.

    Raises:
        Mismatch: other networks, or a setting is missing.
    """
    del num_actions
    online, target, width = _values(training, shapes, extractor, "quantile_net")
    pairs = followed(online.names, target.names, shapes)
    return qrdqn(training, online=online, target=target, targets=pairs, num_outputs=width)


def plain_sac(training: Training, shapes: Shapes, extractor: Extractor, num_actions: int) -> Losses:
    """SAC's losses.

    Raises:
        Mismatch: other networks, or a setting is missing.
    """
    actor = _gaussian(training, shapes, extractor, num_actions)
    online, target, pairs = _two_critics(training, shapes, extractor, num_actions)
    return sac(training, actor=actor, critics=online, target_critics=target, targets=pairs)


def plain_tqc(training: Training, shapes: Shapes, extractor: Extractor, num_actions: int) -> Losses:
    """TQC's losses.

    Raises:
        Mismatch: other networks, or a setting is missing.
    """
    width = width_of(shapes, "critic.qf0.")
    actor = _gaussian(training, shapes, extractor, num_actions)
    online, target, pairs = _two_critics(training, shapes, extractor, num_actions, width)
    return tqc(
        training,
        actor=actor,
        critics=online,
        target_critics=target,
        targets=pairs,
        num_critics=len(online.networks),
        num_quantiles=width,
    )


def plain_td3(training: Training, shapes: Shapes, extractor: Extractor, num_actions: int) -> Losses:
    """TD3's losses, and DDPG's. A shared extractor is shared by the targets too, as one of their own.

    Raises:
        Mismatch: other networks, or a setting is missing.
    """
    is_shared = shares_extractor(training)
    actor, target_actor = (
        _actor(training, shapes, extractor, name, num_actions) for name in ("actor", "actor_target")
    )
    online, target = (
        _critics(
            training,
            shapes,
            owner.features if is_shared else extractor(f"{name}.{EXTRACTOR}"),
            name,
            num_actions=num_actions,
            shares_features=is_shared,
        )
        for name, owner in (("critic", actor), ("critic_target", target_actor))
    )
    return td3(
        training,
        actor=actor,
        target_actor=target_actor,
        critics=online,
        target_critics=target,
        targets=followed(actor.names + online.names, target_actor.names + target.names, shapes),
    )


def shares_extractor(training: Training) -> bool:
    """Whether actor and critics look through one features extractor."""
    return (training.policy_settings or {}).get("share_features_extractor") is True


def followed(own: Sequence[str], copies: Sequence[str], shapes: Shapes) -> dict[str, str]:
    """Each target's parameter (``copies``) with the online one of the same place.

    Raises:
        Mismatch: their shapes differ.
    """
    if [shapes[name] for name in own] != [shapes[name] for name in copies]:
        raise Mismatch("target networks and their originals differ in shape")
    return dict(zip(copies, own, strict=True))


def _values(
    training: Training, shapes: Shapes, extractor: Extractor, name: str
) -> tuple[PlainValues, PlainValues, int]:
    """The network, its target, and how many outputs they have."""
    width = width_of(shapes, f"{name}.")
    online, target = (
        PlainValues(
            features=features,
            network=perceptron(
                shapes,
                f"{prefix}.{name}.",
                num_inputs=features.width,
                num_outputs=width,
                activation=activation_of(training),
            ),
        )
        for prefix, features in (
            (each, extractor(f"{each}.{EXTRACTOR}")) for each in (name, f"{name}_target")
        )
    )
    return online, target, width


def _actor(
    training: Training, shapes: Shapes, extractor: Extractor, name: str, num_actions: int
) -> PlainActor:
    features = extractor(f"{name}.{EXTRACTOR}")
    network = perceptron(
        shapes,
        f"{name}.mu.",
        num_inputs=features.width,
        num_outputs=num_actions,
        activation=activation_of(training),
    )
    return PlainActor(features=features, network=network)


def _gaussian(training: Training, shapes: Shapes, extractor: Extractor, num_actions: int) -> GaussianActor:
    features = extractor(f"actor.{EXTRACTOR}")
    return gaussian_actor(shapes, features, num_actions=num_actions, activation=activation_of(training))


def _critics(
    training: Training,
    shapes: Shapes,
    features: Features,
    name: str,
    *,
    num_actions: int,
    num_outputs: int = 1,
    shares_features: bool = False,
) -> PlainCritics:
    """All critics under a name.

    Raises:
        Mismatch: none, or one that is no chain of linear layers.
    """
    found: list[Perceptron] = []
    while any(each.startswith(f"{name}.qf{len(found)}.") for each in shapes):
        one = perceptron(
            shapes,
            f"{name}.qf{len(found)}.",
            num_inputs=features.width + num_actions,
            num_outputs=num_outputs,
            activation=activation_of(training),
        )
        found.append(one)
    if not found:
        raise Mismatch(f"{name}.* holds no critic")
    return PlainCritics(features=features, networks=tuple(found), shares_features=shares_features)


def _two_critics(
    training: Training, shapes: Shapes, extractor: Extractor, num_actions: int, num_outputs: int = 1
) -> tuple[PlainCritics, PlainCritics, dict[str, str]]:
    """Critics of SAC and TQC, their targets, and which follows which: the targets share nothing."""
    is_shared = shares_extractor(training)
    owner = "actor" if is_shared else "critic"
    online = _critics(
        training,
        shapes,
        extractor(f"{owner}.{EXTRACTOR}"),
        "critic",
        num_actions=num_actions,
        num_outputs=num_outputs,
        shares_features=is_shared,
    )
    target = _critics(
        training,
        shapes,
        extractor(f"critic_target.{EXTRACTOR}"),
        "critic_target",
        num_actions=num_actions,
        num_outputs=num_outputs,
    )
    return online, target, followed(online.all_names, target.all_names, shapes)
