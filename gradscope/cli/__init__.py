"""The command line: one Typer command a file; the only place that prints and exits."""

from __future__ import annotations

import os
import sys
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
    from gradscope.errors import GradscopeError

    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except GradscopeError as error:
        return _complained(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complained("interrupted; stored results are as they were", 130)
    except BrokenPipeError:
        # The reader of a pipe is gone: point standard output away, so that the exit stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the exit code must not be Python's own 1
        from gradscope.read.memory import is_out_of_memory, needs_more

        wrong_usage = getattr(error, "format_message", None)
        if wrong_usage is None and is_out_of_memory(error):
            wrong_usage = f"this {needs_more()}: give more with --memory, or name fewer files".strip
        if wrong_usage is None:
            sys.excepthook(type(error), error, error.__traceback__)
            return OUR_MISTAKE
        message = wrong_usage()
        return _complained(f"{message.rstrip('.')}. Try `gradscope --help`.", 2) if message else 2


def _complained(text: str, code: int) -> int:
    from gradscope.cli.terminal import complain

    complain(" ".join(text.split()))
    return code
