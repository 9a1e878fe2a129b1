"""In the child: which library reads a request, and what goes wrong there as an answer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from gradscope.read.file_bytes import Foreign, Malformed
from gradscope.read.native_output import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

TASKS: Final[Mapping[str, str]] = {
    "hdf5": "hdf5_rows",
    "parquet": "table_rows",
    "arrow": "table_rows",
    "csv": "table_rows",
    "minari": "episode_rows",
}
"""Task -> module of gradscope.read whose ``write_rows(request, output)`` returns the rest of the answer."""
_NO_MEMORY: Final = ("alloc", "out of memory")


def answer(request: Mapping[str, Any]) -> None:
    """Write rows and answer."""
    output = Output(int(request["max_bytes"]))
    try:
        found = import_module(f"gradscope.read.{TASKS[request['task']]}").write_rows(request, output)
        answered = {"arrays": output.entries, **found}
    except Exception as error:  # noqa: BLE001  whatever a library raises is an answer
        answered = {"kind": "malformed", **_failure(error)}
    output.finish(answered)


def _failure(error: Exception) -> dict[str, object]:
    if isinstance(error, Malformed):
        kind = "foreign" if isinstance(error, Foreign) else "malformed"
        return {"kind": kind, "problem": error.problem, "advice": error.advice}
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").split(".")[0]
        return {"problem": f"is read with {name}, which is not installed", "advice": f"pip install {name}"}
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(word in text.lower() for word in _NO_MEMORY):
        return {"kind": "memory"}
    if isinstance(error, OSError) and error.errno is not None and error.filename is None and "space" in text:
        return {"problem": f"cannot be unpacked into the temporary folder: {error.strerror}", "advice": ""}
    if "CSV" in text:
        return {
            "problem": f"is no table of numbers: {text[:160]!r}",
            "advice": "Mend it, or leave the column out.",
        }
    problem = (
        f"is damaged: its library says {text[:160]!r}" if text else f"is damaged ({type(error).__name__})"
    )
    return {"problem": problem, "advice": "Copy it again from where it was written."}
