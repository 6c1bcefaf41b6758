"""/vector_stores: stores, their files, file batches, search."""

from askmill.emulator.protocol.errors import not_found
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Json, Request, Route
from askmill.emulator.protocol.validation import ANY_OBJECT, METADATA, Rule, Shape, check, each
from askmill.emulator.simulation.file_library import FileLibrary
from askmill.emulator.simulation.journal import Store

NAME = Rule((str,), null=True)
EXPIRES = ANY_OBJECT
FILE_ID = Rule((str,), required=True, null=False)


def _ids(most: int) -> Rule:
    return Rule((list,), low=1, high=most, inside=each(Rule((str,), null=False)))


CREATE_BODY: Shape = {
    "file_ids": Rule((list,), high=500, inside=each(Rule((str,), null=False))),
    "name": NAME,
    "description": NAME,
    "expires_after": EXPIRES,
    "chunking_strategy": ANY_OBJECT,
    "metadata": METADATA,
}
MODIFY_BODY: Shape = {"name": NAME, "expires_after": EXPIRES, "metadata": METADATA}
ATTACH_BODY: Shape = {"file_id": FILE_ID, "chunking_strategy": ANY_OBJECT, "attributes": METADATA}
BATCH_BODY: Shape = {
    "file_ids": _ids(2000),
    "files": Rule((list,), low=1, high=2000, inside=each(Rule((dict,), null=False))),
    "chunking_strategy": ANY_OBJECT,
    "attributes": METADATA,
}
SEARCH_BODY: Shape = {
    "query": Rule((str, list), required=True, null=False),
    "rewrite_query": Rule((bool,)),
    "max_num_results": Rule((int,), low=1, high=50),
    "filters": ANY_OBJECT,
    "ranking_options": ANY_OBJECT,
}


class VectorStores:
    """Handlers; `FileLibrary` stores the rows."""

    def __init__(self, store: Store, library: FileLibrary) -> None:
        self._library = library
        self._batches = store.table("file_batch", dict)

    def routes(self) -> list[Route]:
        one = "/vector_stores/{vector_store_id}"
        file, batch = one + "/files/{file_id}", one + "/file_batches/{batch_id}"
        return [
            Route("POST", "/vector_stores", self.create),
            Route("GET", "/vector_stores", self.list_all),
            Route("GET", one, self.retrieve),
            Route("POST", one, self.modify),
            Route("DELETE", one, self.delete),
            Route("POST", one + "/search", self.search),
            Route("POST", one + "/files", self.attach),
            Route("GET", one + "/files", self.list_files),
            Route("GET", file, self.retrieve_file),
            Route("DELETE", file, self.detach),
            Route("GET", file + "/content", self.file_content),
            Route("POST", one + "/file_batches", self.create_batch),
            Route("GET", batch, self.retrieve_batch),
            Route("POST", batch + "/cancel", self.retrieve_batch),
            Route("GET", batch + "/files", self.list_batch_files),
        ]

    def create(self, request: Request) -> Json:
        return self._library.create_store(check(request.json(), CREATE_BODY), request.now)

    def list_all(self, request: Request) -> Json:
        return page(list(self._library.stores.rows.values()), request)

    def retrieve(self, request: Request) -> Json:
        return self._library.store(request.ids[0])

    def modify(self, request: Request) -> Json:
        row = self._library.store(request.ids[0]) | check(request.json(), MODIFY_BODY)
        self._library.stores.put(row["id"], row)
        return row

    def delete(self, request: Request) -> Json:
        row = self._library.store(request.ids[0])
        self._library.delete_store(row["id"])
        return {"id": row["id"], "object": "vector_store.deleted", "deleted": True}

    def search(self, request: Request) -> Json:
        store_id = self._library.store(request.ids[0])["id"]
        body = check(request.json(), SEARCH_BODY)
        queries = body["query"] if isinstance(body["query"], list) else [body["query"]]
        file_ids = self._library.file_ids((store_id,))
        found = self._library.search_files(" ".join(queries), file_ids, body.get("max_num_results") or 10)
        data = [
            {
                "file_id": passage.file_id,
                "filename": passage.filename,
                "score": passage.score,
                "attributes": self._file(store_id, passage.file_id)["attributes"],
                "content": [{"type": "text", "text": passage.text}],
            }
            for passage in found
        ]
        head = {"object": "vector_store.search_results.page", "search_query": queries}
        return head | {"data": data, "has_more": False, "next_page": None}

    def attach(self, request: Request) -> Json:
        store_id = self._library.store(request.ids[0])["id"]
        return self._library.attach(store_id, check(request.json(), ATTACH_BODY), request.now)

    def list_files(self, request: Request) -> Json:
        store_id = self._library.store(request.ids[0])["id"]
        return _listed(self._library.store_files.children(store_id), request)

    def retrieve_file(self, request: Request) -> Json:
        return _shown(self._file(*request.ids))

    def detach(self, request: Request) -> Json:
        store_id, file_id = request.ids
        self._file(store_id, file_id)
        self._library.detach(store_id, file_id)
        return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}

    def file_content(self, request: Request) -> Json:
        file = self._file(*request.ids)
        data = [{"type": "text", "text": passage.text} for passage in self._library.passages(file["id"])]
        page_kind = "vector_store.file_content.page"
        return {"object": page_kind, "data": data, "has_more": False, "next_page": None}

    def create_batch(self, request: Request) -> Json:
        store_id = self._library.store(request.ids[0])["id"]
        body = check(request.json(), BATCH_BODY)
        files = body.get("files") or [{"file_id": file_id} for file_id in body.get("file_ids") or []]
        for file in files:
            self._library.get(check(file, ATTACH_BODY)["file_id"])
        attached = [
            self._library.attach(store_id, {"attributes": body.get("attributes")} | file, request.now)
            for file in files
        ]
        done, n = sum(file["status"] == "completed" for file in attached), len(files)
        row = {
            "id": new_id("vsfb_"),
            "object": "vector_store.files_batch",
            "created_at": int(request.now),
            "vector_store_id": store_id,
            "status": "completed",
            "file_counts": {
                "in_progress": 0,
                "completed": done,
                "failed": n - done,
                "cancelled": 0,
                "total": n,
            },
        }
        self._batches.put(row["id"], row | {"file_ids": [file["file_id"] for file in files]})
        return row

    def retrieve_batch(self, request: Request) -> Json:
        return {name: value for name, value in self._batch(request).items() if name != "file_ids"}

    def list_batch_files(self, request: Request) -> Json:
        file_ids = set(self._batch(request)["file_ids"])
        return _listed(
            [r for r in self._library.store_files.children(request.ids[0]) if r["id"] in file_ids], request
        )

    def _batch(self, request: Request) -> Json:
        row = self._batches.get(request.ids[1])
        if self._library.store(request.ids[0]) is None or row is None:
            raise not_found("vector store file batch", request.ids[1])
        return row

    def _file(self, store_id: str, file_id: str) -> Json:
        row = self._library.store_files.get(f"{self._library.store(store_id)['id']}/{file_id}")
        if row is None:
            raise not_found("vector store file", file_id)
        return row


def _listed(rows: list[Json], request: Request) -> Json:
    selected = [row for row in rows if request.argument("filter") in {None, row["status"]}]
    listed = page(selected, request)
    return listed | {"data": [_shown(row) for row in listed["data"]]}


def _shown(row: Json) -> Json:
    return {name: value for name, value in row.items() if name != "file_id"}
