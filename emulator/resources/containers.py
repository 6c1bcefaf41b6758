"""/containers: where code ran, and the files it left there."""

from askmill.emulator.protocol.errors import no_container, no_file
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Call, Json, Reply, Route
from askmill.emulator.simulation.journal import Store

# A container ends this long after its last use (api guide "code interpreter").
IDLE_MINUTES = 20


class Containers:
    """Made by responses; read and deleted over HTTP."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows = store.table("container", dict)
        self._files = store.table("container_file", dict, lambda row: str(row["container_id"]))

    def routes(self) -> list[Route]:
        one = "/containers/{container_id}"
        file = one + "/files/{file_id}"
        return [
            Route("GET", "/containers", self.list_all),
            Route("GET", one, self.retrieve),
            Route("DELETE", one, self.delete),
            Route("GET", one + "/files", self.list_files),
            Route("GET", file, self.retrieve_file),
            Route("GET", file + "/content", self.content),
            Route("DELETE", file, self.delete_file),
        ]

    def get(self, container_id: str) -> Json:
        row = self._rows.get(container_id)
        if row is None:
            raise no_container(container_id)
        return row

    def make(self, now: float) -> str:
        """A new container's id."""
        row: Json = {
            "id": new_id("cntr_"),
            "object": "container",
            "created_at": int(now),
            "status": "running",
            "last_active_at": int(now),
            "expires_after": {"anchor": "last_active_at", "minutes": IDLE_MINUTES},
            "memory_limit": "1g",
            "name": "auto",
        }
        self._rows.put(row["id"], row)
        return str(row["id"])

    def add(self, container_id: str, name: str, content: bytes, now: float) -> Json:
        """A file that code left in a container."""
        row: Json = {
            "id": new_id("cfile_"),
            "object": "container.file",
            "created_at": int(now),
            "bytes": len(content),
            "container_id": container_id,
            "path": f"/mnt/data/{name}",
            "source": "assistant",
        }
        self._store.write_content(row["id"], content)
        self._files.put(row["id"], row)
        return row

    def list_all(self, call: Call) -> Json:
        return page(list(self._rows.rows.values()), call)

    def retrieve(self, call: Call) -> Json:
        return self.get(call.ids[0])

    def delete(self, call: Call) -> Json:
        row = self.get(call.ids[0])
        for file in self._files.children(row["id"]):
            self._drop_file(file["id"])
        self._rows.drop(row["id"])
        return {"id": row["id"], "object": "container.deleted", "deleted": True}

    def list_files(self, call: Call) -> Json:
        return page(self._files.children(self.get(call.ids[0])["id"]), call)

    def retrieve_file(self, call: Call) -> Json:
        return self._file(call)

    def content(self, call: Call) -> Reply:
        return Reply(
            self._store.read_content(self._file(call)["id"]), content_type=b"application/octet-stream"
        )

    def delete_file(self, call: Call) -> Json:
        file_id = self._file(call)["id"]
        self._drop_file(file_id)
        return {"id": file_id, "object": "container.file.deleted", "deleted": True}

    def _drop_file(self, file_id: str) -> None:
        self._files.drop(file_id)
        self._store.drop_content(file_id)

    def _file(self, call: Call) -> Json:
        container_id, file_id = call.ids
        row = self._files.get(file_id)
        if self.get(container_id) is None or row is None or row["container_id"] != container_id:
            raise no_file(file_id)
        return row
