"""What an on-policy update is made with, as the live model says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, SupportsFloat

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

_NUMBERS: Final = ("ent_coef", "vf_coef", "max_grad_norm", "batch_size", "n_epochs", "target_kl")
_FLAGS: Final = (
    "use_sde",
    "squash_output",
    "ortho_init",
    "share_features_extractor",
    "normalize_images",
    "shared_lstm",
    "enable_critic_lstm",
)
_CLASSES: Final = ("activation_fn", "features_extractor_class")
_LSTM_SETTINGS: Final = (
    "num_layers",
    "hidden_size",
    "bias",
    "dropout",
    "bidirectional",
    "batch_first",
    "proj_size",
)


def rollout_settings(model: OnPolicyAlgorithm) -> Mapping[str, object]:
    """What the first update on this rollout is made with."""
    # The library sets this only after the rollout's end, before it trains.
    left = 1.0 - float(model.num_timesteps) / float(model._total_timesteps)  # noqa: SLF001 - as the library does
    numbers = {name: getattr(model, name) for name in _NUMBERS if hasattr(model, name)}
    ranges = {name: getattr(model, name) for name in ("clip_range", "clip_range_vf") if hasattr(model, name)}
    numbers |= {name: None if schedule is None else schedule(left) for name, schedule in ranges.items()}
    return {
        **{name: plain(number) for name, number in numbers.items()},
        "normalize_advantage": bool(vars(model)["normalize_advantage"]),
        "progress_remaining": left,
        "action_space": space_facts(model.action_space),
        "observation_space": space_facts(model.observation_space),
        "buffer": dotted(type(model.rollout_buffer)),
        **policy_settings(model.policy),
    }


def policy_settings(policy: torch.nn.Module) -> Mapping[str, object]:
    """The policy's own switches, as far as it has them."""
    flags = {name: bool(getattr(policy, name)) for name in _FLAGS if hasattr(policy, name)}
    classes = {name: dotted(getattr(policy, name)) for name in _CLASSES if hasattr(policy, name)}
    found: dict[str, object] = {"policy": dotted(type(policy)), **flags, **classes}
    if "log_std_init" in vars(policy):
        found["log_std_init"] = plain(vars(policy)["log_std_init"])
    lstm = getattr(policy, "lstm_actor", None)
    if lstm is not None:
        found["lstm"] = {name: getattr(lstm, name) for name in _LSTM_SETTINGS}
    return found


def space_facts(space: spaces.Space[object]) -> Mapping[str, object]:
    """Kind and sizes of a space."""
    kind = type(space).__name__
    match space:
        case spaces.Box():
            shape = list(space.shape)
            return {
                "kind": kind,
                "shape": shape,
                "dtype": str(space.dtype),
                "is_image": is_image_space(space),
            }
        case spaces.Discrete():
            return {"kind": kind, "sizes": [int(space.n)], "start": int(space.start)}
        case spaces.MultiDiscrete():
            return {"kind": kind, "sizes": [int(size) for size in space.nvec.ravel()]}
        case spaces.Dict():
            return {"kind": kind, "entries": {key: space_facts(each) for key, each in space.spaces.items()}}
    return {"kind": kind, "shape": list(space.shape or ())}


def plain(number: SupportsFloat | None) -> object:
    """A number as JSON holds it; infinities and NaN, which it does not hold, as text."""
    if number is None or isinstance(number, int):
        return number
    value = float(number)
    return value if math.isfinite(value) else str(value)


def dotted(kind: type) -> str:
    """Where a class is defined."""
    return f"{kind.__module__}.{kind.__qualname__}"
