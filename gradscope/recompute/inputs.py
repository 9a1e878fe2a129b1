"""What recomputing asks of a checkpoint: its training state.

`gradscope.read.sb3_training` gives it; whoever brings them must not have run code of the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]


class OptimizerState(Protocol):
    """One optimizer as torch saves it, its tensors as arrays."""

    @property
    def groups(self) -> Sequence[Mapping[str, object]]:
        """Settings of the parameter groups, ``params`` (numbers) among them."""

    @property
    def state(self) -> Mapping[int, Mapping[str, Array]]:
        """step, exp_avg and exp_avg_sq by number of the parameter; empty before the first step."""


class NumberedOptimizer(Protocol):
    """One optimizer of any PyTorch run; ``gradscope.read.saved_optimizer`` gives it."""

    @property
    def groups(self) -> Sequence[Mapping[str, object]]:
        """Settings of the parameter groups, ``params`` (numbers) among them."""

    @property
    def state(self) -> Mapping[object, Mapping[str, Array | float]]:
        """Entries by number of the parameter."""

    def names(self, orders: Sequence[Mapping[str, tuple[int, ...]]]) -> tuple[str, ...] | str:
        """Parameters in the order of their numbers, of orders that are possible; or why it is not known."""


class Space(Protocol):
    """An observation or action space."""

    @property
    def kind(self) -> str:
        """Box, Discrete, MultiDiscrete, MultiBinary or Dict."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one observation in a buffer; a number of a Discrete space is stored as (1,)."""

    @property
    def dtype(self) -> str:
        """Of its numbers, as numpy names it."""

    @property
    def num_values(self) -> tuple[int, ...]:
        """Of a Discrete space, or of each number of a MultiDiscrete one: 0 to n - 1."""

    @property
    def is_byte_range(self) -> bool:
        """Whether a Box's limits are 0 and 255 everywhere."""

    @property
    def entries(self) -> Mapping[str, Space]:
        """Of a Dict, in its own order."""


class Training(Protocol):
    """A checkpoint as the library's next train() would find it."""

    @property
    def algorithm(self) -> str | None:
        """SAC, TQC, TD3, DDPG, DQN, QRDQN, ...; None where nothing tells."""

    @property
    def policy_class(self) -> str | None:
        """Dotted name; None where the file carries a class of its own."""

    @property
    def observation_space(self) -> str | None:
        """Dotted name of the space's class."""

    @property
    def space(self) -> Space | None:
        """Of observations; None where it is not known."""

    @property
    def action_space(self) -> Space | None:
        """Of actions; None where it is not known."""

    @property
    def settings(self) -> Mapping[str, object]:
        """Plain settings: gamma, tau, max_grad_norm, policy_delay, n_envs, ..."""

    @property
    def policy_settings(self) -> Mapping[str, object] | None:
        """policy_kwargs, classes by dotted name; None where they cannot be read."""

    @property
    def learning_rate(self) -> float | None:
        """Of the next train(); None where a function of the user's decides it."""

    @property
    def weights(self) -> Mapping[str, Array]:
        """policy.state_dict(), target networks included."""

    @property
    def variables(self) -> Mapping[str, Array]:
        """log_ent_coef or ent_coef_tensor."""

    @property
    def optimizers(self) -> Mapping[str, OptimizerState]:
        """By network: actor, critic, policy."""

    @property
    def last_original_observations(self) -> Mapping[str, Array] | None:
        """The library's newest ones before VecNormalize, key "" for a plain space: [environments, *shape]."""

    @property
    def last_observations(self) -> Mapping[str, Array] | None:
        """The same as the network saw them, normalised with the statistics of that time."""
