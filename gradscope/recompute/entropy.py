"""The entropy coefficient of SAC and TQC. Source: train() of both algorithms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from gradscope.recompute.losses import gradients_of, number_of
from gradscope.recompute.networks import Mismatch

if TYPE_CHECKING:
    from gradscope.recompute.inputs import Training
    from gradscope.recompute.networks import Parameters

ENTROPY: Final = "log_ent_coef"
FIXED_ENTROPY: Final = "ent_coef_tensor"


@dataclass(frozen=True, kw_only=True, eq=False)
class Entropy:
    """What the entropy is held at."""

    target: float | None
    """None where the coefficient is fixed."""

    def __call__(
        self, parameters: Parameters, log_prob: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Gradient of the coefficient's logarithm, where it is learned, and the coefficient."""
        if self.target is None:
            return {}, parameters[FIXED_ENTROPY]
        logarithm = parameters[ENTROPY]
        loss = -(logarithm * (log_prob + self.target).detach()).mean()
        return gradients_of(loss, parameters, [ENTROPY]), torch.exp(logarithm.detach())


def entropy(training: Training) -> Entropy:
    """The coefficient of a checkpoint.

    Raises:
        Mismatch: it is missing, or its target is.
    """
    known = [each for name, each in training.variables.items() if name in {ENTROPY, FIXED_ENTROPY}]
    if [(each.size, str(each.dtype)) for each in known] != [(1, "float32")]:
        raise Mismatch("the checkpoint does not hold one entropy coefficient")
    return Entropy(target=number_of(training, "target_entropy") if ENTROPY in training.variables else None)


def fresh_entropy(setting: object) -> float | None:
    """Logarithm of the coefficient that ``ent_coef`` starts with; None where it is not learned."""
    if not isinstance(setting, str) or not setting.startswith("auto"):
        return None
    _, _, start = setting.partition("_")
    try:
        return math.log(float(start)) if start else 0.0
    except ValueError:
        return 0.0
