"""Which checkpoints can be recomputed, and the plain reason where one cannot. No doubt passes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradscope.recompute.batches import num_transitions
from gradscope.recompute.dqn import Dqn, dqn
from gradscope.recompute.networks import ACTIVATIONS, RELU, Mismatch
from gradscope.recompute.quantiles import Qrdqn, qrdqn, tqc
from gradscope.recompute.sac import sac
from gradscope.recompute.td3 import td3

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradscope.recompute.batches import Drawing
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.losses import Losses
    from gradscope.records import Normalizer, Ring

DQN: Final = "stable_baselines3.dqn.policies.DQNPolicy"
SAC: Final = "stable_baselines3.sac.policies.SACPolicy"
TD3: Final = "stable_baselines3.td3.policies.TD3Policy"
QRDQN: Final = "sb3_contrib.qrdqn.policies.QRDQNPolicy"
TQC: Final = "sb3_contrib.tqc.policies.TQCPolicy"
CHOOSERS: Final = frozenset((DQN, QRDQN))
"""Discrete actions, no actor, targets that follow between checkpoint and train()."""
_LOSSES: Final[Mapping[str, Callable[..., Losses]]] = {
    DQN: dqn,
    SAC: sac,
    TD3: td3,
    QRDQN: qrdqn,
    TQC: tqc,
}
"""By policy class; MlpPolicy is another name of each."""
_BUFFER: Final = "stable_baselines3.common.buffers.ReplayBuffer"
_MANY_STEPS: Final = "stable_baselines3.common.buffers.NStepReplayBuffer"
_MAX_STEPS: Final = 1000
_BOX: Final = ("gymnasium.spaces.box.Box", "gym.spaces.box.Box")
_FLATTEN: Final = "stable_baselines3.common.torch_layers.FlattenExtractor"
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
_IMAGE_DIMENSIONS: Final = 3
MAX_SEED: Final = 2**32 - 1


def losses_of(training: Training, drawing: Drawing) -> Losses:
    """The losses of a checkpoint and its buffer.

    Raises:
        Mismatch: something about them is not supported or not known; its text is the reason.
    """
    ring = drawing.ring
    _check_policy(training)
    _check_ring(training, ring)
    _check_normalizer(ring, drawing.normalizer)
    _check_drawing(drawing)
    assert ring.actions is not None
    weights = {name: (array.shape, array.dtype) for name, array in training.weights.items()}
    others = sorted(str(dtype) for _, dtype in weights.values() if dtype != np.float32)
    if others:
        raise Mismatch(f"the policy's weights are {others[0]}, not float32")
    shapes = {name: tuple(shape) for name, (shape, _) in weights.items()}
    found = _LOSSES[str(training.policy_class)](
        training,
        shapes,
        num_inputs=math.prod(ring.observations[""].shape[2:]),
        num_actions=math.prod(ring.actions.shape[2:]),
        activation=_activation(training)(),
    )
    left = [name for name in shapes if name not in found.names]
    if left:
        raise Mismatch(f"the policy holds parameters that no plain policy has: {left[0]}")
    if isinstance(found, (Dqn, Qrdqn)):
        _check_choices(ring, found.num_choices)
    return found


def _check_drawing(drawing: Drawing) -> None:
    rows, size = num_transitions(drawing.ring), drawing.batch_size
    if drawing.num_batches < 1 or size < 1:
        raise Mismatch(f"{drawing.num_batches} batches of {size} rows are no batches")
    if size > rows:
        raise Mismatch(f"a batch of {size} is larger than the buffer's {rows} valid rows")
    if not 0 <= drawing.seed <= MAX_SEED:
        raise Mismatch(f"the seed must be between 0 and {MAX_SEED}, not {drawing.seed}")


def _check_policy(training: Training) -> None:
    name = training.policy_class
    if name not in _LOSSES:
        shown = "a class that the file carries by value" if name is None else name
        raise Mismatch(
            f"gradients are recomputed for MlpPolicy of SAC, TQC, TD3, DDPG, DQN and QR-DQN, not for {shown}"
        )
    if training.observation_space not in _BOX:
        raise Mismatch(f"observations of {training.observation_space} are not recomputed, only Box ones")
    if training.settings.get("use_sde") is True:
        raise Mismatch("state-dependent exploration (gSDE) is not recomputed")
    settings = training.policy_settings
    if settings is None:
        raise Mismatch("the checkpoint's policy_kwargs cannot be read")
    extractor = settings.get("features_extractor_class", _FLATTEN)
    if extractor != _FLATTEN or settings.get("features_extractor_kwargs"):
        raise Mismatch(f"a features extractor of the user's own needs the user's code: {extractor}")
    if settings.get("use_sde"):
        raise Mismatch("state-dependent exploration (gSDE) is not recomputed")
    known = _HARMLESS | {"features_extractor_class", "features_extractor_kwargs", "use_sde"}
    strange = sorted(set(settings) - known)
    if strange:
        raise Mismatch(f"a policy with {strange[0]} is not recomputed")


def _activation(training: Training) -> Callable[[], Any]:
    assert training.policy_settings is not None
    name = training.policy_settings.get("activation_fn", RELU)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise Mismatch(f"the activation {name} is not recomputed")
    return ACTIVATIONS[name]


def optimizer_problem(training: Training) -> str | None:
    """Why the critic's step cannot be done, as far as the policy's settings tell."""
    assert training.policy_settings is not None
    name = training.policy_settings.get("optimizer_class", _ADAM[0])
    return None if name in _ADAM else f"the critic's optimizer is {name}, not torch's Adam or AdamW"


def _check_ring(training: Training, ring: Ring) -> None:
    if ring.buffer_class not in {_BUFFER, _MANY_STEPS}:
        raise Mismatch(f"batches of {ring.buffer_class} are not drawn, only those of a plain ReplayBuffer")
    is_plain = ring.num_steps == 1 and ring.discount is None
    is_complete = ring.discount is not None and ring.timeouts is not None and not ring.is_shared
    if not (is_plain if ring.buffer_class == _BUFFER else is_complete and ring.num_steps <= _MAX_STEPS):
        raise Mismatch("the buffer's n-step settings do not fit its class")
    _check_arrays(training, ring)
    environments = training.settings.get("n_envs")
    if environments != ring.observations[""].shape[1]:
        raise Mismatch(
            f"the buffer has {ring.observations[''].shape[1]} environments, the checkpoint {environments}"
        )


def _check_arrays(training: Training, ring: Ring) -> None:
    observations, following = ring.observations.get(""), (ring.next_observations or {}).get("")
    numbers = (ring.rewards, ring.dones, ring.timeouts)
    if observations is None or ring.actions is None or ring.rewards is None or ring.dones is None:
        raise Mismatch("the buffer lacks observations, actions, rewards or ends as plain arrays")
    if observations.dtype.kind not in "biuf" or not math.prod(observations.shape[2:]):
        raise Mismatch(f"the buffer's observations are {observations.dtype} of {observations.shape[2:]}")
    if observations.dtype == np.uint8 and observations.ndim - 2 == _IMAGE_DIMENSIONS:
        raise Mismatch("images are not recomputed")
    if not ring.is_shared and (following is None or following.shape != observations.shape):
        raise Mismatch("the buffer's observations and next observations differ in shape")
    if any(each is not None and (each.ndim != 2 or each.dtype != np.float32) for each in numbers):  # noqa: PLR2004
        raise Mismatch("the buffer's rewards and ends are no single floats")
    is_choice = training.policy_class in CHOOSERS
    fits = ring.actions.dtype.kind in "iu" if is_choice else ring.actions.dtype == np.float32
    if not fits or ring.actions.ndim != 3:  # noqa: PLR2004 - rows, environments, actions
        raise Mismatch(f"the buffer's actions are {ring.actions.dtype}: it belongs to another run")


def _check_choices(ring: Ring, num_choices: int) -> None:
    """Discrete actions must be among the network's outputs."""
    assert ring.actions is not None
    valid = ring.actions if ring.is_full else ring.actions[: ring.position]
    if ring.actions.shape[2:] != (1,) or (valid.size and not 0 <= valid.min() <= valid.max() < num_choices):
        raise Mismatch(f"the buffer's actions are not among the network's {num_choices}")


def _check_normalizer(ring: Ring, normalizer: Normalizer | None) -> None:
    if normalizer is None or ring.observations.get("") is None:
        return
    shape = ring.observations[""].shape[2:]
    sizes = [each.get("") for each in (normalizer.mean, normalizer.var)]
    if normalizer.norm_observations and any(each is None or each.shape != shape for each in sizes):
        raise Mismatch("the VecNormalize file's statistics do not fit the observations")
    if normalizer.norm_reward and normalizer.return_var is None:
        raise Mismatch("the VecNormalize file holds no variance of returns")


def check_originals(training: Training, ring: Ring) -> str | None:
    """A note where nothing tells whether a run without a VecNormalize file was normalised.

    SB3 keeps the newest original observations. Without VecNormalize they are those of the newest row;
    with it, those that follow it (but where the episode has just ended, then the next one's first).

    Raises:
        Mismatch: the run was normalised, or probably was.
    """
    original = training.last_original_observations
    assert ring.dones is not None
    newest, following = (ring.position - 1) % len(ring.dones), ring.position % len(ring.dones)
    if original is None or original.shape != ring.observations[""].shape[1:]:
        return "nothing tells whether the run was normalised; no VecNormalize file belongs to it"
    if np.array_equal(original, ring.observations[""][newest]):
        return None
    if ring.is_shared or ring.next_observations is None:
        ahead = ring.observations[""][following]
    else:
        ahead = ring.next_observations[""][newest]
    is_ahead = (original == ahead).reshape(len(original), -1).all(1)
    if is_ahead.any():
        raise Mismatch("the run used VecNormalize, and its file is missing")
    if ring.dones[newest].all():
        raise Mismatch("it cannot be told whether the run used VecNormalize, and there is no such file")
    return "the buffer's newest rows are not the checkpoint's: it was saved at another step"
