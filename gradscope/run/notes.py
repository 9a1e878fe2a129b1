"""What a user should know of how a report came about: filters, files left aside, guesses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gradscope.measure import overlap_notes
from gradscope.read.sb3_buffer import FORMAT as SB3_BUFFER
from gradscope.run.kept import sources

MOST_NAMED: Final = 3
"""Files that a note names."""
OWN: Final = "Lightning's epoch is"
"""Said of every checkpoint, each in other words: it stays with its snapshot."""

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradscope.records import Normalizer, Replay, Rollout, SnapshotGradient, Timeline
    from gradscope.run.find import Found
    from gradscope.run.listing import Opened, OpenedRun
    from gradscope.settings import Settings


def report_notes(opened: Opened, snapshots: Sequence[SnapshotGradient]) -> tuple[str, ...]:
    """One line each, the weightiest first."""
    return (
        *_layer_filter(opened),
        *_slices(opened),
        *_files(opened),
        *_steps(opened),
        *_shapes(snapshots),
        *_of_snapshots(snapshots),
        *_of_other_files(opened),
        *_keys(opened),
    )


def _of_snapshots(snapshots: Sequence[SnapshotGradient]) -> Iterator[str]:
    """What is told of single files; what is told of many, once."""
    sources: dict[str, list[str]] = {}
    for snapshot in snapshots:
        for note in snapshot.notes:
            sources.setdefault(note, []).append(snapshot.source)
    for note, told in sources.items():
        if not note.startswith(OWN):
            yield f"{_some(told)}: {note}"


def _some(names: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"


def _of_other_files(opened: Opened) -> Iterator[str]:
    """What the readers noted of timelines, buffers and normalizers: rows left out, names not loaded."""
    for run in opened.runs:
        replays = [each.replay for each in run.files.replays]
        records: list[Timeline | Replay | Normalizer] = [*run.files.timelines, *replays]
        records += run.files.normalizers
        for record in records:
            yield from (f"{opened.found.relative(record.source)}: {note}" for note in record.notes)
    named = opened.given.replay
    if named is not None and named.source not in opened.found.artifacts:
        yield from (f"--replay {named.source.name}: {note}" for note in named.notes)


def _layer_filter(opened: Opened) -> Iterator[str]:
    settings = opened.settings
    names = {name for run in opened.runs for name in layer_names(run)}
    if not names or not (settings.layers or settings.skip_layers):
        return
    kept = sum(settings.wants_layer(name) for name in names)
    yield f"only layers that {_filter_words(settings)}: {kept} of {len(names)}"


def _filter_words(settings: Settings) -> str:
    fit = f"fit {', '.join(map(repr, settings.layers))}" if settings.layers else ""
    skip = f"do not fit {', '.join(map(repr, settings.skip_layers))}" if settings.skip_layers else ""
    return " and ".join(filter(None, (fit, skip)))


def layer_names(run: OpenedRun) -> dict[str, None]:
    """Layers of all snapshots and timelines of a run, wanted or not."""
    snapshots = (each for moment in run.moments for each in (moment.checkpoint, moment.recorded) if each)
    names = dict.fromkeys(name for each in snapshots for name in each.layers)
    return names | dict.fromkeys(layer.name for each in run.files.timelines for layer in each.layers)


def _slices(opened: Opened) -> Iterator[str]:
    known = [run.slices for run in opened.runs if run.slices.slices]
    if any(each.source == "guessed" for each in known):
        yield "slices were guessed: columns constant in the earliest replay and varying later are `position`"
    if len({tuple(each.selector for each in run.slices) for run in known}) > 1:
        yield "runs differ in their slices; the first run's are shown"
    for each in known:
        yield from overlap_notes(each.slices)


def _files(opened: Opened) -> Iterator[str]:
    found = opened.found
    for path in found.unused_configs:
        folder = found.relative(path.parent)
        yield (
            f"{found.relative(path)} is not used by itself: one configuration holds for a whole PATH. "
            f"Scan {folder}, or give --config"
        )
    for run in opened.runs:
        yield from _unclaimed(run, found)
        names = [found.relative(each.source) for each in run.files.timelines]
        if len(names) > 1:
            yield f"of several timelines {names[0]} is used, not {_some(names[1:])}"


def _steps(opened: Opened) -> Iterator[str]:
    """Files whose step is not known are not put in any order that would mean something."""
    for run in opened.runs:
        unknown = [each.main.source.name for each in run.moments if each.step is None]
        if unknown and len(run.moments) > 1:
            yield (
                f"{_run_words(run)}no step is known of {_some(unknown)}: "
                "listed last, by name, and in no series"
            )


def _run_words(run: OpenedRun) -> str:
    return "" if run.files.run == "." else f"run {run.files.run}: "


def _shapes(snapshots: Sequence[SnapshotGradient]) -> Iterator[str]:
    """Layers that change their shape within a run: another network, or a file of another run."""
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    changes: dict[tuple[str, str], list[str]] = {}
    for snapshot in snapshots:
        for layer in snapshot.layers:
            before = shapes.get((snapshot.run, layer.name), layer.shape)
            shapes[snapshot.run, layer.name] = layer.shape
            if before != layer.shape:
                names = changes.setdefault((snapshot.run, snapshot.source), [])
                names.append(f"{layer.name} from {list(before)} to {list(layer.shape)}")
    for (_, source), names in changes.items():
        more = f" and {len(names) - 1} more layers" if len(names) > 1 else ""
        yield f"{source}: another network than the step before? {names[0]} changed its shape{more}"


def _unclaimed(run: OpenedRun, found: Found) -> Iterator[str]:
    """Buffers, rollouts and normalizers of no snapshot; of many the first few."""
    files: list[Replay | Normalizer | Rollout] = [each.replay for each in run.files.replays]
    files += [*run.files.normalizers, *run.files.rollouts]
    claimed = {source for moment in run.moments for source in sources(moment)}
    left = [each for each in files if each.source not in claimed] if run.moments else []
    steps = {moment.step for moment in run.moments}
    for each in left[:MOST_NAMED]:
        name = found.relative(each.source)
        if each.step is not None and each.step in steps:
            yield f"{name} is not used: another file of step {each.step} is named as its checkpoint is"
            continue
        why = "no step" if each.step is None else f"step {each.step}, which no snapshot has"
        yield f"{name} is not used: it has {why}, so no snapshot could claim it"
    if len(left) > MOST_NAMED:
        yield f"{_run_words(run)}{len(left) - MOST_NAMED} more files are not used"


def _keys(opened: Opened) -> Iterator[str]:
    """Names that were given and that no file asked for: Stable-Baselines3's own buffers need none."""
    formats = {each.replay.format for run in opened.runs for each in run.files.replays}
    is_asked = opened.settings.replay_keys and opened.settings.replay is None
    if is_asked and formats <= {SB3_BUFFER} and not opened.found.unreadable:
        yield "--replay-keys is without effect: no buffer here has entries that need names"
