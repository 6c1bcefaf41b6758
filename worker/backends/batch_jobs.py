"""Jobs of the Batch API at the server: files, creates, lists, cancels. Each call makes its request once.

POST /files            multipart, streamed from disk        GET /files/{id}/content   streamed to disk
POST /batches          the request that costs money         GET /batches              newest first
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from openai import AsyncOpenAI

from askmill.jobs.model.models import Api
from askmill.worker.backends.batch_lines import ENDPOINTS
from askmill.worker.backends.batch_objects import read_batch, read_batch_list
from askmill.worker.backends.coerce import identifier, parse_date
from askmill.worker.backends.errors import bad_reply, error_from_reply, translated_errors
from askmill.worker.backends.hooks import before_request
from askmill.worker.backends.http import HttpClient, url_path
from askmill.worker.backends.read_session import Query
from askmill.worker.backends.reply import parse_json
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.batch_types import ServerBatch

PAGE_SIZE, MOST_PAGES = 100, 50
"""Of a list; a batch older than 5,000 others is asked for by its id."""
WINDOW = "24h"
UPLOAD_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class BatchList:
    """The newest batches of the account. `server_time`: Unix seconds by the API's clock, where it says so."""

    batches: tuple[ServerBatch, ...]
    server_time: float | None = None


class _BatchHttp(HttpClient):
    """Uploads from disk and downloads to disk, and lists that may be bare (Together)."""

    async def upload(self, path: Path, name: str) -> Any:
        await before_request.get()()
        with path.open("rb") as content, translated_errors("POST /files", self.client):
            return await self.client.with_options(timeout=UPLOAD_TIMEOUT_S).files.create(
                file=(name, content, "application/jsonl"), purpose="batch"
            )

    async def get_json(self, path: str, query: Query) -> tuple[Any, Mapping[str, str]]:
        """GET any JSON value, also a bare list."""
        await before_request.get()()
        with translated_errors(f"GET /{path}", self.client):
            status, headers, body = await self._reads.get(path, query)
            if status >= 400:
                raise error_from_reply(status, headers, body, self.client.api_key)
            try:
                return parse_json(body), headers
            except (ValueError, RecursionError):
                raise bad_reply(status, "not JSON", self.client.api_key) from None

    async def download_to(self, path: str, target: Path) -> None:
        """GET a file's bytes into `target`, in flat memory. Raises ApiError."""
        await before_request.get()()
        with translated_errors(f"GET /{path}", self.client):
            async with self._reads.file(path) as (pieces, _):
                with target.open("wb") as file:
                    async for piece in pieces:
                        file.write(piece)

    async def close_session(self) -> None:
        """Close the connections, and leave the SDK's client to its owner."""
        await self._reads.close()


class BatchJobs:
    """The Batch API of one server. Use one per process and event loop."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._http = _BatchHttp(client)

    async def upload(self, path: Path, name: str) -> str:
        """Upload the file of a shard. Returns its id. Raises ApiError."""
        file_id = identifier((await self._http.upload(path, name)).id)
        if file_id is None:
            raise bad_reply(200, "the uploaded file has no id")
        return file_id

    async def delete_file(self, file_id: str) -> None:
        """Delete a file. Raises ApiError."""
        await self._http.delete(url_path("files", file_id))

    async def create(
        self, file_id: str, api: Api, metadata: Mapping[str, str], may_send: Callable[[], bool] | None = None
    ) -> ServerBatch:
        """Create the batch of a file: the request that costs money.

        Raises ApiError, and NotSent where `may_send` returns False (see `RunRequest`).
        """
        body = {
            "input_file_id": file_id,
            "endpoint": ENDPOINTS[api],
            "completion_window": WINDOW,
            "metadata": dict(metadata),
        }
        return read_batch((await self._http.post("batches", body, may_send=may_send)).data)

    async def list_batches(self, horizon_s: float, since: float | None = None) -> BatchList:
        """List the batches of the last `horizon_s` seconds by the API's own clock. Raises ApiError.

        `since`: a time of creation by that clock; pages of older batches only are not read.
        """
        batches: list[ServerBatch] = []
        server_time: float | None = None
        after: str | None = None
        for _ in range(MOST_PAGES):
            query = [("limit", str(PAGE_SIZE)), *([("after", after)] if after else [])]
            reply, headers = await self._http.get_json("batches", query)
            server_time = server_time or parse_date(headers.get("date"))
            page = read_batch_list(reply)
            batches += page
            if not page or not isinstance(reply, dict) or not reply.get("has_more") or page[-1].id == after:
                break
            after, oldest = page[-1].id, page[-1].created_at
            if oldest is not None and oldest < _oldest_needed(server_time, horizon_s, since):
                break
        return BatchList(tuple(batches), server_time)

    async def retrieve(self, batch_id: str) -> ServerBatch | None:
        """Read one batch; None when the server does not have it. Raises ApiError."""
        try:
            return read_batch((await self._http.get(url_path("batches", batch_id))).data)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def cancel(self, batch_id: str) -> ServerBatch:
        """Cancel a batch; lines that run may still end. Raises ApiError."""
        return read_batch((await self._http.post(url_path("batches", batch_id, "cancel"), {})).data)

    async def download(self, file_id: str, target: Path) -> None:
        """Download a file to disk. Raises ApiError."""
        await self._http.download_to(url_path("files", file_id, "content"), target)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close_session()


def _oldest_needed(server_time: float | None, horizon_s: float, since: float | None) -> float:
    """The time of creation of the oldest batch that must be listed."""
    oldest = float("-inf") if server_time is None else server_time - horizon_s
    return oldest if since is None else max(oldest, since)


def custom_id(batch: str, row: int, attempt: int) -> str:
    """The id of a line: which attempt of which row it is."""
    return f"{batch}-{row}-{attempt}"


def row_and_attempt(batch: str, line_id: str) -> tuple[int, int] | None:
    """The row and the attempt of a line; None for a line of something else."""
    name, _, rest = line_id.partition("-")
    row, _, attempt = rest.partition("-")
    if name != batch or not (row.isdigit() and attempt.isdigit()):
        return None
    return int(row), int(attempt)


def custom_ids_in(path: Path) -> list[str]:
    """The ids of the lines of an input file, in their order."""
    with path.open("rb") as lines:
        return [str(orjson.loads(line).get("custom_id")) for line in lines if line.strip()]
