"""The user's code as a guest: what it changes in this process is put back after each of its turns."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import GradscopeError
from gradscope.recompute.networks import Mismatch
from gradscope.recompute.trusted.output import to_standard_error
from gradscope.recompute.trusted.surroundings import Surroundings, surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_INSTALLED: Final = {"site-packages", "dist-packages"}
_MAX_TEXT: Final = 300
_PIP: Final = {
    "stable_baselines3": "stable-baselines3",
    "cloudpickle": "stable-baselines3",
    "gymnasium": "stable-baselines3",
    "sb3_contrib": "sb3-contrib",
}


class GuestFailed(Exception):
    """The user's code cannot be run, or what it gives is no use; the text is one line for the user."""


@dataclass(kw_only=True, eq=False)
class Guest:
    """Where the user's code lies, and what it leaves behind between its turns."""

    folder: Path | None
    """Stands in front of sys.path while its code runs."""
    _modules: dict[str, ModuleType] = field(default_factory=dict)
    """Imported from the folder: other runs may have modules of the same names."""
    _own: Surroundings | None = None
    _is_in: bool = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Run the user's code in the block: paths, settings and globals as it left them last time.

        What it prints goes to standard error; no ``__pycache__`` is written. A turn within a turn is a part
        of it.

        Raises:
            GuestFailed: instead of whatever its code raises; our own exceptions pass.
        """
        if self._is_in:
            yield
            return
        before, known, self._is_in = surroundings(), set(sys.modules), True
        with to_standard_error(), warnings.catch_warnings():
            try:
                self._enter()
                yield
            except (GuestFailed, GradscopeError, Mismatch, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise GuestFailed(told(error)) from error
            finally:
                self._is_in = False
                self._own = surroundings()
                before.put_back()
                self._take_modules(known)

    def _enter(self) -> None:
        if self.folder is not None and not self.folder.is_dir():
            raise GuestFailed(f"--code {self.folder} is no folder")
        if self._own is not None:
            self._own.put_back()
        elif self.folder is not None:
            sys.path.insert(0, str(self.folder.resolve()))
        sys.dont_write_bytecode = True
        sys.modules.update(self._modules)
        importlib.invalidate_caches()

    def _take_modules(self, known: set[str]) -> None:
        """Take out of sys.modules what was imported from the user's folder."""
        folder = None if self.folder is None else self.folder.resolve()
        for name in set(sys.modules) - known:
            if folder is not None and _is_below(sys.modules[name], folder) and not _is_ours(name):
                self._modules[name] = sys.modules.pop(name)
        if folder is not None:
            inside = f"{folder}{os.sep}"
            for path in [each for each in sys.path_importer_cache if f"{each}{os.sep}".startswith(inside)]:
                sys.path_importer_cache.pop(path, None)


def told(error: BaseException) -> str:
    """What an exception of the user's code comes to, in one line, and what to try."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing in _PIP:
        return f"{missing} is not installed: pip install {_PIP[missing]}"
    if missing is not None:
        return f"module {one_line(missing)} not found: name its folder with --code DIR, or install it"
    text = one_line(str(error))
    return f"the user's code failed: {type(error).__name__}{': ' if text else ''}{text}{_place(error)}"


def _place(error: BaseException) -> str:
    """Like " (digits.py, line 7)": the innermost line that is neither a library's nor ours."""
    package = Path(__file__).parents[2]
    own = [
        frame
        for frame in extract_tb(error.__traceback__)
        if Path(frame.filename).is_file()
        and not (_INSTALLED & set(Path(frame.filename).parts) or Path(frame.filename).is_relative_to(package))
    ]
    return f" ({one_line(Path(own[-1].filename).name)}, line {own[-1].lineno})" if own else ""


def one_line(text: str) -> str:
    """A text without line ends and control characters, cut where it is long."""
    shown = "".join(each if each.isprintable() else " " for each in text[: 4 * _MAX_TEXT])
    shown = " ".join(shown.split())
    return shown if len(shown) <= _MAX_TEXT else shown[: _MAX_TEXT - 1] + "…"


def _is_below(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    if not isinstance(file, str):
        return False
    path = Path(os.path.realpath(file))
    return path.is_relative_to(folder) and not _INSTALLED & set(path.relative_to(folder).parts)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == (__package__ or "").partition(".")[0]
