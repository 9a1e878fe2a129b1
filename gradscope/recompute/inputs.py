"""What recomputing asks for: a checkpoint's training state and its replay buffer in ring order.

`gradscope.read.sb3_training` gives both; whoever brings them must not have run code of the files.
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


class Training(Protocol):
    """A checkpoint as the library's next train() would find it."""

    @property
    def policy_class(self) -> str | None:
        """Dotted name; None where the file carries a class of its own."""

    @property
    def observation_space(self) -> str | None:
        """Dotted name of the space's class."""

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
    def last_original_observations(self) -> Array | None:
        """The library's newest observations before VecNormalize, [environments, *shape]."""


class Ring(Protocol):
    """A replay buffer in ring order, [capacity, environments, ...]."""

    @property
    def buffer_class(self) -> str | None:
        """Dotted name."""

    @property
    def position(self) -> int:
        """Where the next row will be written."""

    @property
    def is_full(self) -> bool:
        """Whether the ring has wrapped."""

    @property
    def is_shared(self) -> bool:
        """Whether row i + 1 of the observations is row i's next observation."""

    @property
    def observations(self) -> Array | None:
        """Before any normalisation; None for Dict observations."""

    @property
    def next_observations(self) -> Array | None:
        """None where shared."""

    @property
    def actions(self) -> Array | None:
        """As the library stores them: scaled to -1..1 where continuous."""

    @property
    def rewards(self) -> Array | None:
        """Before any normalisation."""

    @property
    def dones(self) -> Array | None:
        """Episode ends, time limits among them."""

    @property
    def timeouts(self) -> Array | None:
        """Ends that are only time limits; None in old files."""

    @property
    def num_steps(self) -> int:
        """Steps of reward that a drawn transition sums up; 1 for a plain buffer."""

    @property
    def discount(self) -> float | None:
        """Gamma of that sum; None for a plain buffer."""
