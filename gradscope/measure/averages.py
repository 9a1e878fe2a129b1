"""What an optimizer's saved state is an average of, and whether zeros in it can be believed.

Names of states and settings are torch's (torch/optim/*.py, 2.13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

ADAM: Final = frozenset({"exp_avg", "exp_avg_sq"})
_BESIDE_ADAM: Final = frozenset({"step", "max_exp_avg_sq", "mu_product"})
_BESIDE_RMSPROP: Final = frozenset({"step", "momentum_buffer", "grad_avg", "acc_delta"})
WIDE: Final = ("float32", "float64", "bfloat16")
"""Types with the exponents of float32 at least: what fell below them fell below about 1e-38."""
STICKY: Final = 0.5
"""An average that is multiplied with more than this never rounds to 0 again: it sticks at the smallest
numbers there are (measured: Adam's exp_avg at 5.6e-45 in float32)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Averages:
    """State of one parameter that is 0 exactly where no gradient ever arrived."""

    trace: Array
    """0 where there was never a gradient: a squared average, or the momentum where that is all."""
    square: Array | None
    """Average of squared gradients, from 0 on."""
    kept: float | None
    """Share of ``square`` that an update keeps; None for a plain sum."""
    average: Array | None = None
    """Average of gradients, from 0 on."""
    average_kept: float | None = None


def averages(
    moments: Mapping[str, Array], settings: Mapping[str, object], shape: tuple[int, ...]
) -> Averages | str:
    """The averages; else why nothing can be said of past gradients."""
    if problem := _decayed(settings):
        return problem
    found = _known(moments, settings)
    if isinstance(found, str):
        return found
    return _problem(found, shape) or found


def _decayed(settings: Mapping[str, object]) -> str | None:
    decay = number(settings.get("weight_decay"))
    if decay is None:
        return "the file does not say whether weights decay"
    if decay and "decoupled_weight_decay" not in settings and "betas" in settings:
        return "weights decay, and the file does not say whether apart from the gradient (AdamW) or within it"
    if decay and not settings.get("decoupled_weight_decay"):
        return f"weight decay {decay:g} is added to the gradient and fills the averages where it is 0"
    return None


def _known(moments: Mapping[str, Array], settings: Mapping[str, object]) -> Averages | str:
    states = set(moments)
    if states >= ADAM and states <= ADAM | _BESIDE_ADAM:
        return _adam(moments, settings)
    if "square_avg" in states and states <= {"square_avg", *_BESIDE_RMSPROP}:
        return _rmsprop(moments, settings)
    if states in ({"sum", "step"}, {"sum"}):
        return _adagrad(moments, settings)
    if states == {"momentum_buffer"}:
        return _momentum(moments, settings)
    return f"an optimizer of an unknown kind, with the states {', '.join(sorted(states))[:80]}"


def _adam(moments: Mapping[str, Array], settings: Mapping[str, object]) -> Averages | str:
    if settings.get("amsgrad") or "max_exp_avg_sq" in moments:
        return "amsgrad keeps the largest squared average; what its plain one tells is not claimed"
    betas = settings.get("betas")
    both = [number(each) for each in betas] if isinstance(betas, (tuple, list)) else []
    match both:
        case [float(beta1), float(beta2)] if 0 <= beta1 < 1 and STICKY < beta2 < 1:
            square, average = moments["exp_avg_sq"], moments["exp_avg"]
            return Averages(trace=square, square=square, kept=beta2, average=average, average_kept=beta1)
    return f"betas {betas!r:.40}: the averages do not last"


def _rmsprop(moments: Mapping[str, Array], settings: Mapping[str, object]) -> Averages | str:
    if "maximize" not in settings:
        return "this RMSprop may start its squared average at 1 and not at 0 (as RMSpropTFLike does)"
    kept = number(settings.get("rho" if "acc_delta" in moments else "alpha"))
    if kept is None or not STICKY < kept < 1:
        return f"a squared average that keeps {kept} can fall back to exactly 0"
    return Averages(trace=moments["square_avg"], square=moments["square_avg"], kept=kept)


def _adagrad(moments: Mapping[str, Array], settings: Mapping[str, object]) -> Averages | str:
    if number(settings.get("initial_accumulator_value")) != 0:
        return "Adagrad's sum of squares did not start at 0"
    return Averages(trace=moments["sum"], square=moments["sum"], kept=None)


def _momentum(moments: Mapping[str, Array], settings: Mapping[str, object]) -> Averages | str:
    kept = number(settings.get("momentum"))
    if kept is None or kept <= STICKY:
        return f"momentum that keeps {kept} can fall back to exactly 0"
    return Averages(trace=moments["momentum_buffer"], square=None, kept=None)


def _problem(found: Averages, shape: tuple[int, ...]) -> str | None:
    for each in (found.trace, found.average):
        if each is None:
            continue
        if each.shape != shape:
            return f"the state's shape {list(each.shape)} is not the parameter's {list(shape)}"
        if str(each.dtype) not in WIDE:
            return f"{each.dtype} averages fall to exactly 0 under small gradients"
        if not np.isfinite(each).all():
            return "the optimizer's state holds values that are not finite"
    if found.square is not None and found.square.size and found.square.min() < 0:
        return "the squared average is negative somewhere: the state is damaged"
    return None


def number(value: object) -> float | None:
    """A plain number as a float; None for anything else."""
    plain = value.item() if isinstance(value, (np.generic, np.ndarray)) and value.size == 1 else value
    return float(plain) if isinstance(plain, (int, float)) and np.isfinite(plain) else None
