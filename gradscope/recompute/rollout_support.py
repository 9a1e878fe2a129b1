"""The losses of an on-policy checkpoint, rebuilt from its weights and its rollout's settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from gradscope.recompute.extractors import features_of
from gradscope.recompute.networks import ACTIVATIONS, Mismatch, activation_of, single
from gradscope.recompute.on_policy import A2C, RECURRENT, OnPolicy, OnPolicySettings
from gradscope.recompute.on_policy_distributions import Bernoulli, Categorical, Gaussian, MultiCategorical
from gradscope.recompute.on_policy_networks import EXTRACTOR, VALUE_EXTRACTOR, PlainActorCritic, heads
from gradscope.recompute.recurrent import ACTOR, CRITIC, PlainRecurrentActorCritic, lstm
from gradscope.recompute.rollout_checks import check_policy, number_of

if TYPE_CHECKING:
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Shapes
    from gradscope.recompute.on_policy_distributions import Distribution
    from gradscope.recompute.roles import Features
    from gradscope.records import Rollout

TANH: Final = next(name for name in ACTIVATIONS if name.endswith("Tanh"))
_CHOICES: Final = ("Discrete", "MultiDiscrete", "MultiBinary")
_ACTIONS: Final = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8")
_MAX_CHOICES: Final = 1 << 20


def on_policy_of(training: Training, rollout: Rollout) -> OnPolicy:
    """The losses of a checkpoint on its rollout, with the library's own policy.

    Raises:
        Mismatch: something about them is not supported or not known; its text is the reason.
    """
    check_policy(training, rollout)
    shapes = own_shapes(training)
    build = recurrent_policy if rollout.algorithm == RECURRENT else plain_policy
    policy = build(training, shapes, distribution_of(rollout))
    owned = set(policy.names)
    left = [name for name in shapes if name not in owned]
    if left:
        raise Mismatch(f"the policy holds parameters that no plain policy has: {left[0]}")
    return OnPolicy(policy=policy, settings=settings_of(rollout), names=tuple(shapes))


def settings_of(rollout: Rollout) -> OnPolicySettings:
    """Numbers of the first update on a rollout.

    Raises:
        Mismatch: one is missing.
    """
    clips = rollout.algorithm != A2C
    values = rollout.settings.get("clip_range_vf") if clips else None
    normalizes = rollout.settings.get("normalize_advantage")
    if not isinstance(normalizes, bool):
        raise Mismatch("the rollout does not say whether advantages were normalised")
    return OnPolicySettings(
        algorithm=rollout.algorithm,
        entropy_weight=number_of(rollout, "ent_coef"),
        value_weight=number_of(rollout, "vf_coef"),
        max_grad_norm=number_of(rollout, "max_grad_norm"),
        normalizes_advantages=normalizes,
        clip_range=number_of(rollout, "clip_range") if clips else 0.0,
        value_clip_range=None if values is None else number_of(rollout, "clip_range_vf"),
    )


def distribution_of(rollout: Rollout) -> Distribution:
    """What the action network's outputs mean.

    Raises:
        Mismatch: a space of another kind, or the rollout's actions do not lie in it.
    """
    space, actions = rollout.settings.get("action_space"), rollout.actions
    kind = str(space.get("kind")) if isinstance(space, dict) else ""
    sizes = _sizes(space.get("sizes", space.get("shape"))) if isinstance(space, dict) else ()
    num_actions = math.prod(sizes) if kind in {"Box", "MultiBinary"} else len(sizes)
    if not sizes or num_actions != actions.shape[2] or actions.dtype.name not in _ACTIONS:
        raise Mismatch(f"actions {actions.dtype} {actions.shape[2:]} do not fit a space {str(space)[:80]}")
    if kind == "Box":
        return Gaussian(num_outputs=num_actions)
    limits = [2] * num_actions if kind == "MultiBinary" else sizes
    if kind in _CHOICES and not ((actions >= 0) & (actions < np.asarray(limits))).all():
        raise Mismatch("the rollout's actions lie outside of their space")
    if kind == "Discrete" and num_actions == 1:
        return Categorical(num_outputs=sizes[0])
    if kind == "MultiDiscrete":
        return MultiCategorical(sizes=sizes)
    if kind == "MultiBinary" and rollout.algorithm == RECURRENT:
        raise Mismatch("sb3-contrib's own RecurrentPPO cannot train on MultiBinary actions")
    if kind == "MultiBinary":
        return Bernoulli(num_outputs=num_actions)
    raise Mismatch(f"actions of a space {kind[:80]} are not recomputed")


def own_shapes(training: Training) -> Shapes:
    """Shapes of the policy's parameters in file order, a shared extractor under its first name only.

    Raises:
        Mismatch: weights that are not float32, or second names that hold other weights than the first.
    """
    copies = ("pi_features_extractor.", *((VALUE_EXTRACTOR,) if shares_extractor(training) else ()))
    found: dict[str, tuple[int, ...]] = {}
    for name in training.weights:
        array, own = training.weights[name], EXTRACTOR + name.partition(EXTRACTOR)[2]
        if array.dtype != np.float32:
            raise Mismatch(f"the policy's weights are {array.dtype}, not float32")
        if not array.size:
            raise Mismatch(f"{name} of shape {array.shape} holds no weights")
        if not name.startswith(copies):
            found[name] = tuple(array.shape)
        elif own not in training.weights or training.weights[own].tobytes() != array.tobytes():
            raise Mismatch(f"{own} and {name} are one tensor to the library, and differ here")
    return found


def shares_extractor(training: Training) -> bool:
    """Whether actor and critic look through one features extractor."""
    return (training.policy_settings or {}).get("share_features_extractor", True) is not False


def plain_policy(training: Training, shapes: Shapes, distribution: Distribution) -> PlainActorCritic:
    """Policy of PPO and A2C.

    Raises:
        Mismatch: other networks.
    """
    features, own = _features(training, shapes)
    inputs = {"actor_inputs": features.width, "critic_inputs": features.width if own is None else own.width}
    return PlainActorCritic(
        features=features,
        value_features=own,
        heads=heads(shapes, distribution, activation_of(training, TANH), **inputs),
    )


def recurrent_policy(
    training: Training, shapes: Shapes, distribution: Distribution
) -> PlainRecurrentActorCritic:
    """Policy of RecurrentPPO.

    Raises:
        Mismatch: other networks.
    """
    features, own = _features(training, shapes)
    acting = lstm(shapes, ACTOR, features.width)
    units = acting.num_units
    judging = lstm(shapes, CRITIC, features.width) if f"{CRITIC}weight_ih_l0" in shapes else None
    layer = "critic.weight" in shapes
    return PlainRecurrentActorCritic(
        features=features,
        value_features=own,
        lstm=acting,
        critic_lstm=judging,
        critic_layer=single(shapes, "critic", num_inputs=features.width, num_outputs=units)
        if layer
        else None,
        heads=heads(
            shapes, distribution, activation_of(training, TANH), actor_inputs=units, critic_inputs=units
        ),
    )


def _features(training: Training, shapes: Shapes) -> tuple[Features, Features | None]:
    """The actor's extractor, and the critic's where it has its own."""
    own = None if shares_extractor(training) else features_of(training, shapes, VALUE_EXTRACTOR)
    return features_of(training, shapes, EXTRACTOR), own


def _sizes(value: object) -> tuple[int, ...]:
    """Sizes of a space, each within reason; empty where they are none."""
    if not isinstance(value, list) or not all(
        type(each) is int and 0 < each < _MAX_CHOICES for each in value
    ):
        return ()
    return tuple(value)
