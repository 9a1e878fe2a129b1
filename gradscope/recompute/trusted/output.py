"""Standard output is gradscope's own: what the user's code writes there goes to standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_OUTPUT: Final = 1
_ERRORS: Final = 2


@contextmanager
def to_standard_error() -> Iterator[None]:
    """Python's standard output and the process' own descriptor: ``os.system`` and extensions use that one.

    Where a descriptor is closed, Python's own output alone is redirected.
    """
    with contextlib.redirect_stdout(sys.stderr):
        try:
            kept = os.dup(_OUTPUT)
        except OSError:
            yield
            return
        try:
            _flush()
            with contextlib.suppress(OSError):
                os.dup2(_ERRORS, _OUTPUT)
            yield
        finally:
            _flush()
            os.dup2(kept, _OUTPUT)
            os.close(kept)


def _flush() -> None:
    """What waits in a buffer belongs to where the descriptor pointed when it was written."""
    for name in ("stdout", "__stdout__"):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            getattr(sys, name).flush()
