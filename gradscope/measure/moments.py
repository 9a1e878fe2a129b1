"""What saved optimizer state tells of a layer's past gradients. Evidence, never a gradient.

Adam's ``exp_avg`` of a layer that died never becomes 0, so a zero there counts nothing; an exact 0 in
``exp_avg_sq`` means that no gradient above about 1e-21 was ever seen (its square rounds to 0).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from gradscope.measure.averages import Averages, averages, number
from gradscope.measure.ratios import PRECISE, Ratios, ratios_of
from gradscope.measure.silence import RARE, Decay, solved
from gradscope.records import OptimizerEvidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]

NOT_TESTABLE: Final = "not testable: "
NEVER: Final = ("never_trained_fraction", "never_trained_rows", "never_trained_columns")
SILENT: Final = ("silent_updates", "silent_at_least", "silent_at_most", "silent_rows", "silent_columns")
MEASURES: Final = (*NEVER, *SILENT, "activity_rate")
NO_MATRIX: Final = "a parameter of one dimension has neither rows nor columns"
NEVER_ANY: Final = "no gradient ever reached this layer"
NEEDS_GRADIENT: Final = (
    "needs a gradient, stored or recomputed, to compare with: averages alone cannot tell seldom from small"
)
SHRUNK: Final = "looks silent, but its gradient is not 0: it has shrunk far below its past size"
MOST_UPDATES: Final = 2**53
"""From here on a count of updates is damage."""
LUCK_ALLOWED: Final = 14.0
"""Updates; layers of so few units that chance alone misleads further get no estimate below it."""
LEAST_PRESENT: Final = 32
"""Non-zero elements of a gradient below which one batch's mean square is chance."""
COMPARABLE: Final = 4.0
"""Past mean square over present one; above it the gradient has changed more than it can be absent."""


def optimizer_evidence(
    moments: Mapping[str, Array],
    settings: Mapping[str, object],
    *,
    shape: tuple[int, ...],
    gradient: Array | None = None,
) -> OptimizerEvidence:
    """Never-trained elements, updates since the last gradient, share of updates with one.

    Args:
        moments: state of one parameter as torch names it: exp_avg, exp_avg_sq, step, ...
        settings: of its parameter group as torch names them: betas, weight_decay, amsgrad, ...
        shape: of the parameter, [out, in, ...].
        gradient: of one batch, of this shape, as the optimizer would see it; for ``activity_rate``, and
            to tell a gradient that shrank from one that is gone.

    Returns:
        Every measure, or None with its reason: nothing is claimed under L2 weight decay, amsgrad,
        half precision, non-finite or unknown state, or before the first update. Silence needs Adam's
        two averages with beta1^2 < beta2. See silence.py for what the three numbers of silence mean.
    """
    count = _num_updates(moments)
    base = {} if count is not None else {"num_updates": "the optimizer does not count its updates"}
    found = averages(moments, settings, shape)
    problem = found if isinstance(found, str) else None
    if count == 0:
        problem = "the optimizer has not stepped"
    elif not math.prod(shape):
        problem = "no elements"
    if problem is not None or isinstance(found, str):
        why = f"{NOT_TESTABLE}{problem}"
        return OptimizerEvidence(num_updates=count, reasons={**base, **dict.fromkeys(MEASURES, why)})
    values, reasons = _never(found.trace)
    silence = _silence(found, count)
    if silence[0].get("silent_at_least") and _is_present(gradient, shape):
        silence = {}, dict.fromkeys(SILENT, f"{NOT_TESTABLE}{SHRUNK}")
    for more, why_not in (silence, _activity(found, count, gradient)):
        values |= more
        reasons |= why_not
    return OptimizerEvidence(**values, num_updates=count, reasons={**base, **reasons})


def _num_updates(moments: Mapping[str, Array]) -> int | None:
    count = number(moments.get("step"))
    return int(count) if count is not None and 0 <= count < MOST_UPDATES and count == int(count) else None


def _never(trace: Array) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {"never_trained_fraction": 1 - int(np.count_nonzero(trace)) / trace.size}
    if trace.ndim < 2:  # noqa: PLR2004 - a matrix
        return values, dict.fromkeys(NEVER[1:], NO_MATRIX)
    rows, columns = ((trace != 0).any(_others(trace, axis)) for axis in (0, 1))
    values["never_trained_rows"] = int(np.count_nonzero(~rows))
    values["never_trained_columns"] = int(np.count_nonzero(~columns))
    return values, {}


def _silence(found: Averages, count: int | None) -> tuple[dict[str, Any], dict[str, str]]:
    decay = _decay(found, count)
    if isinstance(decay, str):
        return {}, dict.fromkeys(SILENT, f"{NOT_TESTABLE}{decay}")
    assert found.average is not None
    assert found.square is not None
    ratios = ratios_of(found.average, found.square)
    if not ratios.num_known + ratios.num_stuck:
        why = "no gradient above about 1e-18 ever reached it" if found.trace.any() else NEVER_ANY
        return {}, dict.fromkeys(SILENT, f"{NOT_TESTABLE}{why}")
    values, reasons = _bounds(decay, ratios)
    lines = _silent_lines(decay, ratios) if found.trace.ndim > 1 else NO_MATRIX
    if isinstance(lines, str):
        return values, {**reasons, **dict.fromkeys(SILENT[3:], lines)}
    return {**values, **lines}, reasons


def _decay(found: Averages, count: int | None) -> Decay | str:
    """How the ratio of the two averages falls, or why it tells nothing."""
    first, second = found.average_kept, found.kept
    if found.average is None or first is None or second is None:
        return "silence shows in two averages that forget at different speeds, as Adam's; here is one"
    if count is None:
        return "the number of updates is unknown"
    if not 0 < first**2 < second:
        return f"betas ({first:g}, {second:g}): the first average must forget faster than the second"
    if any(str(each.dtype) not in PRECISE for each in (found.average, found.trace)):
        return f"averages of {found.trace.dtype} are too coarse to fall as they should"
    return Decay(beta1=first, beta2=second, num_updates=count)


def _bounds(decay: Decay, ratios: Ratios) -> tuple[dict[str, Any], dict[str, str]]:
    """Silence of the layer: as long as that of its unit that was heard last."""
    rows = ratios.rows[np.isfinite(ratios.rows)]
    spare = decay.luck(max(rows.size, 1))
    if not ratios.num_known:
        least = _least(decay, float(ratios.stuck_at_most), spare)
        why = f"more than {least} updates: its average gradient sticks at the smallest numbers there are"
        reasons = dict.fromkeys(("silent_updates", "silent_at_most"), why)
        return {"silent_at_least": least}, reasons
    loudest = float(rows.max())
    most = math.ceil(solved(decay.most, loudest, decay.num_updates))
    least = _least(decay, loudest, spare)
    middle = max(min(round(solved(decay.noise, ratios.mean, decay.num_updates)), most), least)
    values = {"silent_at_least": least, "silent_at_most": max(most, least)}
    if middle and not least and spare > LUCK_ALLOWED:
        why = f"too few units ({rows.size}) to tell less than {math.ceil(spare)} updates from none"
        return values, {"silent_updates": f"{NOT_TESTABLE}{why}"}
    return {**values, "silent_updates": middle}, {}


def _least(decay: Decay, log_ratio: float, spare: float) -> int:
    return max(math.floor(solved(decay.least, log_ratio, decay.num_updates) - spare), 0)


def _silent_lines(decay: Decay, ratios: Ratios) -> dict[str, int] | str:
    """Rows and columns that were trained once and are silent, whatever their gradients were like."""
    # Each of many lines may be quiet by chance, and all elements of one by the same chance.
    spare = decay.luck(1, RARE / max(ratios.rows.size, ratios.columns.size))
    if decay.num_updates - 1 <= spare:
        return f"{NOT_TESTABLE}needs more than {math.ceil(spare) + 1} updates"
    limit = decay.least(spare)
    return {
        "silent_rows": int(np.count_nonzero(ratios.rows < limit)),
        "silent_columns": int(np.count_nonzero(ratios.columns < limit)),
    }


def _activity(
    found: Averages, count: int | None, gradient: Array | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Rate p of v-hat = p x mean g^2: the average knows the updates without a gradient, g does not."""
    if found.square is None:
        return {}, {"activity_rate": f"{NOT_TESTABLE}no squared gradients are kept"}
    if count is None:
        return {}, {"activity_rate": f"{NOT_TESTABLE}the number of updates is unknown"}
    if gradient is None or gradient.shape != found.square.shape:
        return {}, {"activity_rate": f"{NOT_TESTABLE}{NEEDS_GRADIENT}"}
    present = _present(gradient)
    if int(np.count_nonzero(present)) < LEAST_PRESENT:
        why = f"the gradient to compare with has fewer than {LEAST_PRESENT} values that are not 0"
        return {}, {"activity_rate": f"{NOT_TESTABLE}{why}"}
    now = float(np.square(gradient[present], dtype=np.float64).sum())
    weight = count if found.kept is None else -math.expm1(count * math.log(found.kept))
    rate = float(found.square[present].sum(dtype=np.float64)) / weight / now
    if rate > COMPARABLE:
        why = f"past gradients were {math.sqrt(rate):,.1f} times as large as the one to compare with"
        return {}, {"activity_rate": f"{NOT_TESTABLE}{why}"}
    return {"activity_rate": min(rate, 1.0)}, {}


def _is_present(gradient: Array | None, shape: tuple[int, ...]) -> bool:
    return gradient is not None and gradient.shape == shape and bool(_present(gradient).any())


def _present(gradient: Array) -> NDArray[np.bool_]:
    present: NDArray[np.bool_] = np.isfinite(gradient) & (gradient != 0)
    return present


def _others(array: Array, axis: int) -> tuple[int, ...]:
    return tuple(each for each in range(array.ndim) if each != axis)
