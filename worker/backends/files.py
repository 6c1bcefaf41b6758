"""Files at the API: their names, remembered, and the content of those that a run generated."""

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from openai import APIStatusError

from askmill.jobs.model.errors import ApiUnavailable, AskmillError
from askmill.jobs.openai_client.uploads import make_vector_store
from askmill.worker.backends.coerce import moment_of
from askmill.worker.backends.http import HttpClient, path
from askmill.worker.lifecycle.api_types import ApiError

REMEMBERED = 10_000
"""Names kept: a batch cites the same few knowledge files in every row."""

NO_LIST = frozenset({400, 403, 404, 405, 410, 501})


def _may_pass(error: AskmillError) -> bool:
    """Whether it is told of a server in trouble, or away, or of too many requests; not of a refusal."""
    if not isinstance(error, ApiUnavailable):
        return False
    met = error.__context__
    return not isinstance(met, APIStatusError) or met.status_code >= 500 or met.status_code in {408, 409, 429}


class Files:
    """Reads files by id."""

    def __init__(self, wire: HttpClient) -> None:
        self._wire = wire
        self._names: OrderedDict[str, str] = OrderedDict()

    async def names(self, file_ids: Iterable[str]) -> dict[str, str]:
        """The name of each file; its id where it has none. Raises ApiError only where asking again helps."""
        return {file_id: await self._name(file_id) for file_id in file_ids}

    async def content(self, file: dict[str, Any], limit_bytes: int | None) -> bytes:
        """The bytes of a file of `Answer.files`. Files in a container live 20 minutes after its last use."""
        file_id, container_id = file["file_id"], file.get("container_id")
        if container_id:
            where = path("containers", container_id, "files", file_id, "content")
        else:
            where = path("files", file_id, "content")
        return await self._wire.download(where, limit_bytes)

    async def searchable(self, file_ids: tuple[str, ...], name: str) -> str:
        """A vector store of these files, ready. Raises ApiError, which pauses the batch or may pass."""
        try:
            return await make_vector_store(self._wire.client, {id_: id_ for id_ in file_ids}, name)
        except AskmillError as error:
            if _may_pass(error):
                raise ApiError(None, code="no_vector_store_yet", message=str(error), sent=False) from None
            raise ApiError(404, code="vector_store", message=f"not made again: {error}") from None

    async def left_in(self, container_id: str, since: float) -> list[dict[str, str]]:
        """What code has left in a container from then on, cited or not: {"file_id", "name"}, in its order.

        A container that has ended, or a server without such a list, has nothing; other faults are raised.
        """
        try:
            listed = await self._wire.list_all(path("containers", container_id, "files"))
        except ApiError as fault:
            if fault.status not in NO_LIST:
                raise
            return []
        return [
            {"file_id": str(file["id"]), "name": PurePosixPath(str(file.get("path") or "")).name}
            for file in listed
            if file.get("source") == "assistant" and (moment_of(file.get("created_at")) or since) >= since
        ]

    async def _name(self, file_id: str) -> str:
        known = self._names.get(file_id)
        if known is not None:
            return known
        try:
            told_name = (await self._wire.get(path("files", file_id))).data.get("filename")
        except ApiError as fault:
            # A deleted file, or one that may not be read, has no name any more; anything else may pass.
            if fault.status not in {400, 403, 404}:
                raise
            told_name = None
        name = PurePosixPath(str(told_name or file_id)).name or file_id
        self._names[file_id] = name
        if len(self._names) > REMEMBERED:
            self._names.popitem(last=False)
        return name
