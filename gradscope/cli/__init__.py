"""The command line: one Typer command a file; the only place that prints and exits."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.compare import compare
from gradscope.cli.correlate import correlate
from gradscope.cli.explain import explain
from gradscope.cli.formats import formats
from gradscope.cli.report import report
from gradscope.cli.scan import scan
from gradscope.cli.shift import shift
from gradscope.cli.topics import help_
from gradscope.cli.try_ import try_

OUR_MISTAKE = 70
"""EX_SOFTWARE: an exception nobody foresaw must not look like --fail-on's 1."""

app = typer.Typer(
    help="Why did this model stop learning? Zero gradients, from the files a run has left.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 --fail-on reached, 2 wrong usage, 3 some files unreadable, "
    "4 nothing readable.",
)
for command in (scan, shift, correlate, explain, report, compare, formats):
    app.command()(command)
app.command(name="try")(try_)
app.command(name="help")(help_)


def _wants_version(wanted: bool) -> None:
    if wanted:
        from gradscope.version import __version__

        sys.stdout.write(f"gradscope {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_wants_version, is_eager=True),
    ] = False,
) -> None:
    del version


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; one line on standard error for whatever a user can mend."""
    _open_closed_streams()
    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except KeyboardInterrupt:
        return _complained("interrupted; stored results are as they were", 130)
    except SystemExit as end:
        # Typer ends with 1 where the reader of a pipe is gone, which would look like --fail-on's 1.
        if isinstance(end.__context__, BrokenPipeError):
            return 0
        raise
    except Exception as error:  # noqa: BLE001 - the exit code must not be Python's own 1
        return _ended_by(error)


def _ended_by(error: Exception) -> int:
    """The exit code of an error, told in one line; with a traceback where it is our mistake."""
    from gradscope.errors import GradscopeError
    from gradscope.read.memory import is_out_of_memory, needs_more

    if isinstance(error, GradscopeError):
        return _complained(str(error), error.exit_code)
    wrong_usage = getattr(error, "format_message", None)
    if wrong_usage is not None:
        message = wrong_usage().replace("Value error, ", "").rstrip(".")
        end = "" if message.endswith("?") else "."
        return _complained(f"{message}{end} Try `gradscope --help`.", 2) if message else 2
    if is_out_of_memory(error):
        return _complained(f"this {needs_more()}: give more with --memory, or name fewer files", 2)
    if isinstance(error, OSError):
        from gradscope.cli.terminal import disk_trouble

        _abandon_output()
        return _complained(disk_trouble(error), 2)
    sys.excepthook(type(error), error, error.__traceback__)
    return OUR_MISTAKE


def _open_closed_streams() -> None:
    """Started with >&- or 2>&-, Python has no such stream at all: what is said goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open to the end


def _abandon_output() -> None:
    """What standard output still holds back must not fail once more when the process ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complained(text: str, code: int) -> int:
    from gradscope.cli.terminal import complain

    complain(" ".join(text.split()))
    return code
