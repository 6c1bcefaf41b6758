"""/files: upload, list, get, content, delete."""

import io
from typing import Any

import python_multipart
from python_multipart.exceptions import FormParserError

from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import ApiError, Json, Reply, Request, Route
from askmill.emulator.protocol.validation import bad_field
from askmill.emulator.simulation.file_library import FileLibrary

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MAX_BYTES = 512 * 1024 * 1024
LIST_MOST = 10_000


class Files:
    """Every file, uploaded or generated."""

    def __init__(self, library: FileLibrary) -> None:
        self._library = library

    def routes(self) -> list[Route]:
        one = "/files/{file_id}"
        return [
            Route("POST", "/files", self.create),
            Route("GET", "/files", self.list_all),
            Route("GET", one, self.retrieve),
            Route("GET", one + "/content", self.content),
            Route("DELETE", one, self.delete),
        ]

    def create(self, request: Request) -> Json:
        fields, uploads = parse_form(request)
        if "file" not in uploads:
            raise bad_field("Missing required parameter: 'file'.", "file", "missing_required_parameter")
        purpose = fields.get("purpose")
        if purpose is None:
            raise bad_field("Missing required parameter: 'purpose'.", "purpose", "missing_required_parameter")
        if purpose not in PURPOSES:
            message = f"'{purpose}' is not one of {list(PURPOSES)} - 'purpose'"
            raise ApiError(400, message, param="purpose")
        name, content = uploads["file"]
        if len(content) > MAX_BYTES:
            raise ApiError(413, "Maximum content size limit exceeded.", param="file")
        file = self._library.add(name, content, purpose, request.now)
        if (seconds := fields.get("expires_after[seconds]", "")).isdecimal():
            file |= {"expires_at": file["created_at"] + int(seconds)}
            self._library.files.put(file["id"], file)
        return file

    def list_all(self, request: Request) -> Json:
        purpose = request.argument("purpose")
        rows = [row for row in self._library.files.rows.values() if purpose in {None, row["purpose"]}]
        return page(rows, request, most=LIST_MOST, default=LIST_MOST)

    def retrieve(self, request: Request) -> Json:
        return self._library.get(request.ids[0])

    def content(self, request: Request) -> Reply:
        file = self._library.get(request.ids[0])
        if file["purpose"] == "assistants":
            raise ApiError(400, "Not allowed to download files of purpose: assistants")
        return Reply(self._library.content(file["id"]), content_type=b"application/octet-stream")

    def delete(self, request: Request) -> Json:
        self._library.drop(request.ids[0])
        return {"id": request.ids[0], "object": "file", "deleted": True}


def parse_form(request: Request) -> tuple[dict[str, str], dict[str, tuple[str, bytes]]]:
    """Return the fields and the files (name, content) of a multipart body; 400 if it is not one."""
    fields: dict[str, str] = {}
    uploads: dict[str, tuple[str, bytes]] = {}

    def on_field(field: Any) -> None:
        fields[field.field_name.decode()] = (field.value or b"").decode()

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        uploads[file.field_name.decode()] = ((file.file_name or b"upload").decode(), file.file_object.read())
        file.close()

    kind = next((value for name, value in request.headers if name == b"content-type"), b"")
    headers = {"Content-Type": kind, "Content-Length": str(len(request.body)).encode()}
    try:
        python_multipart.parse_form(headers, io.BytesIO(request.body), on_field, on_file)
    except (FormParserError, ValueError):
        raise ApiError(400, "Could not parse multipart form") from None
    return fields, uploads
