"""The policy of PPO and A2C, rebuilt from names and shapes of its weights.

Source: ActorCriticPolicy in stable_baselines3/common/policies.py, evaluate_actions().
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.recompute.activations import watching
from gradscope.recompute.networks import Mismatch, perceptron, single
from gradscope.recompute.on_policy_distributions import Gaussian

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from gradscope.recompute.networks import Parameters, Perceptron, Shapes
    from gradscope.recompute.on_policy import Judged
    from gradscope.recompute.on_policy_distributions import Distribution, Entropy
    from gradscope.recompute.roles import Features, Observations

    Activation = Callable[[torch.Tensor], torch.Tensor]

EXTRACTOR: Final = "features_extractor."
VALUE_EXTRACTOR: Final = "vf_features_extractor."


@dataclass(frozen=True, kw_only=True, eq=False)
class Heads:
    """Actor and critic behind the features (or the LSTM)."""

    actor: Perceptron
    critic: Perceptron
    action_net: Perceptron
    value_net: Perceptron
    distribution: Distribution

    @property
    def names(self) -> tuple[str, ...]:
        """Their parameters."""
        networks = (self.actor, self.critic, self.action_net, self.value_net)
        return self.distribution.names + tuple(name for each in networks for name in each.names)

    def __call__(
        self,
        parameters: Parameters,
        actor_inputs: torch.Tensor,
        critic_inputs: torch.Tensor,
        actions: torch.Tensor,
    ) -> Judged:
        """Values, log-probabilities and entropies, in the library's order of operations: each [rows]."""
        inner = self.actor(parameters, actor_inputs)
        judging = self.critic(parameters, critic_inputs)
        entropy: Entropy
        log_prob, entropy = self.distribution(parameters, self.action_net(parameters, inner), actions)
        values = self.value_net(parameters, judging)
        return values.flatten(), log_prob, entropy()


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainActorCritic:
    """Policy without memory."""

    features: Features
    value_features: Features | None
    """The critic's own; None where shared."""
    heads: Heads

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters."""
        own = () if self.value_features is None else self.value_features.names
        return self.features.names + own + self.heads.names

    def __call__(self, parameters: Parameters, observations: Observations, actions: torch.Tensor) -> Judged:
        """Values, log-probabilities and entropies, each [rows]."""
        with watching():
            seen = self.features(parameters, observations)
            judged = seen if self.value_features is None else self.value_features(parameters, observations)
            return self.heads(parameters, seen, judged, actions)


def heads(
    shapes: Shapes,
    distribution: Distribution,
    activation: Activation,
    *,
    actor_inputs: int,
    critic_inputs: int,
) -> Heads:
    """Everything behind the features.

    Raises:
        Mismatch: other networks than the library's.
    """
    actor, critic = (
        perceptron(
            shapes, f"mlp_extractor.{name}.", num_inputs=inputs, num_outputs=None, activation=activation
        )
        for name, inputs in (("policy_net", actor_inputs), ("value_net", critic_inputs))
    )
    if isinstance(distribution, Gaussian) and shapes.get("log_std") != (distribution.num_outputs,):
        raise Mismatch(
            f"log_std of shape {shapes.get('log_std')} is not of {distribution.num_outputs} actions"
        )
    return Heads(
        actor=actor,
        critic=critic,
        action_net=single(
            shapes,
            "action_net",
            num_inputs=width(shapes, actor, actor_inputs),
            num_outputs=distribution.num_outputs,
        ),
        value_net=single(shapes, "value_net", num_inputs=width(shapes, critic, critic_inputs), num_outputs=1),
        distribution=distribution,
    )


def width(shapes: Shapes, network: Perceptron, num_inputs: int) -> int:
    """Outputs of a hidden part that may be empty."""
    return shapes[network.layers[-1][1]][0] if network.layers else num_inputs
