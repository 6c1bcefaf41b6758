"""Files and the vector stores that make them searchable; used by handlers and engine."""

from collections import Counter
from collections.abc import Iterator

from askmill.emulator.protocol.clock import Clock
from askmill.emulator.protocol.errors import no_file, no_store, not_found
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import Json
from askmill.emulator.simulation.file_search import Passage, find_passages, split_passages, unreadable
from askmill.emulator.simulation.journal import Store
from askmill.emulator.simulation.prompt import Prompt
from askmill.emulator.simulation.spool import Spool

# Contents of these files lie in the spool.
SPOOLED = frozenset({"batch", "batch_output"})


class FileLibrary:
    """Uploaded and generated files with their contents."""

    def __init__(self, store: Store, spool: Spool) -> None:
        self._store = store
        self.spool = spool
        self.clock = Clock()
        self.in_use: Counter[str] = Counter()
        """Files that batches read: their contents outlive their objects."""
        self.files = store.table("file", dict)
        self.stores = store.table("vector_store", dict)
        self.store_files = store.table("vector_store_file", dict, lambda row: str(row["vector_store_id"]))
        self._passages: dict[str, list[Passage]] = {}

    def add(self, name: str, content: bytes, purpose: str, now: float, life_s: float | None = None) -> Json:
        """Keep a file; its object as the API shows it."""
        file_id = new_id("file-")
        if purpose in SPOOLED:
            self.spool.write(file_id, content)
        else:
            self._store.write_content(file_id, content)
        return self.show(file_id, name, len(content), purpose, now, life_s)

    def show(
        self, file_id: str, name: str, size: int, purpose: str, now: float, life_s: float | None
    ) -> Json:
        """Keep the object of a file whose content is there; it expires after `life_s`, None: never."""
        file: Json = {
            "id": file_id,
            "object": "file",
            "bytes": size,
            "created_at": int(now),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        if life_s is not None:
            file["expires_at"] = int(now + life_s)
        self.files.put(file_id, file)
        return file

    def find(self, file_id: str) -> Json | None:
        """A file that is there; an expired one is not, and is dropped."""
        file = self.files.get(file_id)
        if file is not None and file.get("expires_at", float("inf")) <= self.clock.now():
            self._drop(file_id)
            return None
        return file

    def get(self, file_id: str) -> Json:
        file = self.find(file_id)
        if file is None:
            raise no_file(file_id)
        return file

    def all(self, purpose: str | None) -> list[Json]:
        """The files that are there, oldest first; None: of any purpose."""
        there = [file for file_id in list(self.files.rows) if (file := self.find(file_id))]
        return [file for file in there if purpose in {None, file["purpose"]}]

    def pieces(self, file_id: str) -> Iterator[bytes]:
        """The content of a file that exists."""
        if self.get(file_id)["purpose"] in SPOOLED:
            yield from self.spool.pieces(file_id)
        else:
            yield self._store.read_content(file_id)

    def drop(self, file_id: str) -> None:
        self.get(file_id)
        self._drop(file_id)

    def search(self, prompt: Prompt) -> tuple[Passage, ...]:
        """The passages that fit the question, from the files of its vector stores and its own."""
        return self.search_files(prompt.question, self.file_ids(prompt.vector_store_ids, prompt.file_ids))

    def search_files(self, question: str, file_ids: list[str], most: int = 20) -> tuple[Passage, ...]:
        passages = [passage for file_id in file_ids for passage in self.passages(file_id)]
        return find_passages(question, passages, most)

    def file_ids(self, store_ids: tuple[str, ...], file_ids: tuple[str, ...] = ()) -> list[str]:
        """Every file to search, each once."""
        rows = (row for store_id in store_ids for row in self.store_files.children(store_id))
        stored = (row["file_id"] for row in rows if row["status"] == "completed")
        return [file_id for file_id in dict.fromkeys((*stored, *file_ids)) if file_id in self.files.rows]

    def passages(self, file_id: str) -> list[Passage]:
        """A file's text in passages; bytes that are no text count as none."""
        if file_id not in self._passages:
            text = self._store.read_content(file_id).decode("utf-8", errors="ignore")
            self._passages[file_id] = split_passages(file_id, self.files.rows[file_id]["filename"], text)
        return self._passages[file_id]

    # --- vector stores ---

    def store(self, store_id: str) -> Json:
        row = self.stores.get(store_id)
        if row is None:
            raise not_found("vector store", store_id)
        return row

    def check_stores_exist(self, tools: list[Json]) -> None:
        """Refuses a response's tools that name a vector store which is not there."""
        for store_id in (named for tool in tools for named in tool.get("vector_store_ids") or []):
            if store_id not in self.stores.rows:
                raise no_store(store_id)

    def create_store(self, body: Json, now: float) -> Json:
        """A vector store holding the files named in the body; 404 for a file that is not there."""
        for file_id in body.get("file_ids") or []:
            self.get(file_id)
        row: Json = {
            "id": new_id("vs_"),
            "object": "vector_store",
            "created_at": int(now),
            "name": body.get("name") or "",
            "description": body.get("description"),
            "usage_bytes": 0,
            "file_counts": {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0},
            "status": "completed",
            "expires_at": None,
            "last_active_at": int(now),
            "metadata": body.get("metadata") or {},
        }
        if expiry := body.get("expires_after"):
            row |= {"expires_after": expiry, "expires_at": int(now) + expiry.get("days", 0) * 86400}
        self.stores.put(row["id"], row)
        for file_id in body.get("file_ids") or []:
            self.attach(row["id"], {"file_id": file_id}, now)
        return self.store(row["id"])

    def attach(self, store_id: str, body: Json, now: float) -> Json:
        """Put a file into a store; indexing is done at once, and fails for what cannot be read."""
        file = self.get(body["file_id"])
        fault = unreadable(file["filename"], self._store.read_content(file["id"]))
        row: Json = {
            "id": file["id"],
            "object": "vector_store.file",
            "created_at": int(now),
            "usage_bytes": file["bytes"],
            "vector_store_id": store_id,
            "status": "failed" if fault else "completed",
            "last_error": fault,
            "chunking_strategy": {
                "type": "static",
                "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400},
            },
            "attributes": body.get("attributes") or {},
        }
        self.store_files.put(f"{store_id}/{file['id']}", row | {"file_id": file["id"]})
        self.update_counts(store_id)
        return row

    def detach(self, store_id: str, file_id: str) -> None:
        self.store_files.drop(f"{store_id}/{file_id}")
        self.update_counts(store_id)

    def update_counts(self, store_id: str) -> None:
        """A store's counts from its files."""
        files = self.store_files.children(store_id)
        done = sum(1 for row in files if row["status"] == "completed")
        counts = {"in_progress": 0, "completed": done, "failed": len(files) - done, "cancelled": 0}
        usage = {
            "file_counts": counts | {"total": len(files)},
            "usage_bytes": sum(r["usage_bytes"] for r in files),
        }
        self.stores.put(store_id, self.store(store_id) | usage)

    def delete_store(self, store_id: str) -> None:
        for row in self.store_files.children(store_id):
            self.store_files.drop(f"{store_id}/{row['id']}")
        self.stores.drop(store_id)

    def resolve_tool_resources(self, resources: Json | None, now: float) -> Json | None:
        """Resolve `tool_resources` for storage: create the described stores; the named ones must exist."""
        search = (resources or {}).get("file_search")
        if not resources or not search:
            return resources
        created = [self.create_store(described, now)["id"] for described in search.get("vector_stores") or []]
        named = [self.store(store_id)["id"] for store_id in search.get("vector_store_ids") or []]
        return resources | {"file_search": {"vector_store_ids": named + created}}

    def _drop(self, file_id: str) -> None:
        self.files.drop(file_id)
        self._passages.pop(file_id, None)
        self._store.delete_content(file_id)
        if not self.in_use[file_id]:
            self.spool.delete(file_id)

    def release(self, file_id: str) -> None:
        """A batch has read the file."""
        self.in_use[file_id] -= 1
        if not self.in_use[file_id] and file_id not in self.files.rows:
            self.spool.delete(file_id)
