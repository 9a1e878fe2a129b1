"""``gradscope formats``."""

from __future__ import annotations

from typing import Annotated

import typer


def formats(
    json_: Annotated[bool, typer.Option("--json", help="Only JSON on standard output.")] = False,
) -> int:
    """List what can be read, and what each file type can tell."""
    import json
    import sys
    from dataclasses import asdict

    from gradscope.cli.options import Shared
    from gradscope.cli.terminal import look_of
    from gradscope.read.format_table import ROWS
    from gradscope.show.formats_screen import HEADS, KIND, formats_screen

    rows = [{head: asdict(row)[head] for head in (KIND, *HEADS)} for row in ROWS]
    if json_:
        sys.stdout.write(json.dumps({"schema": "gradscope/formats/1", "formats": rows}, indent=1) + "\n")
    else:
        sys.stdout.write(formats_screen(rows, look_of(Shared())))
    return 0
