"""From options to a Report: settings, opening, scanning, and what is remembered between commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import UsageError
from gradscope.settings import (
    Limits,
    Settings,
    selectors_from,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.cli.options import Shared
    from gradscope.records import Report
    from gradscope.run import Opened

REMEMBERED: Final = (
    "slice_",
    "sequence_length",
    "layer",
    "skip_layer",
    "zero_tolerance",
    "limit",
    "config",
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A scanned PATH, ready for the rest of a command."""

    opened: Opened
    report: Report
    shared: Shared


def settings_of(shared: Shared, paths: Sequence[Path]) -> Settings:
    """Configuration file first, then the options over it.

    Raises:
        UsageError: a value is wrong; the line names it.
    """
    from gradscope.run.configured import configured

    settings = configured(paths, shared.config)
    slices = defined_slices(shared.slice_)
    changes: dict[str, Any] = {
        "zero_tolerance": shared.zero_tolerance,
        "sequence_length": shared.sequence_length,
        "layers": tuple(shared.layer or ()) or None,
        "skip_layers": tuple(shared.skip_layer or ()) or None,
        "limits": _limits(shared.limit, settings.limits) if shared.limit else None,
        "slices": {**settings.slices, **slices} if slices else None,
        "slices_from": "option" if slices else None,
    }
    if shared.zero_tolerance is not None and not 0 <= shared.zero_tolerance < float("inf"):
        raise UsageError(f"--zero-tolerance {shared.zero_tolerance}: must be 0 or more, like 1e-8.")
    return replace(settings, **{key: value for key, value in changes.items() if value is not None})


def defined_slices(options: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Slices that ``--slice NAME=COLUMNS`` defines; a bare NAME defines none.

    Raises:
        UsageError: a name or columns are empty.
    """
    slices = {}
    for option in options or ():
        name, equals, columns = option.partition("=")
        if not name.strip() or (equals and not columns.strip()):
            raise UsageError(f"--slice {option}: write NAME=COLUMNS, like position=146:153.")
        if equals:
            slices[name.strip()] = selectors_from(columns, f"--slice {name.strip()}")
    return slices


def selected_slice(shared: Shared) -> str | None:
    """The slice the last ``--slice`` names, by definition or alone."""
    return shared.slice_[-1].partition("=")[0].strip() if shared.slice_ else None


def bare_slices(shared: Shared) -> list[str]:
    """Slices that ``--slice NAME`` selects without defining them."""
    return [option.strip() for option in shared.slice_ or () if "=" not in option]


def _limits(text: str, limits: Limits) -> Limits:
    values = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name.strip() not in vars(limits):
            raise UsageError(
                f"--limit {text}: unknown limit {name.strip()!r}. Known: {', '.join(vars(limits))}."
            )
        try:
            values[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError(f"--limit {text}: {value.strip()!r} is no number. Try {name}=0.25.") from error
    return replace(limits, **values)


def work_on(paths: Sequence[Path], shared: Shared, *, remember: bool = False) -> Work:
    """Open and scan the paths, or what was scanned last; reuses that scan where nothing has changed.

    Raises:
        UsageError: a path, option or configuration is wrong, or nothing was scanned yet.
    """
    from gradscope.cli.terminal import notice, progress_bar
    from gradscope.run import check_slices, one_run, open_run, scan_opened
    from gradscope.show.json_document import report_from, scan_document
    from gradscope.store import LastScan, last_scan, state_key
    from gradscope.store import remember as store

    last = None
    if not paths:
        last = last_scan(Path.cwd())
        paths = [_shown(Path(path)) for path in last.paths]
        shared = replace(shared, **_kept_options(shared, last.options))
        notice(f"last scan of this directory: {' '.join([*map(str, paths), *_words(shared)])}", shared)
    settings = settings_of(shared, paths)
    with progress_bar(shared) as progress:
        opened = open_run(*paths, settings=settings, progress=progress)
        if shared.run is not None:
            opened = one_run(opened, shared.run)
        check_slices(opened, bare_slices(shared))
        key = state_key(settings, opened.found.files)
        if last is not None and last.key == key and shared.run is None:
            report = report_from(last.document, "the last scan")
        else:
            report = scan_opened(opened, progress)
    if remember and shared.run is None:
        absolute = [str(path.absolute()) for path in paths]
        # A bare --slice NAME selects for one command only.
        lasting = replace(shared, slice_=[each for each in shared.slice_ or () if "=" in each] or None)
        options = {name: _plain(getattr(lasting, name)) for name in REMEMBERED}
        try:
            store(
                LastScan(paths=absolute, options=options, key=key, document=scan_document(report)), Path.cwd()
            )
        except OSError as error:
            notice(f"this scan is not remembered: {error.filename or Path.cwd()}: {error.strerror}", shared)
    return Work(opened=opened, report=report, shared=shared)


def _words(shared: Shared) -> list[str]:
    """Options that hold for a remembered scan, as one would type them."""
    words: list[str] = []
    for name in REMEMBERED:
        value = getattr(shared, name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        words.extend(f"--{name.strip('_').replace('_', '-')} {each}" for each in values)
    return words


def _shown(path: Path) -> Path:
    """Relative to the working directory where the path lies in it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) and path != here else path


def _kept_options(shared: Shared, stored: dict[str, Any]) -> dict[str, Any]:
    """Options of the remembered scan that were not given now; slices add up."""
    kept: dict[str, Any] = {name: stored.get(name) for name in REMEMBERED if getattr(shared, name) is None}
    if kept.get("config"):
        kept["config"] = Path(str(kept["config"]))
    if shared.slice_ is not None:
        kept["slice_"] = [*(stored.get("slice_") or ()), *shared.slice_]
    return kept


def _plain(value: Any) -> Any:
    return str(value.absolute()) if isinstance(value, Path) else value
