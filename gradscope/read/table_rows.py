"""In the child: rows of Parquet, Arrow (Feather) and CSV, streamed in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gradscope.read.file_bytes import Foreign, Malformed
from gradscope.read.rows import NAME_THEM, NO_REPLAY
from gradscope.read.table_columns import chosen
from gradscope.read.table_open import OPENED
from gradscope.read.table_records import Records, top_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradscope.read.native_output import Output

MAX_COLUMNS: Final = 100_000


def write_rows(request: Mapping[str, Any], output: Output) -> dict[str, object]:
    """Rows of one table, written out as records: every column of a row beside the others.

    Raises:
        Foreign: its columns are no replay's.
        Malformed: empty cells, lists of different lengths, or more rows than its size justifies.
    """
    task = str(request["task"])
    table = OPENED[task](request["paths"][0], request)
    names = list(table.columns)
    if len(names) > MAX_COLUMNS:
        raise Malformed(f"has {len(names)} columns")
    columns = chosen(names, request["keys"])
    if not columns:
        raise Foreign(NO_REPLAY, NAME_THEM)
    wanted = [each for by_key in columns.values() for group in by_key.values() for each in group]
    records = Records(columns)
    for batch in table.batches(top_names(table.columns, wanted)):
        records.write(batch, output, table.num_rows)
    records.entries(output)
    if table.num_rows is not None and records.count != table.num_rows:
        raise Malformed(f"has {records.count} rows where it says {table.num_rows}")
    return {"format": task, "notes": table.notes}
