"""The same batches in float64: a zero that is none there was lost to a type with less range.

``in_float64(found.batches())`` goes over the batches as they are, whoever computes them: within a pass every
call of torch gets its floating-point tensors in float64, and where the code asks for a smaller type
(``.half()``, ``.float()``, ``dtype=torch.float16``) it gets float64. Autocast leaves float64 alone (ATen's
autocast_mode.h: ``cached_cast`` skips kDouble). The weights are the checkpoint's, only wider. Random noise is
drawn as float32, so that it is the same as in the pass that is repeated.

Not repeated: what a call computes inside itself in a type of its own, and code that calls numpy.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
TINY: Final = frozenset({torch.float16, torch.bfloat16})
_FLOATS: Final = TINY | {torch.float32, torch.float64}
_CASTS: Final = frozenset({"float", "half", "bfloat16"})
_AS_IT_IS: Final = frozenset(
    {
        "grad",
        "backward",
        "detach",
        "register_hook",
        "register_post_accumulate_grad_hook",
        "__get__",
        "__set__",
    }
)
"""They work on the very tensor they are given, not on its values."""
_NOISE: Final = frozenset({"normal_", "uniform_", "exponential_", "bernoulli_"})
NARROW: Final = frozenset(
    {torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz}
)
"""Types with less range than float32; bfloat16 has as much."""


@dataclass(kw_only=True)
class Seen:
    """What a repeated pass would have used."""

    is_narrow: bool = False
    """Whether a type with less range than float32: weights, casts, or autocast."""


_REPEATING: ContextVar[Seen | None] = ContextVar("_REPEATING", default=None)


def in_float64(batches: Iterator[T], seen: Seen | None = None) -> Iterator[T]:
    """The same batches, each computed in float64; gradients come back in the weights' own type.

    Args:
        batches: computed when they are asked for.
        seen: filled on the way.
    """
    noted = seen or Seen()
    while True:
        token = _REPEATING.set(noted)
        try:
            with Float64(noted):
                one = next(batches)
        except StopIteration:
            return
        finally:
            _REPEATING.reset(token)
        yield one


@contextmanager
def widened(model: torch.nn.Module) -> Iterator[None]:
    """Weights of 16 bits are float64 in the block, where a batch is repeated: gradients keep their range."""
    seen = _REPEATING.get()
    tiny = [each for each in model.parameters() if each.dtype in TINY] if seen is not None else []
    if seen is not None and any(each.dtype in NARROW for each in tiny):
        seen.is_narrow = True
    kept = [each.data for each in tiny]
    try:
        for each in tiny:
            each.data = each.data.double()
        yield
    finally:
        for each, data in zip(tiny, kept, strict=True):
            each.grad, each.data = None, data


class Float64(TorchFunctionMode):
    """Every call in the block in float64."""

    def __init__(self, seen: Seen | None = None) -> None:
        super().__init__()
        self._seen = seen or Seen()

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do the call on wider tensors."""
        del types
        name, named = getattr(func, "__name__", ""), kwargs or {}
        if not self._seen.is_narrow:
            self._seen.is_narrow = name == "half" or _is_narrow((*args, *named.values()))
        if name in _AS_IT_IS:
            return func(*args, **named)
        if name in _CASTS and isinstance(args[0], torch.Tensor):
            return args[0].double()
        if name in _NOISE and args[0].dtype is torch.float64:
            # Of doubles other numbers are drawn.
            return args[0].copy_(func(torch.empty(args[0].shape, dtype=torch.float32), *args[1:], **named))
        if name.endswith("_") and not name.endswith("__"):
            # What is changed in place must stay itself, and of one type with what changes it.
            kind = _kind(args[0])
            return func(
                args[0], *_as(kind, args[1:]), **{key: _as(kind, each) for key, each in named.items()}
            )
        wide = {key: _as(torch.float64, each) for key, each in named.items()}
        return func(*_as(torch.float64, args), **wide)


def _is_narrow(values: tuple[Any, ...]) -> bool:
    """Whether a call would have used a narrow type: by what it is given, or by autocast."""
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") in NARROW:
        return True
    kinds = (each.dtype if isinstance(each, torch.Tensor) else each for each in values)
    return any(isinstance(each, torch.dtype) and each in NARROW for each in kinds)


def _kind(value: Any) -> torch.dtype:
    """Of a tensor, or of the first of several."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return first.dtype if isinstance(first, torch.Tensor) and first.is_floating_point() else torch.float64


def _as(kind: torch.dtype, value: Any) -> Any:
    """Floating-point tensors and types as this one; what holds them, through lists and tuples."""
    if isinstance(value, torch.Tensor):
        return value.to(kind) if value.dtype in _FLOATS else value
    if isinstance(value, torch.dtype):
        return kind if value in _FLOATS else value
    if type(value) in {list, tuple}:
        return type(value)(_as(kind, each) for each in value)
    return value
