"""Files at the API: names, the content of generated files, and vector stores."""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from openai import APIStatusError

from askmill.jobs.model.errors import ApiUnavailable, AskmillError
from askmill.jobs.openai_client.uploads import create_vector_store
from askmill.worker.backends.coerce import identifier, optional_text, parse_timestamp, plain_text
from askmill.worker.backends.http import HttpClient, url_path
from askmill.worker.lifecycle.api_types import TOO_LARGE, ApiError

MAX_CACHED_NAMES = 10_000
"""A batch cites the same few knowledge files in every row."""
NOT_LISTED = frozenset({400, 403, 404, 405, 410, 501})
"""Statuses of a container that has expired, and of a server without this list."""
MAX_NAMED_FILES = 200
"""Files of one answer whose names are looked up, a request each; the others are shown by their ids."""
NO_NAME = frozenset({400, 403, 404})
"""Statuses of a file that was deleted or may not be read."""


class ApiFiles:
    """Reads files by id and remembers their names."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._names: OrderedDict[str, str] = OrderedDict()

    async def names(self, file_ids: Iterable[str]) -> dict[str, str]:
        """Look up the names of the first MAX_NAMED_FILES; a file's id where it has none.

        Raises ApiError for other failures.
        """
        return {file_id: await self._name(file_id) for file_id in islice(file_ids, MAX_NAMED_FILES)}

    async def download(self, file: dict[str, Any], limit_bytes: int | None) -> bytes:
        """Download a file of `Answer.files`. A container's files expire 20 minutes after its last use."""
        file_id, container_id = file["file_id"], file.get("container_id")
        if container_id:
            path = url_path("containers", container_id, "files", file_id, "content")
        else:
            path = url_path("files", file_id, "content")
        return await self._http.download(path, limit_bytes)

    async def create_vector_store(self, file_ids: tuple[str, ...], name: str) -> str:
        """Create a vector store of these files and wait until it is indexed. Returns its id.

        Raises:
            ApiError: `no_vector_store_yet` if a retry may help, else `vector_store`, which pauses the batch.
        """
        try:
            return await create_vector_store(self._http.client, {id_: id_ for id_ in file_ids}, name)
        except AskmillError as error:
            if _is_transient(error):
                raise ApiError(None, code="no_vector_store_yet", message=str(error), sent=False) from None
            raise ApiError(404, code="vector_store", message=f"not made again: {error}") from None

    async def list_container_files(self, container_id: str, since: float) -> list[dict[str, str]]:
        """List the files that code wrote in a container from `since` (Unix seconds) on, cited or not.

        Returns:
            `{"file_id", "name"}` in the container's order; empty for an expired container and for a server
            without this list.
        """
        try:
            files = await self._http.list_all(url_path("containers", container_id, "files"))
        except ApiError as error:
            if error.status not in NOT_LISTED and error.code != TOO_LARGE:
                raise
            return []
        return [
            {"file_id": file_id, "name": PurePosixPath(plain_text(file.get("path"))).name}
            for file in files
            if (file_id := identifier(file.get("id"))) is not None
            and file.get("source") == "assistant"
            and (parse_timestamp(file.get("created_at")) or since) >= since
        ]

    async def _name(self, file_id: str) -> str:
        if (cached := self._names.get(file_id)) is not None:
            return cached
        try:
            reply = await self._http.get(url_path("files", file_id))
            filename = optional_text(reply.data.get("filename"))
        except ApiError as error:
            if error.status not in NO_NAME and error.code != TOO_LARGE:
                raise
            filename = None
        name = PurePosixPath(filename or file_id).name or file_id
        self._names[file_id] = name
        if len(self._names) > MAX_CACHED_NAMES:
            self._names.popitem(last=False)
        return name


def _is_transient(error: AskmillError) -> bool:
    """Whether a retry may help: no reply, a server error or a rate limit, but not a refusal."""
    if not isinstance(error, ApiUnavailable):
        return False
    cause = error.__context__
    return (
        not isinstance(cause, APIStatusError)
        or cause.status_code >= 500
        or cause.status_code in {408, 409, 429}
    )
