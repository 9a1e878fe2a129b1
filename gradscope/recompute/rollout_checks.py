"""Whether a rollout, its checkpoint and its policy belong together and hold what they should."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.recompute.networks import Mismatch
from gradscope.recompute.on_policy import A2C, ON_POLICY, PPO, RECURRENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.recompute.inputs import Space, Training
    from gradscope.records import Rollout

_LIBRARY: Final = "stable_baselines3.common.policies."
_CONTRIB: Final = "sb3_contrib.common.recurrent.policies."
POLICIES: Final[Mapping[str, tuple[str, ...]]] = {
    f"{_LIBRARY}ActorCriticPolicy": (PPO, A2C),
    f"{_LIBRARY}ActorCriticCnnPolicy": (PPO, A2C),
    f"{_LIBRARY}MultiInputActorCriticPolicy": (PPO, A2C),
    f"{_CONTRIB}RecurrentActorCriticPolicy": (RECURRENT,),
    f"{_CONTRIB}RecurrentActorCriticCnnPolicy": (RECURRENT,),
    f"{_CONTRIB}RecurrentMultiInputActorCriticPolicy": (RECURRENT,),
}
"""Policy classes with the algorithms they belong to; MlpPolicy and its like are other names of them."""
_HARMLESS: Final = frozenset(
    {
        "activation_fn",
        "enable_critic_lstm",
        "features_extractor_class",
        "features_extractor_kwargs",
        "full_std",
        "log_std_init",
        "lstm_hidden_size",
        "lstm_kwargs",
        "n_lstm_layers",
        "net_arch",
        "normalize_images",
        "optimizer_class",
        "optimizer_kwargs",
        "ortho_init",
        "share_features_extractor",
        "shared_lstm",
        "squash_output",
        "use_expln",
        "use_sde",
    }
)
"""policy_kwargs that are looked at, that weights show anyway, or that only gSDE asks for."""
_PLAIN_LSTM: Final = {"dropout": 0, "bidirectional": False, "batch_first": False, "proj_size": 0}
LSTM: Final = "lstm_actor."
_MAX_NUMBER: Final = 1e18
"""Beyond any setting that is meant as a number."""
_CHOICES: Final = ("Discrete", "MultiDiscrete")


def check_algorithm(training: Training, rollout: Rollout) -> None:
    """Checkpoint and rollout are of one algorithm that is known here, one run, one step.

    Raises:
        Mismatch: they are not.
    """
    if rollout.algorithm not in ON_POLICY:
        raise Mismatch(
            f"rollouts of {rollout.algorithm[:80]} are not recomputed, only {', '.join(ON_POLICY)}"
        )
    # With a policy of the user's own, a checkpoint of RecurrentPPO looks like one of PPO.
    alike = {PPO} if rollout.algorithm == RECURRENT and training.policy_class not in POLICIES else set()
    if training.algorithm not in {None, rollout.algorithm} | alike:
        raise Mismatch(f"the rollout is of {rollout.algorithm}, the checkpoint of {training.algorithm}")
    steps, environments = rollout.actions.shape[:2]
    expected = {"num_timesteps": rollout.step, "n_steps": steps, "n_envs": environments}
    for name, value in expected.items():
        there = training.settings.get(name)
        if there != value:
            raise Mismatch(f"the rollout is not this checkpoint's: {name} is {value}, not {there}")


def check_policy(training: Training, rollout: Rollout) -> None:
    """The policy is the library's own, with settings that are known here.

    Raises:
        Mismatch: it is not.
    """
    name, settings = training.policy_class, training.policy_settings
    if name is None or rollout.algorithm not in POLICIES.get(name, ()):
        shown = "a class that the file carries by value" if name is None else name
        raise Mismatch(f"the policy {shown} is code of your own, which is not run for rollouts")
    if settings is None:
        raise Mismatch("the checkpoint's policy_kwargs cannot be read")
    if any(each.get("use_sde") for each in (training.settings, settings, rollout.settings)):
        raise Mismatch("state-dependent exploration (gSDE) is not recomputed")
    strange = sorted(set(settings) - _HARMLESS)
    if strange:
        raise Mismatch(f"a policy with {strange[0]} is not recomputed")
    known: Any = rollout.settings.get("lstm")
    plain = isinstance(known, dict) and all(known.get(key) == value for key, value in _PLAIN_LSTM.items())
    if rollout.algorithm == RECURRENT and not (plain and rollout.lstm_states):
        raise Mismatch("an LSTM with dropout, projections or two directions is not recomputed")


def check_states(training: Training, states: Mapping[str, NDArray[Any]]) -> None:
    """Stored LSTM states have the layers and units of the policy's LSTM.

    Raises:
        Mismatch: they do not.
    """
    layers = [name for name in training.weights if name.startswith(f"{LSTM}weight_hh_l")]
    wanted = (len(layers), training.weights[layers[0]].shape[1]) if layers else (0, 0)
    for name, array in states.items():
        if array.shape[1::2] != wanted:
            raise Mismatch(
                f"the rollout's {name} have {array.shape[1::2]} layers and units, the LSTM {wanted}"
            )


def check_observations(training: Training, observations: Mapping[str, NDArray[Any]]) -> None:
    """Keys and shapes are those of the checkpoint's space, numbers of choices lie within it.

    Raises:
        Mismatch: they are not, or the space is not known.
    """
    space = training.space
    if space is None:
        raise Mismatch(f"observations of {training.observation_space} are not recomputed")
    spaces = space.entries if space.kind == "Dict" else {"": space}
    if set(observations) != set(spaces) or ("" in spaces) != (space.kind != "Dict"):
        raise Mismatch(
            f"the rollout's observations have the keys {sorted(observations)}, not {sorted(spaces)}"
        )
    for key, each in spaces.items():
        _check_entry(observations[key], each, f"observations of {key!r}" if key else "observations")


def _check_entry(array: NDArray[Any], space: Space, name: str) -> None:
    if array.shape[2:] != space.shape or array.dtype.name != space.dtype or array.dtype.kind not in "biuf":
        there = f"{array.dtype.name} {array.shape[2:]}"
        raise Mismatch(f"the rollout's {name} are {there}, the checkpoint's {space.dtype} {space.shape}")
    if space.kind in _CHOICES and ((array < 0) | (array >= np.array(space.num_values))).any():
        raise Mismatch(f"the rollout's {name} are not among the {space.num_values} values of the space")


def number_of(rollout: Rollout, name: str) -> float:
    """A setting of the update; "inf" is how a file writes an infinite one.

    Raises:
        Mismatch: the rollout does not hold it.
    """
    value = rollout.settings.get(name)
    if value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MAX_NUMBER:
        raise Mismatch(f"the rollout's settings hold no number {name}")
    return float(value)
