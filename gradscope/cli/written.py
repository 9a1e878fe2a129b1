"""Results that an earlier command wrote, read instead of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradscope.records import Report


def is_written(path: Path | None) -> bool:
    """Whether the path is a JSON file, which no checkpoint is."""
    return path is not None and path.suffix == ".json" and path.is_file()


def written(path: Path) -> Report:
    """A report of results written earlier.

    Raises:
        UsageError: not JSON, or not ours.
    """
    import json

    from gradscope.errors import UsageError
    from gradscope.show.json_document import report_from

    try:
        return report_from(json.loads(path.read_text("utf-8")), str(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON: {error}. Write it with -o results.json.") from error
