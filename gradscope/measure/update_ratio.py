"""How far the optimizer's next step moves a weight, against its size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure.averages import ADAM, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

UNKNOWN_DECAY: Final = (
    "weights decay, and the file does not say whether apart from the gradient (AdamW) or within it"
)
_BESIDE: Final = frozenset({"step"})
NOT_ADAM: Final = "the next step is known of Adam and AdamW only"
NO_NUMBERS: Final = "the file does not hold lr, betas, eps and weight_decay as plain numbers"


def update_ratio(
    weight: Array, gradient: Array, moments: Mapping[str, Array], settings: Mapping[str, object]
) -> float | str:
    """Rms of the step that Adam or AdamW would do next over rms of the weight.

    m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, step = lr m'/(1 - b1^t) / (sqrt(v'/(1 - b2^t)) + eps)
    with t = step + 1; L2 decay is added to g, AdamW's to the step (Kingma & Ba 2015; Loshchilov & Hutter
    2019). About 1e-3 is what a healthy training shows (Karpathy, CS231n). The rate is the one in the
    file: a schedule may set another before the step.

    Args:
        weight: of the layer.
        gradient: of one batch, as the optimizer would see it, of the same shape.
        moments: exp_avg, exp_avg_sq and step of this weight.
        settings: lr, betas, eps, weight_decay, amsgrad and maximize of its group.

    Returns:
        The ratio; or why there is none: another optimizer, amsgrad, values that are not finite, or a
        weight that is 0 throughout.
    """
    problem = _problem(weight, gradient, moments, settings)
    if problem is not None:
        return problem
    numbers, count = _numbers(settings), number(moments["step"])
    if numbers is None or count is None:
        return NO_NUMBERS
    size = _rms(weight.astype(np.float64))
    if not size:
        return "the weight is 0"
    is_decoupled = bool(settings.get("decoupled_weight_decay"))
    ratio = _rms(_step(weight, gradient, moments, (*numbers, count + 1), is_decoupled=is_decoupled)) / size
    return ratio if math.isfinite(ratio) else "the step is not finite"


def _step(
    weight: Array,
    gradient: Array,
    moments: Mapping[str, Array],
    numbers: tuple[float, float, float, float, float, float],
    *,
    is_decoupled: bool,
) -> Array:
    rate, beta1, beta2, eps, decay, count = numbers
    theta, slope = weight.astype(np.float64), gradient.astype(np.float64)
    if not is_decoupled:
        slope = slope + decay * theta
    average = beta1 * moments["exp_avg"].astype(np.float64) + (1 - beta1) * slope
    square = beta2 * moments["exp_avg_sq"].astype(np.float64) + (1 - beta2) * slope**2
    unbiased = average / (1 - beta1**count)
    below = np.sqrt(square / (1 - beta2**count)) + eps
    # Without eps, 0 / 0 is a parameter that never had a gradient: torch makes it NaN as well.
    with np.errstate(divide="ignore", invalid="ignore"):
        step: Array = rate * (unbiased / below)
    return step + rate * decay * theta if is_decoupled else step


def _problem(
    weight: Array, gradient: Array, moments: Mapping[str, Array], settings: Mapping[str, object]
) -> str | None:
    if problem := _not_adam(moments, settings):
        return problem
    arrays = (weight, gradient, moments["exp_avg"], moments["exp_avg_sq"])
    if {each.shape for each in arrays} != {weight.shape} or not weight.size:
        return "weight, gradient and optimizer state differ in shape"
    if not all(np.isfinite(each.astype(np.float64)).all() for each in arrays):
        return "weight, gradient or optimizer state hold values that are not finite"
    return "the squared average is negative somewhere" if moments["exp_avg_sq"].min() < 0 else None


def _not_adam(moments: Mapping[str, Array], settings: Mapping[str, object]) -> str | None:
    if not moments:
        return "the file holds no optimizer state of this layer"
    # RAdam keeps the same state; its settings lack amsgrad.
    if not ADAM | _BESIDE <= set(moments) <= ADAM | _BESIDE | {"max_exp_avg_sq"} or "amsgrad" not in settings:
        return NOT_ADAM
    if settings.get("amsgrad") or settings.get("maximize") or "max_exp_avg_sq" in moments:
        return f"{NOT_ADAM}, without amsgrad and maximize"
    is_told = "decoupled_weight_decay" in settings or not settings.get("weight_decay")
    return None if is_told else UNKNOWN_DECAY


def _numbers(settings: Mapping[str, object]) -> tuple[float, float, float, float, float] | None:
    betas = settings.get("betas")
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:  # noqa: PLR2004
        return None
    rate, eps, decay = (number(settings.get(name)) for name in ("lr", "eps", "weight_decay"))
    first, second = number(betas[0]), number(betas[1])
    if rate is None or eps is None or decay is None or first is None or second is None:
        return None
    return (rate, first, second, eps, decay) if 0 <= first < 1 and 0 <= second < 1 else None


def _rms(array: Array) -> float:
    return math.sqrt(float(np.square(array).mean()))
