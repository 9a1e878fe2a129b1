"""Names on the command line that fit nothing are refused before anything is shown."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from gradscope.errors import UsageError
from gradscope.run.listing import no_slice
from gradscope.run.notes import layer_names
from gradscope.run.recorded import POSITION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradscope.run.listing import Opened, OpenedRun
    from gradscope.settings import Settings

MOST_NAMED: Final = 3


def check_layers(runs: Sequence[OpenedRun], settings: Settings) -> None:
    """Refuse a layer glob that fits no layer of any run, and filters that leave none.

    Raises:
        UsageError: with the nearest names.
    """
    names = [*dict.fromkeys(name for run in runs for name in layer_names(run))]
    if not names:
        return
    for option, globs in (("--layer", settings.layers), ("--skip-layer", settings.skip_layers)):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                near = ", ".join(_near(glob, names))
                raise UsageError(f"{option} {glob}: fits none of {len(names)} layers. Near: {near}.")
    if not any(settings.wants_layer(name) for name in names):
        raise UsageError(f"--layer and --skip-layer leave none of {len(names)} layers. Drop one of them.")


def check_slices(opened: Opened, names: Iterable[str]) -> None:
    """Refuse a slice that no run knows; ``position`` may be asked for where it is not known.

    Raises:
        UsageError: with the slices that are known.
    """
    for name in names:
        if name != POSITION and opened.runs and not any(run.slices.named(name) for run in opened.runs):
            raise UsageError(no_slice(name, opened.runs[0].slices))


def _near(glob: str, names: Sequence[str]) -> list[str]:
    word = glob.strip("*?")
    parts = {part: name for name in reversed(names) for part in (*name.split("."), name)}
    near = get_close_matches(word, parts, n=MOST_NAMED)
    return [*dict.fromkeys(parts[part] for part in near)] or [*names[:MOST_NAMED]]
