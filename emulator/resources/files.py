"""/files: upload, list, get, content, delete."""

import io
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import python_multipart
from python_multipart.exceptions import FormParserError

from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import ApiError, Json, Reply, Request, Route, Stream
from askmill.emulator.protocol.validation import bad_field, out_of_bounds
from askmill.emulator.simulation.engine import Engine
from askmill.emulator.simulation.file_library import SPOOLED, FileLibrary

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MAX_BYTES = 512 * 1024 * 1024
LIST_MOST = 10_000
BINARY = b"application/octet-stream"
LIFE_LEAST_S, LIFE_MOST_S = 3600, 30 * 86_400


class Files:
    """Every file, uploaded or generated."""

    def __init__(self, library: FileLibrary, engine: Engine) -> None:
        self._library = library
        self._engine = engine

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
        life_s = self._engine.scenario.batches.files_s if purpose == "batch" else None
        if (seconds := fields.get("expires_after[seconds]")) is not None:
            life_s = _life_s(seconds)
        return self._library.add(name, content, purpose, request.now, life_s)

    def list_all(self, request: Request) -> Json:
        purpose = request.argument("purpose")
        return page(self._library.all(purpose), request, most=LIST_MOST, default=LIST_MOST)

    def retrieve(self, request: Request) -> Json:
        return self._library.get(request.ids[0])

    def content(self, request: Request) -> Reply | Stream:
        """The bytes; those of a batch's files a piece at a time."""
        file = self._library.get(request.ids[0])
        if file["purpose"] == "assistants":
            raise ApiError(400, "Not allowed to download files of purpose: assistants")
        pieces = self._library.pieces(file["id"])
        if file["purpose"] in SPOOLED:
            return Stream(_sent(pieces), BINARY)
        return Reply(b"".join(pieces), content_type=BINARY)

    def delete(self, request: Request) -> Json:
        self._library.drop(request.ids[0])
        return {"id": request.ids[0], "object": "file", "deleted": True}


async def _sent(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    empty = True
    for piece in pieces:
        empty = False
        yield piece
    if empty:
        yield b""


def _life_s(seconds: str) -> int:
    name = "expires_after[seconds]"
    if not seconds.isdecimal():
        message = f"Invalid type for '{name}': expected an integer, but got '{seconds}' instead."
        raise bad_field(message, name, "invalid_type")
    if int(seconds) < LIFE_LEAST_S:
        raise out_of_bounds(name, "integer below minimum", f">= {LIFE_LEAST_S}", int(seconds))
    if int(seconds) > LIFE_MOST_S:
        raise out_of_bounds(name, "integer above maximum", f"<= {LIFE_MOST_S}", int(seconds))
    return int(seconds)


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
