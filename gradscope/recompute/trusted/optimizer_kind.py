"""Which of torch's optimizers a saved state is of: its settings and the entries of its state tell.

Source: the classes of torch.optim; a param group holds a class's own arguments and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gradscope.recompute.networks import Mismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HOW: Final = frozenset(
    {
        "foreach",
        "capturable",
        "differentiable",
        "fused",
        "maximize",
        "decoupled_weight_decay",
        "params",
        "param_names",
    }
)
"""How a step is computed, and settings that only newer torch writes."""
SCHEDULES: Final = frozenset(
    {"initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum", "name", "lr_scale"}
)
"""What learning rate schedules and loops leave in a group; no optimizer of torch's reads it."""
ADAM: Final = "Adam"
ADAMW: Final = "AdamW"
DECOUPLED: Final = "decoupled_weight_decay"
NOT_TOLD: Final = (
    "the file does not tell Adam from AdamW (weight_decay {} without decoupled_weight_decay, as older torch "
    "saves it); let the --model function return (model, loss, optimizer)"
)
STRANGE: Final = (
    "the optimizer is none that is known of torch's: its settings are {}, its state {}; let the --model "
    "function return (model, loss, optimizer)"
)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    name: str
    settings: frozenset[str]
    """All of them but HOW."""
    state: frozenset[str]
    """Entries that the state of a parameter may have."""
    mark: str = ""
    """Setting or entry of the state without which it is another class."""


def _kind(name: str, settings: str, state: str, mark: str = "") -> _Kind:
    return _Kind(
        name=name,
        settings=frozenset({"lr", "weight_decay", *settings.split()}),
        state=frozenset(state.split()),
        mark=mark,
    )


_KINDS: Final = (
    _kind(ADAM, "betas eps amsgrad", "step exp_avg exp_avg_sq max_exp_avg_sq"),
    _kind("SGD", "momentum dampening nesterov", "momentum_buffer"),
    _kind("RMSprop", "momentum alpha eps centered", "step square_avg momentum_buffer grad_avg"),
    _kind("Adagrad", "lr_decay eps initial_accumulator_value", "step sum"),
    _kind("Adadelta", "rho eps", "step square_avg acc_delta"),
    _kind("NAdam", "betas eps momentum_decay", "step mu_product exp_avg exp_avg_sq"),
    _kind("Adamax", "betas eps", "step exp_avg exp_inf", "exp_inf"),
    _kind("RAdam", "betas eps", "step exp_avg exp_avg_sq", "exp_avg_sq"),
)
ELEMENTWISE: Final = frozenset(name for kind in _KINDS for name in kind.state) - {"step", "mu_product"}
"""Entries of a state with one number for each element of the parameter."""


def optimizer_kind(groups: Sequence[Mapping[str, object]], states: Iterable[Mapping[str, object]]) -> str:
    """Name of a class of torch.optim.

    Args:
        groups: settings of the parameter groups.
        states: of its parameters.

    Raises:
        Mismatch: it is none of these, or one of two.
    """
    entries = {name for each in states for name in each}
    settings = {frozenset(group) - HOW - SCHEDULES for group in groups}
    for kind in _KINDS:
        is_marked = not kind.mark or kind.mark in entries
        if settings == {kind.settings} and entries <= kind.state and is_marked:
            return _adam(groups) if kind.name == ADAM else kind.name
    known = sorted({name for each in settings for name in each})
    raise Mismatch(STRANGE.format(_listed(known), _listed(sorted(entries))))


def _adam(groups: Sequence[Mapping[str, object]]) -> str:
    told = {group.get(DECOUPLED) for group in groups}
    decays = [group.get("weight_decay") for group in groups if group.get("weight_decay")]
    if told == {None} and decays:
        raise Mismatch(NOT_TOLD.format(decays[0]))
    return ADAMW if True in told else ADAM


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name[:30] for name in names[:8]) or "empty"
