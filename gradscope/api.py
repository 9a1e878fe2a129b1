"""What Python users call beside ``scan`` and ``open_run``: single files, gradients, showing a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gradscope.errors import UnreadableFile, UsageError
from gradscope.read import open_file
from gradscope.records import Comparison, Replay, Report, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from gradscope.settings import Settings

FORMS: Final = ("terminal", "json", "csv", "markdown")


def open_snapshot(path: str | Path) -> Snapshot:
    """Open one checkpoint or recorder file; layers are read when they are asked for.

    Raises:
        UnreadableFile: it cannot be read, or it is something else.
    """
    record = open_file(Path(path))
    if not isinstance(record, Snapshot):
        raise UnreadableFile(Path(path), f"holds a {type(record).__name__}, not a checkpoint")
    return record


def open_replay(path: str | Path, keys: Mapping[str, str] | None = None) -> Replay:
    """Open one replay buffer: its valid rows, in order of collection.

    Args:
        path: a file, or a folder that is one buffer.
        keys: usual name -> the file's own, as ``--replay-keys``: {"observations": "frames"}.

    Raises:
        UnreadableFile: it cannot be read, or it is something else.
    """
    record = open_file(Path(path), keys)
    if not isinstance(record, Replay):
        raise UnreadableFile(Path(path), f"holds a {type(record).__name__}, not a replay buffer")
    return record


def true_gradients(
    path: str | Path, *, settings: Settings | None = None
) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Recomputed gradients of one checkpoint: layer name to array, one mapping a batch.

    As ``scan --source recomputed`` counts them: after clipping, of the checkpoint's own weights, with
    ``batches``, ``batch_size`` and ``seed`` of the settings. The replay buffer is the one beside the file.

    Raises:
        UsageError: the path holds several checkpoints or none, or why they cannot be recomputed.
        UnreadableFile: a file broke or changed while it was read.
    """
    from gradscope.run import open_run  # noqa: PLC0415  numpy, lazily
    from gradscope.run.given import Means  # noqa: PLC0415
    from gradscope.run.recomputed import recomputation  # noqa: PLC0415

    opened = open_run(path, settings=settings)
    moments = [moment for run in opened.runs for moment in run.moments]
    if len(moments) != 1:
        raise UsageError(f"{path}: {len(moments)} checkpoints, not one. Name the file of one.")
    found = recomputation(moments[0], Means(settings=opened.settings, given=opened.given))
    if isinstance(found, str):
        raise UsageError(f"{path}: its gradients cannot be recomputed: {found}.")
    return (batch.gradients for batch in found.batches())


def to_frame(report: Report) -> pd.DataFrame:
    """One row a layer and snapshot, as a pandas frame; fractions are 0..1, unknown is missing."""
    from gradscope.show.frames import to_frame as frame  # noqa: PLC0415  pandas only where asked for

    return frame(report)


def show_as(found: Report | Comparison, form: str = "terminal", *, width: int = 80) -> str:
    """The report or comparison as text: terminal (``width`` cells), json, csv or markdown.

    Raises:
        UsageError: unknown form.
    """
    from gradscope.show import frames, json_document, markdown, scan_screen, screen  # noqa: PLC0415  rich, lazily

    if form not in FORMS:
        raise UsageError(f"unknown form {form!r}. Known: {', '.join(FORMS)}.")
    if isinstance(found, Comparison):
        return _comparison_as(found, form, width)
    match form:
        case "terminal":
            return scan_screen.scan_screen(found, screen.Look(width=width))
        case "json":
            return json_document.as_json(json_document.scan_document(found))
        case "csv":
            return frames.to_csv(frames.to_frame(found))
        case _:
            return markdown.markdown(found)


def _comparison_as(found: Comparison, form: str, width: int) -> str:
    from gradscope.show import compare_document, compare_screen, frames, json_document, screen  # noqa: PLC0415  rich, lazily

    match form:
        case "terminal":
            return compare_screen.compare_screen(found, screen.Look(width=width))
        case "json":
            return json_document.as_json(compare_document.compare_document(found))
        case "csv":
            return frames.to_csv(compare_document.compare_frame(found))
        case _:
            return compare_document.compare_markdown(found)
