"""Where a Stable-Baselines3 model keeps its optimizers and lets observations in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_obs_shape, preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from gradscope.errors import UsageError
from gradscope.record.gradients import WatchedLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gymnasium import spaces
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy


def optimizers_of(model: BaseAlgorithm) -> Mapping[str, tuple[torch.optim.Optimizer, Sequence[WatchedLayer]]]:
    """Optimizers by name (policy, actor, critic, ent_coef, ...) with the layers each one steps.

    Raises:
        UsageError: the model has no torch optimizer.
    """
    policy = model.policy
    owners: dict[str, object] = {"policy": policy, **dict(policy.named_children())}
    found = [(name, getattr(owner, "optimizer", None)) for name, owner in owners.items()]
    found += [(name.removesuffix("_optimizer"), value) for name, value in vars(model).items()]
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for name, value in found:
        if isinstance(value, torch.optim.Optimizer) and value not in optimizers.values():
            optimizers[name] = value
    if not optimizers:
        raise UsageError(
            f"{type(model).__name__}: no torch optimizer in its policy. Train a model that has one."
        )
    names = parameter_names(model)
    return {
        name: (optimizer, watched_layers(name, optimizer, policy, names))
        for name, optimizer in optimizers.items()
    }


def parameter_names(model: BaseAlgorithm) -> Mapping[int, str]:
    """Names in ``policy.state_dict()`` by identity, the first of shared ones, and of the model's tensors."""
    names = {id(parameter): name for name, parameter in model.policy.named_parameters()}
    own = {id(value): name for name, value in vars(model).items() if isinstance(value, torch.Tensor)}
    return own | names


def watched_layers(
    optimizer_name: str, optimizer: torch.optim.Optimizer, policy: BasePolicy, names: Mapping[int, str]
) -> Sequence[WatchedLayer]:
    """The optimizer's parameters, each once, in its own order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [
        watched_layer(names.get(id(parameter), f"{optimizer_name}.{index}"), parameter, policy)
        for index, parameter in enumerate(parameters)
    ]


def watched_layer(name: str, parameter: torch.Tensor, policy: BasePolicy) -> WatchedLayer:
    """One parameter with the module that owns it."""
    parent, _, leaf = name.rpartition(".")
    owner = dict(policy.named_modules()).get(parent)
    owner = owner if getattr(owner, leaf, None) is parameter else None
    # Softmax ignores a shift common to all keys, so the key bias cannot receive gradient.
    is_attention_bias = isinstance(owner, torch.nn.MultiheadAttention) and leaf == "in_proj_bias"
    third = parameter.numel() // 3
    return WatchedLayer(
        name=name,
        parameter=parameter,
        module=None if owner is None else type(owner).__name__,
        expected=slice(third, 2 * third) if is_attention_bias else None,
    )


def entrances(policy: BasePolicy) -> Mapping[torch.nn.Module, Callable[[object], object]]:
    """Modules by which observations enter, and how their first argument becomes what the network sees."""
    doors: dict[torch.nn.Module, Callable[[object], object]] = {}
    for module in policy.modules():
        if isinstance(module, BaseFeaturesExtractor):
            doors[module] = _as_it_is
        elif isinstance(module, ContinuousCritic) and module.share_features_extractor:
            # It calls the shared extractor without gradients, like a rollout.
            doors[module] = _preprocessor(module)
    return doors


def _as_it_is(observations: object) -> object:
    return observations


def _preprocessor(critic: ContinuousCritic) -> Callable[[object], object]:
    def preprocessed(observations: object) -> object:
        if not isinstance(observations, torch.Tensor | dict):
            return None
        return preprocess_obs(observations, critic.observation_space, critic.normalize_images)

    return preprocessed


def observation_shapes(space: spaces.Space[object]) -> Mapping[str, tuple[int, ...]]:
    """Shape of one observation by key; key "" for a plain space."""
    shape = get_obs_shape(space)
    return dict(shape) if isinstance(shape, dict) else {"": tuple(shape)}
