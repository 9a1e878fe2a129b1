"""In the child: minari's datasets in Arrow or Parquet, one file for each episode.

Each file has one row more than the episode has steps: the last observation, beside padding
(minari/dataset/_storages/arrow_storage.py, update_episodes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.read.file_bytes import Foreign, Malformed
from gradscope.read.rows import NEXT, NO_REPLAY, OBSERVATIONS, listed
from gradscope.read.table_columns import chosen
from gradscope.read.table_open import OPENED, Table
from gradscope.read.table_records import Records, top_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gradscope.read.native_output import Output

    Arrays = dict[tuple[str, str], NDArray[Any]]


def write_rows(request: Mapping[str, Any], output: Output) -> dict[str, object]:
    """Transitions of all episodes, in the order of their files.

    Raises:
        Foreign: the first file has no columns that are called like a replay's.
        Malformed: an episode is damaged, or not like the first.
    """
    records: Records | None = None
    for path in request["paths"]:
        table = _opened(path, request)
        if records is None:
            columns = chosen(table.columns, {}, numbered=False)
            if not columns:
                raise Foreign(NO_REPLAY, f"It has {listed(table.columns)}.")
            records = Records(columns, {name: tuple(shape) for name, shape in request["shapes"].items()})
        arrays = _episode(table, records)
        if arrays:
            records.append(_transitions(arrays), output)
    if records is None:
        raise Malformed("has no episodes")
    records.entries(output)
    return {"format": "minari", "notes": []}


def _opened(path: str, request: Mapping[str, Any]) -> Table:
    with open(path, "rb") as file:  # noqa: PTH123  a name may hold anything
        is_parquet = file.read(4) == b"PAR1"
    return OPENED["parquet" if is_parquet else "arrow"](path, request)


def _episode(table: Table, records: Records) -> Arrays:
    wanted = [each for by_key in records.columns.values() for group in by_key.values() for each in group]
    if any(each not in table.columns for each in wanted):
        raise Malformed("has episodes that do not all have the same columns")
    batches = [dict(records.arrays(batch)) for batch in table.batches(top_names(table.columns, wanted))]
    if len(batches) < 2:  # noqa: PLR2004
        return batches[0] if batches else {}
    return {name: np.concatenate([each[name] for each in batches]) for name in batches[0]}


def _transitions(arrays: Arrays) -> Arrays:
    """Rows but the last, whose observation is only a next one."""
    following = {(NEXT, key): each[1:] for (name, key), each in arrays.items() if name == OBSERVATIONS}
    return {name: each[:-1] for name, each in arrays.items()} | following
