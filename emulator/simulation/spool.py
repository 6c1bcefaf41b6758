"""What batches read and write, on disk: contents of their files, and the ledger of the lines carried out.

A database of its own, so that a million lines take no memory: DIR/batches.sqlite, or without a folder an
unnamed temporary file, which the system removes with the process, also after a kill -9. Output, ledger and
progress of a step are one transaction: a kill between two steps loses no line and carries none out twice.
"""

import random
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from askmill.emulator.simulation.journal import StateError

PIECE_BYTES = 1 << 16
_TABLES = """
    CREATE TABLE IF NOT EXISTS piece (file TEXT, place INTEGER, content BLOB, PRIMARY KEY (file, place));
    CREATE TABLE IF NOT EXISTS line
        (id TEXT PRIMARY KEY, job TEXT, ran INTEGER, bought INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS attempt (job TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS progress (batch TEXT PRIMARY KEY, state BLOB) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Step:
    """Some lines of a batch. `files`: id → lines to add · `ran`: (custom_id, job, whether it was paid for).

    `attempts`: jobs whose next attempt is another one.
    """

    files: dict[str, list[bytes]] = field(default_factory=dict)
    ran: list[tuple[str, str, bool]] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)


class Spool:
    """Opened by `open`, when the folder is this emulator's."""

    def __init__(self, folder: Path | None) -> None:
        self._path = "" if folder is None else str(folder / "batches.sqlite")
        self._places = random.SystemRandom()

    def open(self) -> None:
        """Open the database; StateError if it cannot be used."""
        try:
            self._open()
        except sqlite3.Error as error:
            raise StateError(f"{self._path} cannot be used: {error}; name an empty folder") from None

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path, isolation_level=None)
        # Written data survives a kill of the process without fsync; the journal undoes a torn transaction.
        self._db.executescript(
            f"PRAGMA journal_mode = {'WAL' if self._path else 'MEMORY'}; PRAGMA synchronous = OFF;"
            f"PRAGMA cache_size = -8000; {_TABLES}"
        )

    # --- contents of files ---

    def write(self, file_id: str, content: bytes) -> None:
        """Keep the content of a new file, cut at ends of lines."""
        with self._transaction():
            rows = ((file_id, i, piece) for i, piece in enumerate(_cut(content)))
            self._db.executemany("INSERT INTO piece VALUES (?, ?, ?)", rows)

    def pieces(self, file_id: str) -> Iterator[bytes]:
        """The content, a piece at a time; whole lines each."""
        query = "SELECT place, content FROM piece WHERE file = ? AND place > ? ORDER BY place LIMIT 1"
        place = -1
        while row := self._db.execute(query, (file_id, place)).fetchone():
            place = row[0]
            yield row[1]

    def lines(self, file_id: str) -> Iterator[bytes]:
        """The lines of a file, blank ones too."""
        for piece in self.pieces(file_id):
            yield from piece.splitlines()

    def size(self, file_id: str) -> int:
        """Bytes of the content."""
        row = self._db.execute("SELECT SUM(LENGTH(content)) FROM piece WHERE file = ?", (file_id,)).fetchone()
        return row[0] or 0

    def delete(self, file_id: str) -> None:
        self._db.execute("DELETE FROM piece WHERE file = ?", (file_id,))

    # --- lines carried out ---

    def attempts(self, job: str) -> int:
        """Count the attempts of a job."""
        row = self._db.execute("SELECT n FROM attempt WHERE job = ?", (job,)).fetchone()
        return row[0] if row else 0

    def runs_of(self, custom_id: str) -> int:
        """How often a line with this id was carried out, in any batch."""
        row = self._db.execute("SELECT ran FROM line WHERE id = ?", (custom_id,)).fetchone()
        return row[0] if row else 0

    def commit(self, batch_id: str, step: Step, state: bytes) -> None:
        """Write a step and the state of its batch behind it. Lines lie in no order, as the API's."""
        with self._transaction():
            for file_id, lines in step.files.items():
                if lines:
                    self._places.shuffle(lines)
                    self._add(file_id, b"".join(lines))
            self._db.executemany(
                "INSERT INTO line VALUES (?, ?, 1, ?) ON CONFLICT (id) DO UPDATE "
                "SET ran = ran + 1, bought = bought + excluded.bought",
                step.ran,
            )
            self._db.executemany(
                "INSERT INTO attempt VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET n = n + excluded.n",
                step.attempts.items(),
            )
            self._db.execute("REPLACE INTO progress VALUES (?, ?)", (batch_id, state))

    def state(self, batch_id: str) -> bytes | None:
        """The state of a batch behind its last step."""
        row = self._db.execute("SELECT state FROM progress WHERE batch = ?", (batch_id,)).fetchone()
        return row[0] if row else None

    def runs_by_job(self) -> Iterable[tuple[str, int]]:
        """Each job, and how often a line of it was carried out."""
        return self._db.execute("SELECT job, SUM(ran) FROM line GROUP BY job")

    def totals(self) -> tuple[int, int, int]:
        """(different custom_ids, lines carried out, lines paid for)."""
        counts = self._db.execute("SELECT COUNT(*), SUM(ran), SUM(bought) FROM line").fetchone()
        return counts[0], counts[1] or 0, counts[2] or 0

    def bought_again(self, most: int) -> list[tuple[str, int]]:
        """The custom_ids that were paid for more than once, and how often."""
        query = "SELECT id, bought FROM line WHERE bought > 1 LIMIT ?"
        return self._db.execute(query, (most,)).fetchall()

    def jobs_bought_again(self, most: int) -> list[tuple[str, int]]:
        """The jobs of which more than one line was paid for, and how many."""
        query = "SELECT job, SUM(bought) FROM line GROUP BY job HAVING SUM(bought) > 1 LIMIT ?"
        return self._db.execute(query, (most,)).fetchall()

    def _add(self, file_id: str, content: bytes) -> None:
        while True:
            place = self._places.getrandbits(62)
            try:
                self._db.execute("INSERT INTO piece VALUES (?, ?, ?)", (file_id, place, content))
            except sqlite3.IntegrityError:
                continue
            return

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN")

    def __exit__(self, failed: object, *_: object) -> None:
        self._db.execute("ROLLBACK" if failed else "COMMIT")


def _cut(content: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        end = content.find(b"\n", start + PIECE_BYTES)
        end = len(content) if end < 0 else end + 1
        yield content[start:end]
        start = end
