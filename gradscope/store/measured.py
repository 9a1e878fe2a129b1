"""Measured snapshots in one SQLite file: a killed scan goes on from there, a second measures what is new.

The standard library's sqlite3 with its rollback journal: a process that is killed leaves the last whole
transaction, several processes take turns, and no second file stays behind. Rows are written a batch at a
time, so that nobody holds the lock while measuring. Every row has its own checksum.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, TypeVar

from gradscope.store.remembered import FOLDER

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

DATABASE: Final = "measured.db"
SCHEMA: Final = 1
"""``user_version`` of the file; another one is set aside."""
APPLICATION: Final = 0x67726164
"""``application_id``: "grad"."""
MAX_BYTES: Final = 256 << 20
"""Of compressed measurements (about 2 kB a small snapshot); what was not used for longest goes first."""
MAX_DAYS: Final = 90
"""Unused for longer: dropped."""
FLUSH_SECONDS: Final = 0.5
"""A killed process loses at most what it measured in this time."""
WAIT_SECONDS: Final = 10.0
"""For another process that is writing."""
MAX_DOCUMENT: Final = 256 << 20
"""Bytes of one document, inflated."""
ASIDE: Final = ".damaged.db"
"""Of a file that is set aside; an earlier one is replaced."""
_DAY_NS: Final = 86_400 * 10**9
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS measured (key TEXT PRIMARY KEY, document BLOB NOT NULL, "
    "checksum BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID"
)

Result = TypeVar("Result")


@dataclass(kw_only=True)
class Measured:
    """Documents by key. Whatever goes wrong becomes one notice; then nothing is kept any more."""

    directory: Path
    """Where ``.gradscope/`` is."""
    notice: Callable[[str], None]
    is_made: bool = True
    """Whether the file is made where there is none."""
    num_found: int = 0
    """Documents that were there."""
    _connection: sqlite3.Connection | None = None
    _waiting: dict[str, bytes] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)
    _flushed: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Self:
        """Open the file; another one in its place is set aside."""
        self._guarded(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        """Write what waits, drop what is too much or too old, close."""
        self._guarded(self._flush)
        self._guarded(self._prune)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def path(self) -> Path:
        """The database."""
        return self.directory / FOLDER / DATABASE

    def get(self, key: str) -> bytes | None:
        """The document kept under this key; None where there is none, or it is damaged."""
        found = self._guarded(lambda: self._row(key))
        document = None if found is None else _inflated(*found)
        if document is not None:
            self.num_found += 1
            self._used.add(key)
        return document

    def put(self, key: str, document: bytes) -> None:
        """Keep a document; it is written with the next batch."""
        if self._connection is None:
            return
        self._waiting[key] = zlib.compress(document, 1)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._guarded(self._flush)

    def _guarded(self, action: Callable[[], Result]) -> Result | None:
        """What the action gives; where the file fails it, None and a notice."""
        import sqlite3  # noqa: PLC0415  not for --help

        try:
            return action()
        except sqlite3.OperationalError as error:
            # Locked for long, full, not writable: not the file's fault, so it stays as it is.
            self._give_up(str(error))
        except sqlite3.DatabaseError as error:
            self._give_up(str(error), is_damaged=True)
        except OSError as error:
            self._give_up(error.strerror or str(error))
        return None

    def _give_up(self, why: str, *, is_damaged: bool = False) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._waiting.clear()
        aside = self._set_aside() if is_damaged else ""
        self.notice(f"measurements are not kept: {self.path}: {why}{aside}")

    def _set_aside(self) -> str:
        try:
            self.path.replace(self.path.with_suffix(ASIDE))
            self.path.with_name(f"{DATABASE}-journal").unlink(missing_ok=True)
        except OSError as error:
            return f"; it could not be set aside: {error.strerror}"
        return f"; it is set aside as {self.path.with_suffix(ASIDE).name}, the next scan begins a new one"

    def _open(self) -> None:
        import sqlite3  # noqa: PLC0415  not for --help

        if not self.path.exists():
            if not self.is_made:
                return
            self.path.parent.mkdir(exist_ok=True)
        elif not self.path.is_file():
            raise OSError(0, "is no file")
        self._connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
        self._connection.execute("PRAGMA trusted_schema = OFF")
        version, application = (self._value(f"PRAGMA {name}") for name in ("user_version", "application_id"))
        if (version, application) == (SCHEMA, APPLICATION):
            return
        if self._value("SELECT count(*) FROM sqlite_master"):
            raise sqlite3.DatabaseError("is of another version, or somebody else's")
        self._make()

    def _make(self) -> None:
        assert self._connection is not None
        # Pages of dropped rows go back to the disk; it has to be said before the first table is made.
        self._connection.execute("PRAGMA auto_vacuum = FULL")
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(_TABLE)
        self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self._connection.execute(f"PRAGMA user_version = {SCHEMA}")
        self._connection.execute("COMMIT")

    def _value(self, query: str) -> int:
        assert self._connection is not None
        (value,) = self._connection.execute(query).fetchone()
        return int(value or 0)

    def _row(self, key: str) -> tuple[object, object] | None:
        if self._connection is None:
            return None
        query = "SELECT document, checksum FROM measured WHERE key = ?"
        found: tuple[object, object] | None = self._connection.execute(query, (key,)).fetchone()
        return found

    def _flush(self) -> None:
        """Write what waits, and which rows were used, in one transaction."""
        self._flushed = time.monotonic()
        if self._connection is None or not (self._waiting or self._used):
            return
        now = time.time_ns()
        rows = [(key, each, _checksum(each), now) for key, each in self._waiting.items()]
        old = now - _DAY_NS
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany("INSERT OR REPLACE INTO measured VALUES (?, ?, ?, ?)", rows)
            # Once a day is enough to tell what is still in use.
            self._connection.executemany(
                "UPDATE measured SET used = ? WHERE key = ? AND used < ?",
                [(now, key, old) for key in self._used],
            )
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._waiting.clear()
        self._used.clear()

    def _prune(self) -> None:
        """Drop what was not used for long, then the longest unused beyond the size that is allowed."""
        if self._connection is None:
            return
        oldest = time.time_ns() - MAX_DAYS * _DAY_NS
        beyond = (
            "SELECT key FROM (SELECT key, sum(length(document)) OVER (ORDER BY used DESC, key) AS total "
            "FROM measured) WHERE total > ?"
        )
        if self._value("SELECT min(used) FROM measured") < oldest:
            self._connection.execute("DELETE FROM measured WHERE used < ?", (oldest,))
        if self._value("SELECT sum(length(document)) FROM measured") > MAX_BYTES:
            dropped = self._connection.execute(f"DELETE FROM measured WHERE key IN ({beyond})", (MAX_BYTES,))  # noqa: S608 - no input
            self.notice(
                f"{self.path} holds at most {MAX_BYTES >> 20} MB: "
                f"{dropped.rowcount:,} measurements unused for longest were dropped"
            )


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:16]


def _inflated(content: object, checksum: object) -> bytes | None:
    """A row's document; None where it is not what was written."""
    if not isinstance(content, bytes) or _checksum(content) != checksum:
        return None
    inflater = zlib.decompressobj()
    try:
        document = inflater.decompress(content, MAX_DOCUMENT)
    except zlib.error:
        return None
    return document if inflater.eof else None
