"""The emulator's state: tables in memory and, with a folder, an append-only journal beside them.

    DIR/journal      one JSON line a change: [table, id, row] · [table, id] deleted · ["+", counter, n]
    DIR/files/ID     contents of files

One write() a request and no fsync: what was answered survives a kill -9 of the process (the kernel holds it),
not a power cut. A torn last line is dropped at the next start, which also rewrites the journal compactly.
"""

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson

Row = TypeVar("Row")


class StateError(Exception):
    """The state folder cannot be used; the message says why."""


class Table(Generic[Row]):
    """Rows by id, and the ids of each parent's rows in order of creation."""

    def __init__(
        self,
        store: "Store",
        name: str,
        load: Callable[[Any], Row],
        parent_of: Callable[[Row], str] | None = None,
    ) -> None:
        self._store = store
        self._name = name
        self._parent_of = parent_of
        self.load = load
        self.rows: dict[str, Row] = {}
        self._children: dict[str, list[str]] = {}

    def get(self, row_id: str) -> Row | None:
        return self.rows.get(row_id)

    def put(self, row_id: str, row: Row) -> None:
        """Store a new or changed row; a changed one keeps its place in the order."""
        self.place(row_id, row)
        self._store.note([self._name, row_id, row])

    def drop(self, row_id: str) -> None:
        self.remove(row_id)
        self._store.note([self._name, row_id])

    def children(self, parent: str) -> list[Row]:
        """The parent's rows, oldest first."""
        return [self.rows[i] for i in self._children.get(parent, ())]

    def place(self, row_id: str, row: Row) -> None:
        if self._parent_of is not None and row_id not in self.rows:
            self._children.setdefault(self._parent_of(row), []).append(row_id)
        self.rows[row_id] = row

    def remove(self, row_id: str) -> None:
        row = self.rows.pop(row_id, None)
        if row is None or self._parent_of is None:
            return
        parent = self._parent_of(row)
        siblings = self._children[parent]
        siblings.remove(row_id)
        if not siblings:
            del self._children[parent]


class Store:
    """All tables, counters and file contents. Changes are noted and written by `commit`, once a request."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._tables: dict[str, Table[Any]] = {}
        self._pending: list[bytes] = []
        self._journal_fd = -1
        self._lock_fd = -1
        self._contents: dict[str, bytes] = {}
        self.counters: Counter[str] = Counter()

    def table(
        self, name: str, load: Callable[[Any], Row], parent_of: Callable[[Row], str] | None = None
    ) -> Table[Row]:
        """Make a table; all of them before `open`."""
        table = Table(self, name, load, parent_of)
        self._tables[name] = table
        return table

    def open(self) -> None:
        """Read the journal, compact it and keep it open. StateError when the folder cannot be used."""
        if self._folder is None:
            return
        try:
            (self._folder / "files").mkdir(parents=True, exist_ok=True)
            self._lock()
            self._read(self._folder / "journal")
            self._compact(self._folder / "journal")
        except OSError as error:
            raise StateError(f"the state folder {self._folder} cannot be used: {error.strerror}") from None
        except (TypeError, KeyError, ValueError):
            raise StateError(
                f"the state folder {self._folder} was written by another version; name an empty folder"
            ) from None

    def close(self) -> None:
        """Release the folder; changes that are not committed are lost, as at a kill."""
        for fd in (self._journal_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._journal_fd = self._lock_fd = -1

    def note(self, change: list[Any]) -> None:
        if self._journal_fd >= 0:
            self._pending.append(orjson.dumps(change))

    def add_to_counter(self, name: str, n: int = 1) -> None:
        """Add to a counter that survives with the state."""
        self.counters[name] += n
        self.note(["+", name, n])

    def commit(self) -> None:
        """Write what changed since the last commit, in one write()."""
        if self._pending:
            os.write(self._journal_fd, b"\n".join(self._pending) + b"\n")
            self._pending.clear()

    def write_content(self, file_id: str, content: bytes) -> None:
        if self._folder is None:
            self._contents[file_id] = content
        else:
            (self._folder / "files" / file_id).write_bytes(content)

    def read_content(self, file_id: str) -> bytes:
        """The content of a file that exists."""
        return (
            self._contents[file_id]
            if self._folder is None
            else (self._folder / "files" / file_id).read_bytes()
        )

    def delete_content(self, file_id: str) -> None:
        if self._folder is None:
            self._contents.pop(file_id, None)
        else:
            (self._folder / "files" / file_id).unlink(missing_ok=True)

    def _lock(self) -> None:
        assert self._folder is not None
        self._lock_fd = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_fd)
            raise StateError(f"the state folder {self._folder} is in use by another emulator") from None

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        with path.open("rb") as lines:
            for line in lines:
                # Only the last line can be torn: each commit is one write().
                if line.endswith(b"\n"):
                    self._replay(orjson.loads(line))

    def _replay(self, change: list[Any]) -> None:
        if change[0] == "+":
            self.counters[change[1]] += change[2]
        elif table := self._tables.get(change[0]):
            if len(change) == 3:
                table.place(change[1], table.load(change[2]))
            else:
                table.remove(change[1])

    def _compact(self, path: Path) -> None:
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.writelines(orjson.dumps(change) + b"\n" for change in self._snapshot())
        fresh.rename(path)
        self._journal_fd = os.open(path, os.O_WRONLY | os.O_APPEND)

    def _snapshot(self) -> Iterator[list[Any]]:
        for name, table in self._tables.items():
            for row_id, row in table.rows.items():
                yield [name, row_id, row]
        for name, n in self.counters.items():
            yield ["+", name, n]
