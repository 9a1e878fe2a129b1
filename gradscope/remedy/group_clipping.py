"""clip_by_group: each part of a model is clipped by its own gradient norm.

Helps: where one exploding head shrinks every other layer through the common coefficient: [1e6, 1e-2] clipped
together to 0.5 becomes [0.5, 5e-9] (SCIENCE section 2, item 5). A natural division is policy, value and
features extractor.

Cannot help: a group that explodes by itself keeps its direction only. Under Adam, whose updates do not depend
on a constant size, clipping tells only where the norm changes from step to step. A group that is clipped
at every step needs the cause removed. ``clip_grad_norm_`` makes zeros or NaN of every gradient where one
is not finite; here the other groups go on.

Inside Stable-Baselines3, whose loop cannot be changed, with ``max_grad_norm=float("inf")`` where the
algorithm has that option::

    def clip(*_):  # what such a hook returns would become the step's arguments
        clip_by_group(groups, 0.5)

    model.policy.optimizer.register_step_pre_hook(clip)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch

from gradscope.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TINY: Final = 1e-6
"""Added to the norm, as in ``torch.nn.utils.clip_grad_norm_``."""


def clip_by_group(
    groups: Mapping[str, Iterable[torch.Tensor]],
    max_norm: float | Mapping[str, float],
    *,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> dict[str, float]:
    """Clip each group of parameters by its own norm, in place, and return the norms before clipping.

    One exploding head no longer shrinks the others; it is not mended itself (see this file's docstring).
    A group whose norm is not finite is skipped: its gradients become None, so that the optimizer leaves its
    weights and moments alone in this step. Norms are summed in float64 where the device has it: a finite
    gradient has a finite norm. The device is waited for once per group.

    Args:
        groups: name to parameters; those without gradient count as 0.
        max_norm: largest norm, for all groups or by name; infinity for a group that is only measured.
        norm_type: order of the norm, also ``inf``.
        error_if_nonfinite: raise instead of skipping; then no gradient has been touched.
        foreach: scale all gradients of a group in one call; None: yes.

    Raises:
        UsageError: a parameter is in two groups, a limit is missing or not above 0.
        RuntimeError: a norm is not finite and ``error_if_nonfinite``; the error names the groups.
    """
    # A tied weight may be listed twice, and is one parameter.
    members = {name: list({id(each): each for each in given}.values()) for name, given in groups.items()}
    limits = _limits(members, max_norm)
    _check_disjoint(members)
    norms = {name: _norm(parameters, norm_type) for name, parameters in members.items()}
    broken = [name for name, norm in norms.items() if not math.isfinite(norm)]
    if broken and error_if_nonfinite:
        raise RuntimeError(f"{', '.join(broken)}: the gradient norm is not finite. Look for NaN in the loss.")
    for name, parameters in members.items():
        if name in broken:
            _drop_gradients(parameters)
        else:
            # Never above 1, and exactly 1 where nothing is to be clipped.
            _scale(_gradients(parameters), min(1.0, limits[name] / (norms[name] + _TINY)), foreach=foreach)
    return norms


def _limits(members: Mapping[str, object], max_norm: float | Mapping[str, float]) -> Mapping[str, float]:
    given = max_norm if isinstance(max_norm, Mapping) else dict.fromkeys(members, max_norm)
    if given.keys() != members.keys():
        odd = ", ".join(sorted(given.keys() ^ members.keys()))
        raise UsageError(f"max_norm: group and limit do not match for {odd}. Give each group one limit.")
    for name, limit in given.items():
        if not limit > 0:
            raise UsageError(f"max_norm={limit} of {name!r}: not above 0, it would stop all learning.")
    return given


def _check_disjoint(members: Mapping[str, Sequence[torch.Tensor]]) -> None:
    owners: dict[int, str] = {}
    for name, parameters in members.items():
        for parameter in parameters:
            owner = owners.setdefault(id(parameter), name)
            if owner != name:
                shape = list(parameter.shape)
                raise UsageError(
                    f"a parameter {shape} is in groups {owner!r} and {name!r}. It would be clipped twice."
                )


def _drop_gradients(parameters: Sequence[torch.Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _gradients(parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _norm(parameters: Sequence[torch.Tensor], norm_type: float) -> float:
    gradients = _gradients(parameters)
    if not gradients:
        return 0.0
    norms = [
        torch.linalg.vector_norm(
            gradient, norm_type, dtype=torch.float32 if gradient.device.type == "mps" else torch.float64
        )
        for gradient in gradients
    ]
    together = torch.stack([norm.to(norms[0].device) for norm in norms])
    return float(torch.linalg.vector_norm(together, norm_type))


@torch.no_grad()
def _scale(gradients: list[torch.Tensor], coefficient: float, *, foreach: bool | None) -> None:
    if coefficient == 1 or not gradients:
        return
    if foreach is not False:
        torch._foreach_mul_(gradients, coefficient)
        return
    for gradient in gradients:
        gradient.mul_(coefficient)
