"""minari datasets: a folder ``data`` with metadata.json, and main_data.hdf5 or a folder for each episode."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gradscope.read import checked_json, sniff_folder
from gradscope.read.file_bytes import Malformed, reading, section_of
from gradscope.read.folder_files import part_of
from gradscope.read.native import native_rows
from gradscope.read.numpy_pickle import checked_shape
from gradscope.read.pickle_stubs import is_text_keyed
from gradscope.read.rows import replay_of
from gradscope.read.step_name import known_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gradscope.records import Replay

METADATA: Final = "metadata.json"
MAX_METADATA: Final = 64 << 20
"""Bytes: the space of an image lists the bounds of every pixel."""
MAX_DEPTH: Final = 16
_PARTS: Final = ("part-0.arrow", "part-0.parquet")


@dataclass(frozen=True, kw_only=True)
class MinariFolder:
    """Reader of both of minari's ways to store a dataset; of the dataset's folder, or its ``data``."""

    format: str = sniff_folder.MINARI
    is_whole: bool = True

    def accepts(self, path: Path) -> bool:
        """Whether the folder's names are those of a dataset."""
        return sniff_folder.format_of(path) == self.format

    def parts(self, path: Path) -> tuple[Path, ...]:
        """The description, then the data by number of episode."""
        folder = _data(path)
        main = folder / sniff_folder.MAIN_FILE
        files = (folder / METADATA, main) if main.exists() else (folder / METADATA, *_episodes(folder))
        return tuple(each for each in files if each.is_file())

    def read(self, path: Path) -> Replay:
        """Open a dataset: its transitions, episode by episode.

        Raises:
            UnreadableFile: damaged, incomplete, or it needs more than its size justifies.
        """
        with reading(path):
            if not self.accepts(path):
                raise Malformed("is no folder of a minari dataset", "")
            data = _data(path)
            part_of(data, METADATA, sniff_folder.MINARI)
            files = [each for each in self.parts(path) if each.name != METADATA]
            for each in files:
                part_of(data, each.relative_to(data).as_posix(), sniff_folder.MINARI)
            if [each.name for each in files] == [sniff_folder.MAIN_FILE]:
                found = native_rows("hdf5", "HDF5", tuple(files), keys={})
            else:
                document = _document(data / METADATA)
                _check_count(document, files)
                shapes = _shapes(document)
                found = native_rows("minari", "Arrow", tuple(files), keys={}, shapes=shapes)
            # The folder that a user named after a step is the dataset's, not its ``data``.
            named = path.parent if path.name == sniff_folder.DATA else path
            known = known_step(named, {})
            replay = replay_of(path, self.format, found.rows, notes=found.notes)
            return replace(replay, step=known.step, step_from=known.step_from)


def _data(path: Path) -> Path:
    return path if os.path.lexists(path / METADATA) else path / sniff_folder.DATA


def _episodes(folder: Path) -> Iterator[Path]:
    """One file for each, by number; none where the folder cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            numbers = [
                each.name for each in entries if each.name.isdecimal() and each.is_dir(follow_symlinks=False)
            ]
    except (OSError, ValueError):
        return
    for number in sorted(numbers, key=int):
        yield from (folder / number / name for name in _PARTS if (folder / number / name).exists())


def _document(path: Path) -> dict[str, object]:
    section = section_of(path)
    if section.size > MAX_METADATA:
        raise Malformed(f"has a {METADATA} of {section.size >> 20} MiB")
    return _json(section.read(0, section.size))


def _check_count(document: Mapping[str, object], files: Sequence[Path]) -> None:
    """An episode that was not copied leaves a hole that nothing else tells."""
    told = checked_json.count(document.get("total_episodes"))
    if told is not None and told != len(files):
        names = {each.parent.name for each in files}
        missing = next((str(number) for number in range(told) if str(number) not in names), None)
        which = "" if missing is None else f"; {missing}/{_PARTS[0]} is missing"
        raise Malformed(f"holds {len(files)} of {told} episodes{which}")


def _shapes(document: Mapping[str, object]) -> dict[str, list[int]]:
    """Shape of one row by dotted column: Arrow's lists are flat."""
    found: dict[str, list[int]] = {}
    for name, key in (("observations", "observation_space"), ("actions", "action_space")):
        _add_shapes(name, _json(checked_json.text(document.get(key)) or "{}"), found, MAX_DEPTH)
    return found


def _add_shapes(name: str, space: object, found: dict[str, list[int]], depth: int) -> None:
    if not is_text_keyed(space) or not depth:
        return
    inner = space.get("subspaces")
    children = inner.items() if is_text_keyed(inner) else enumerate(inner) if isinstance(inner, list) else ()
    for key, each in children:
        _add_shapes(f"{name}.{key}", each, found, depth - 1)
    if "shape" in space:
        found[name] = list(checked_shape(space["shape"]))


def _json(content: bytes | str) -> dict[str, object]:
    try:
        return dict(checked_json.table(json.loads(content)))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"has a {METADATA} that is no JSON") from error
