"""Which checkpoints can be recomputed, and the plain reason where one cannot. No doubt passes."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from gradscope.recompute.dqn import Dqn
from gradscope.recompute.extractors import features_of
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.plain import (
    EXTRACTOR,
    plain_dqn,
    plain_qrdqn,
    plain_sac,
    plain_td3,
    plain_tqc,
    shares_extractor,
)
from gradscope.recompute.quantiles import Qrdqn
from gradscope.recompute.ring_checks import check_choices, check_drawing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradscope.recompute.batches import Drawing
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Losses
    from gradscope.recompute.networks import Shapes

_PLAIN: Final[Mapping[str, Callable[..., Losses]]] = {
    "stable_baselines3.dqn.policies.DQNPolicy": plain_dqn,
    "stable_baselines3.sac.policies.SACPolicy": plain_sac,
    "stable_baselines3.td3.policies.TD3Policy": plain_td3,
    "sb3_contrib.qrdqn.policies.QRDQNPolicy": plain_qrdqn,
    "sb3_contrib.tqc.policies.TQCPolicy": plain_tqc,
}
"""By policy class; MlpPolicy is another name of each."""
_OTHERS: Final = ("CnnPolicy", "MultiInputPolicy")
"""Classes beside each of them, with another features extractor."""
_ADAM: Final = ("torch.optim.adam.Adam", "torch.optim.adamw.AdamW")
_HARMLESS: Final = frozenset(
    {
        "activation_fn",
        "clip_mean",
        "log_std_init",
        "n_critics",
        "n_quantiles",
        "net_arch",
        "normalize_images",
        "optimizer_class",
        "optimizer_kwargs",
        "share_features_extractor",
        "use_expln",
    }
)
"""policy_kwargs that change nothing in a plain policy, or that weights and optimizer state show anyway."""


def losses_of(training: Training, drawing: Drawing) -> Losses:
    """The losses of a checkpoint and its buffer.

    Raises:
        Mismatch: something about them is not supported or not known; its text is the reason.
    """
    _check_policy(training)
    check_drawing(training, drawing)
    found = _plain_losses(training, drawing)
    if isinstance(found, (Dqn, Qrdqn)):
        check_choices(drawing.ring, found.num_choices)
    return found


def _plain_losses(training: Training, drawing: Drawing) -> Losses:
    assert drawing.ring.actions is not None
    shapes = _shapes(training)
    make = _maker(training.policy_class)
    assert make is not None
    num_actions = math.prod(drawing.ring.actions.shape[2:])
    found = make(training, shapes, partial(features_of, training, shapes), num_actions)
    left = [name for name in shapes if name not in set(found.names)]
    if left:
        raise Mismatch(f"the policy holds parameters that no plain policy has: {left[0]}")
    return found


def _shapes(training: Training) -> Shapes:
    weights = {name: (array.shape, array.dtype) for name, array in training.weights.items()}
    others = sorted(str(dtype) for _, dtype in weights.values() if dtype != np.float32)
    if others:
        raise Mismatch(f"the policy's weights are {others[0]}, not float32")
    aliases = _aliases(training)
    return {name: tuple(shape) for name, (shape, _) in weights.items() if name not in aliases}


def _aliases(training: Training) -> frozenset[str]:
    """Second names of the features extractors that actors and critics share; only TD3 has actor targets.

    Raises:
        Mismatch: the two names hold different weights.
    """
    if not shares_extractor(training):
        return frozenset()
    weights = training.weights
    pairs = {
        f"{copy}.{name.removeprefix(f'{own}.')}": name
        for copy, own in (("critic", "actor"), ("critic_target", "actor_target"))
        for name in weights
        if name.startswith(f"{own}.{EXTRACTOR}")
    }
    for copy, name in pairs.items():
        if copy not in weights or weights[copy].tobytes() != weights[name].tobytes():
            raise Mismatch(f"{name} and {copy} are one tensor to the library, and differ here")
    return frozenset(pairs)


def _maker(policy_class: str | None) -> Callable[..., Losses] | None:
    """What rebuilds a policy of the library's own."""
    module, _, name = (policy_class or "").rpartition(".")
    by_module = {key.rpartition(".")[0]: make for key, make in _PLAIN.items()}
    return by_module.get(module) if name in _OTHERS else _PLAIN.get(policy_class or "")


def _check_policy(training: Training) -> None:
    name = training.policy_class
    if _maker(name) is None:
        shown = "a class that the file carries by value" if name is None else name
        raise Mismatch(
            "gradients are recomputed for MlpPolicy, CnnPolicy and MultiInputPolicy of SAC, TQC, TD3, DDPG, "
            f"DQN and QR-DQN, not for {shown}; code of your own runs with --trust --code DIR"
        )
    settings = training.policy_settings
    if training.settings.get("use_sde") is True or (settings or {}).get("use_sde"):
        raise Mismatch("state-dependent exploration (gSDE) is not recomputed")
    if settings is None:
        raise Mismatch("the checkpoint's policy_kwargs cannot be read")
    known = _HARMLESS | {"features_extractor_class", "features_extractor_kwargs", "use_sde"}
    strange = sorted(set(settings) - known)
    if strange:
        raise Mismatch(f"a policy with {strange[0]} is not recomputed")


def optimizer_problem(training: Training) -> str | None:
    """Why the critic's step cannot be done, as far as the policy's settings tell."""
    assert training.policy_settings is not None
    name = training.policy_settings.get("optimizer_class", _ADAM[0])
    return None if name in _ADAM else f"the critic's optimizer is {name}, not torch's Adam or AdamW"


def num_idle(training: Training, losses: Losses) -> int:
    """Tensors that the critic's optimizer holds before the critic's own and never steps.

    TD3 gives it a shared extractor too, which the critic's loss does not reach; SAC and TQC do not.
    """
    if training.algorithm not in {"TD3", "DDPG"} or not shares_extractor(training):
        return 0
    return sum(name.startswith(f"actor.{EXTRACTOR}") for name in losses.names)
