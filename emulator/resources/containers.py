"""/containers: sandboxes where code ran, and their files."""

from askmill.emulator.protocol.errors import no_container, no_file
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Json, Reply, Request, Route
from askmill.emulator.simulation.journal import Store

# A container ends this long after its last use (api guide "code interpreter").
IDLE_MINUTES = 20


class Containers:
    """Created by responses; read and deleted over HTTP."""

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

    def create_container(self, now: float) -> str:
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

    def add_file(self, container_id: str, name: str, content: bytes, now: float) -> Json:
        """Store a file that code wrote in a container."""
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

    def list_all(self, request: Request) -> Json:
        return page(list(self._rows.rows.values()), request)

    def retrieve(self, request: Request) -> Json:
        return self.get(request.ids[0])

    def delete(self, request: Request) -> Json:
        row = self.get(request.ids[0])
        for file in self._files.children(row["id"]):
            self._delete_file(file["id"])
        self._rows.drop(row["id"])
        return {"id": row["id"], "object": "container.deleted", "deleted": True}

    def list_files(self, request: Request) -> Json:
        return page(self._files.children(self.get(request.ids[0])["id"]), request)

    def retrieve_file(self, request: Request) -> Json:
        return self._file(request)

    def content(self, request: Request) -> Reply:
        return Reply(
            self._store.read_content(self._file(request)["id"]), content_type=b"application/octet-stream"
        )

    def delete_file(self, request: Request) -> Json:
        file_id = self._file(request)["id"]
        self._delete_file(file_id)
        return {"id": file_id, "object": "container.file.deleted", "deleted": True}

    def _delete_file(self, file_id: str) -> None:
        self._files.drop(file_id)
        self._store.delete_content(file_id)

    def _file(self, request: Request) -> Json:
        container_id, file_id = request.ids
        row = self._files.get(file_id)
        if self.get(container_id) is None or row is None or row["container_id"] != container_id:
            raise no_file(file_id)
        return row
