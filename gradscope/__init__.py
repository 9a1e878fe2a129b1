"""gradscope: why did this model stop learning?

The path of the data, folder by folder:

    open_run -> read/      a file becomes a Snapshot, a Replay, a Timeline
                run/       what belongs together is joined by step
                recompute/ checkpoint + replay buffer become true gradients, where none are stored
                measure/   arrays become numbers
                judge/     numbers become findings
    show_as  <- show/      a Report or Comparison becomes a screen, JSON, CSV, Markdown, a frame

``gradscope.scan("checkpoints/")`` gives the same Report as the command line,
``gradscope.compare("runs/a", "runs/b")`` the same Comparison.
Everything is imported when it is first used, so that ``import gradscope`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradscope.version import __version__

if TYPE_CHECKING:
    from gradscope.api import open_replay, open_snapshot, show_as, to_frame, true_gradients
    from gradscope.errors import GradscopeError, NothingReadable, UnreadableFile, UsageError
    from gradscope.records import Comparison, Report
    from gradscope.run import open_run, scan, with_associations, with_shift
    from gradscope.run.compared import compare
    from gradscope.settings import Limits, Settings

_HOMES = {
    "Comparison": "records",
    "GradscopeError": "errors",
    "Limits": "settings",
    "NothingReadable": "errors",
    "Report": "records",
    "Settings": "settings",
    "UnreadableFile": "errors",
    "UsageError": "errors",
    "compare": "run.compared",
    "open_replay": "api",
    "open_run": "run",
    "open_snapshot": "api",
    "scan": "run",
    "show_as": "api",
    "to_frame": "api",
    "true_gradients": "api",
    "with_associations": "run",
    "with_shift": "run",
}

__all__ = [
    "Comparison",
    "GradscopeError",
    "Limits",
    "NothingReadable",
    "Report",
    "Settings",
    "UnreadableFile",
    "UsageError",
    "__version__",
    "compare",
    "open_replay",
    "open_run",
    "open_snapshot",
    "scan",
    "show_as",
    "to_frame",
    "true_gradients",
    "with_associations",
    "with_shift",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gradscope' has no attribute {name!r}")
    return getattr(import_module(f"gradscope.{_HOMES[name]}"), name)
