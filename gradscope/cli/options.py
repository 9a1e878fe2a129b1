"""Options that every analysing command shares, declared once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

MAX_SEED = 2**32 - 1
"""As in settings.py, which --help need not import (9 ms); a test compares them."""


class FailOn(StrEnum):
    """Status that makes the command exit with 1."""

    WARN = "warn"
    CRITICAL = "critical"
    COLLAPSE = "collapse"


class Source(StrEnum):
    """Where gradients come from."""

    AUTO = "auto"
    STORED = "stored"
    RECOMPUTED = "recomputed"
    OPTIMIZER = "optimizer"


MEASURE = "What to measure"
GRADIENTS = "Where gradients come from"
OUTPUT = "Output"

PathArgument = Annotated[
    Path | None,
    typer.Argument(metavar="PATH", help="Folder or file; without it, the last scan of this directory."),
]
SliceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slice",
        metavar="NAME[=COLUMNS]",
        help="Define and select a slice: position=146:153, position=position_*, account=flat:1500:1510, "
        "pixels=key:image; or select one by NAME. Repeatable.",
        rich_help_panel=MEASURE,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Values of the shared options."""

    slice_: SliceOption = None
    sequence_length: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Bars in a flat observation.", rich_help_panel=MEASURE),
    ] = None
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only layers that fit. Repeatable.", rich_help_panel=MEASURE),
    ] = None
    skip_layer: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave out layers that fit. Repeatable.", rich_help_panel=MEASURE),
    ] = None
    run: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only this run (a sub-folder of PATH).", rich_help_panel=MEASURE),
    ] = None
    zero_tolerance: Annotated[
        float | None,
        typer.Option(metavar="X", help="|g| <= X is a zero; default 1e-8.", rich_help_panel=MEASURE),
    ] = None
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="LIMITS",
            help="Zero fractions; default warn=0.10,critical=0.25,collapse=0.50.",
            rich_help_panel=MEASURE,
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of gradscope.toml in PATH or here.",
            rich_help_panel=MEASURE,
        ),
    ] = None
    source: Annotated[
        Source | None,
        typer.Option(
            metavar="ORIGIN",
            help="auto (stored where there are any, else recomputed), stored, recomputed from checkpoint "
            "and replay buffer, or optimizer: what its moments tell. Default auto.",
            rich_help_panel=GRADIENTS,
        ),
    ] = None
    batches: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Batches to recompute; default 8.", rich_help_panel=GRADIENTS),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Rows of a batch; default the run's own.", rich_help_panel=GRADIENTS
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_SEED,
            metavar="N",
            help="Of batches and noise, as given to set_random_seed; default 0.",
            rich_help_panel=GRADIENTS,
        ),
    ] = None
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A replay buffer, rollout or batch file for every checkpoint.",
            rich_help_panel=GRADIENTS,
        ),
    ] = None
    replay_keys: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=KEY",
            help="What a file calls its rows: observations=obs_*,actions=u; "
            "or what the loss of --model calls them: x=inputs,y=labels. gradscope help replays.",
            rich_help_panel=GRADIENTS,
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="Your function that returns (model, loss of a batch), for any PyTorch run: "
            "gradscope help model. Needs --trust.",
            rich_help_panel=GRADIENTS,
        ),
    ] = None
    code: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of your own modules. Needs --trust.", rich_help_panel=GRADIENTS
        ),
    ] = None
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Let your own code, and classes that files carry, run: custom extractors, --model.",
            rich_help_panel=GRADIENTS,
        ),
    ] = False
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="LIMIT",
            help="Most memory to use, like 2GB; what needs more is listed. Default 90 % of the machine's.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    json_: Annotated[
        bool,
        typer.Option("--json", help="Only JSON on standard output.", rich_help_panel=OUTPUT),
    ] = False
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Also write .json, .csv or .md. Repeatable.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    fail_on: Annotated[
        FailOn | None,
        typer.Option(help="Exit with 1 where any snapshot is this bad.", rich_help_panel=OUTPUT),
    ] = None
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="No progress and no notices.", rich_help_panel=OUTPUT),
    ] = False
    no_color: Annotated[
        bool,
        typer.Option("--no-color", help="No colors (NO_COLOR does the same).", rich_help_panel=OUTPUT),
    ] = False
    ascii_: Annotated[
        bool,
        typer.Option("--ascii", help="Only ASCII characters.", rich_help_panel=OUTPUT),
    ] = False


@functools.cache
def _shared_options() -> list[inspect.Parameter]:
    """One option a field of Shared; evaluated once for all commands."""
    hints = inspect.get_annotations(Shared, eval_str=True)
    return [
        inspect.Parameter(
            each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name]
        )
        for each in fields(Shared)
    ]


def analysing(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the shared options: its parameter ``shared`` becomes one option a field."""
    own = inspect.signature(function, eval_str=True).parameters
    options = _shared_options()

    @functools.wraps(function)
    def command(**values: Any) -> int:
        from gradscope.cli.memory import limit_memory
        from gradscope.errors import Interrupted

        shared = Shared(**{each.name: values.pop(each.name) for each in fields(Shared)})
        limit_memory(shared.memory, is_quiet=shared.quiet)
        try:
            return function(**values, shared=shared)
        except KeyboardInterrupt as error:
            # Typer would end with 130 and not a word.
            raise Interrupted("interrupted; stored results are as they were") from error

    kept = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, each in own.items() if name != "shared"
    ]
    signature = inspect.Signature([*kept, *options], return_annotation=int)
    vars(command)["__signature__"] = signature
    command.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    del vars(command)["__wrapped__"]
    return command
