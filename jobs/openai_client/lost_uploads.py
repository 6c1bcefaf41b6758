"""Finds what a command created at the API and could not record, because it died.

    before an upload: the newest file at the API ─▶ note
    killed ─▶ its successor lists the files since the note ─▶ the one with the same content

The API keeps no key of ours with a file, so name, size and purpose say only which files may be it. The
content decides. OpenAI lets no file with the purpose `assistants` be read: such a file is neither used nor
deleted, for it may be another program's.

A vector store has our key in its metadata. One that a dead command left, half filled perhaps, is deleted.
"""

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAIError

from askmill.jobs.openai_client.paging import all_objects
from askmill.jobs.openai_client.uploads import KEY_NAME, MAX_RETRIES, Purpose, purge_objects

_PAGE = 100
_MOST_FILES, _MOST_VECTOR_STORES = 10_000, 1_000
"""Newest objects that are searched."""


@dataclass
class LostUpload:
    """What was found of an upload."""

    file_id: str | None = None
    """The file with this content."""
    unreadable: list[str] = field(default_factory=list)
    """Files that may be it, whose content the API does not let be read."""


async def newest_file(client: AsyncOpenAI, purpose: Purpose) -> str:
    """Return "created_at:id" of the newest file, "0:" without any; '' where the API lists no files."""
    try:
        page = await client.with_options(max_retries=MAX_RETRIES).files.list(
            purpose=purpose, order="desc", limit=1
        )
        newest = next(iter(page.data or ()), None)
    except OpenAIError:
        return ""
    if newest is None:
        return "0:"
    note = f"{getattr(newest, 'created_at', None)}:{newest.id}"
    return note if note.partition(":")[0].isdigit() and len(note.split()) == 1 else ""


async def find_lost_upload(client: AsyncOpenAI, path: Path, purpose: Purpose, note: str) -> LostUpload:
    """Find the upload of a file among those since the note. What fails finds nothing.

    Args:
        client: the API client.
        path: the file as it was uploaded: its name, size and content are compared.
        purpose: of the upload.
        note: as `newest_file` returned it before the upload.
    """
    lost = LostUpload()
    retrying_client = client.with_options(max_retries=MAX_RETRIES)
    try:
        expected = path.name, (await asyncio.to_thread(path.stat)).st_size, purpose
        # The oldest first: the upload began right after the note.
        candidates = (await _candidates(retrying_client, expected, note))[::-1]
        # In a thread, so that the loader's lease is renewed meanwhile.
        sha256 = await asyncio.to_thread(_sha256_of_file, path) if candidates else ""
        for candidate in candidates:
            try:
                found_sha256 = await _sha256_at_api(retrying_client, candidate)
            except OpenAIError:
                lost.unreadable.append(candidate)
                continue
            if found_sha256 == sha256:
                lost.file_id = candidate
                return lost
    except OpenAIError:
        pass
    return lost


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


async def delete_lost_vector_stores(client: AsyncOpenAI, key: str) -> None:
    """Delete the vector stores of exactly these files (`vector_store_key`). What fails deletes nothing."""
    retrying_client = client.with_options(max_retries=MAX_RETRIES)
    found = list[str]()
    with suppress(OpenAIError):
        first = await retrying_client.vector_stores.list(order="desc", limit=_PAGE)
        async for store in all_objects(first, _MOST_VECTOR_STORES):
            metadata = getattr(store, "metadata", None)
            if isinstance(metadata, dict) and metadata.get(KEY_NAME) == key:
                found.append(store.id)
    await purge_objects(client, [("vector_store", store_id) for store_id in found])


async def _candidates(client: AsyncOpenAI, expected: tuple[str, int, Purpose], note: str) -> list[str]:
    """Return the ids of files with this name, size and purpose that are newer than the note."""
    created_at, _, newest_id = note.partition(":")
    found = list[str]()
    first = await client.files.list(purpose=expected[2], order="desc", limit=_PAGE)
    async for file in all_objects(first, _MOST_FILES):
        if file.id == newest_id or (_number(file, "created_at") or 0) < int(created_at):
            break
        if (
            getattr(file, "filename", None),
            _number(file, "bytes"),
            getattr(file, "purpose", None),
        ) == expected:
            found.append(file.id)
    return found


async def _sha256_at_api(client: AsyncOpenAI, file_id: str) -> str:
    digest = hashlib.sha256()
    async with client.files.with_streaming_response.content(file_id) as reply:
        async for chunk in reply.iter_bytes():
            digest.update(chunk)
    return digest.hexdigest()


def _number(file: Any, name: str) -> int | None:
    value = getattr(file, name, None)
    return value if isinstance(value, int) else None
