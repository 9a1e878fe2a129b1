"""From options to a Report: settings, opening, scanning, and what is remembered between commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gradscope.cli.settings_asked import bare_slices, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.cli.options import Shared
    from gradscope.records import Report
    from gradscope.run import Opened
    from gradscope.store import LastScan

REMEMBERED: Final = (
    "slice_",
    "sequence_length",
    "layer",
    "skip_layer",
    "zero_tolerance",
    "limit",
    "config",
    "source",
    "batches",
    "batch_size",
    "seed",
    "replay",
    "replay_keys",
)
"""Consent (--trust, with --code and --model) is never remembered."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A scanned PATH, ready for the rest of a command."""

    opened: Opened
    report: Report
    shared: Shared


def work_on(paths: Sequence[Path], shared: Shared, *, remember: bool = False, recompute: bool = True) -> Work:
    """Open and scan the paths, or what was scanned last; reuses that scan where nothing has changed.

    Args:
        paths: folders and files; none means what was scanned last.
        shared: options.
        remember: for the commands that come after.
        recompute: False where the command shows no gradients.

    Raises:
        UsageError: a path, option or configuration is wrong, or nothing was scanned yet.
    """
    from gradscope.cli.terminal import notice
    from gradscope.store import last_scan

    last = None
    if not paths:
        last = last_scan(Path.cwd())
        paths = [_shown(Path(path)) for path in last.paths]
        shared = replace(shared, **_kept_options(shared, last.options))
        notice(f"last scan of this directory: {' '.join([*map(str, paths), *measuring(shared)])}", shared)
    opened = _opened(paths, shared)
    report, key = _scanned(opened, shared, last, remember=remember, recompute=recompute)
    if remember and shared.run is None:
        _remember(report, key, paths, shared)
    return Work(opened=opened, report=report, shared=shared)


def _opened(paths: Sequence[Path], shared: Shared) -> Opened:
    from gradscope.cli.terminal import progress_bar
    from gradscope.run import check_slices, one_run, open_run

    settings = settings_of(shared, paths)
    with progress_bar(shared) as progress:
        opened = open_run(*paths, settings=settings, progress=progress)
    if shared.run is not None:
        opened = one_run(opened, shared.run)
    check_slices(opened, bare_slices(shared))
    return opened


def _scanned(
    opened: Opened, shared: Shared, last: LastScan | None, *, remember: bool, recompute: bool
) -> tuple[Report, str]:
    """The report, and the key that tells whether it still holds."""
    from gradscope.cli.terminal import complain, notice, progress_bar
    from gradscope.run import scan_opened
    from gradscope.show.json_document import report_from
    from gradscope.store import Measured, state_key

    key = state_key(opened.settings, opened.found.files)
    is_same = last is not None and last.key == key and shared.run is None
    # What could not be read may have been a matter of the moment: of memory, of permissions.
    if is_same and last is not None and not last.document.get("unreadable"):
        return report_from(last.document, "the last scan"), key
    measured = Measured(directory=Path.cwd(), notice=lambda text: notice(text, shared), is_made=remember)
    with measured as documents, progress_bar(shared) as progress:
        # Not a notice: --quiet does not silence what code of the user's runs.
        asked = opened if recompute else _stored_only(opened)
        return scan_opened(asked, progress, complain, documents), key


def _remember(report: Report, key: str, paths: Sequence[Path], shared: Shared) -> None:
    from gradscope.cli.terminal import notice
    from gradscope.show.json_document import scan_document
    from gradscope.store import FOLDER, LastScan
    from gradscope.store import remember as store

    absolute = [str(path.absolute()) for path in paths]
    # A bare --slice NAME selects for one command only.
    lasting = replace(shared, slice_=[each for each in shared.slice_ or () if "=" in each] or None)
    options = {name: _plain(getattr(lasting, name)) for name in REMEMBERED}
    try:
        store(LastScan(paths=absolute, options=options, key=key, document=scan_document(report)), Path.cwd())
    except OSError as error:
        notice(f"this scan is not remembered: {Path.cwd() / FOLDER}: {error.strerror}", shared)


def _stored_only(opened: Opened) -> Opened:
    return replace(opened, settings=replace(opened.settings, source="stored"))


def measuring(shared: Shared) -> list[str]:
    """Options given that change what is measured, as one would type them."""
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
    for name in ("config", "replay"):
        if kept.get(name):
            kept[name] = Path(str(kept[name]))
    if shared.slice_ is not None:
        kept["slice_"] = [*(stored.get("slice_") or ()), *shared.slice_]
    return kept


def _plain(value: Any) -> Any:
    return str(value.absolute()) if isinstance(value, Path) else value
