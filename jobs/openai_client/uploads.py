"""What askmill makes at the API besides runs: files and vector stores; and the deletion of all that it made.

Here the SDK may retry: a file uploaded twice costs nothing, and deleting twice is deleting.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx2
from openai import APIStatusError, AsyncOpenAI, NotFoundError, OpenAIError
from openai._types import RequestOptions

from askmill.jobs.model.api_refusals import money_refused
from askmill.jobs.model.errors import ApiUnavailable, UsageError
from askmill.jobs.model.file_rules import file_fault
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.client import error_sentence, redact_api_text, report_of, words_of

RETRIES = 4
BATCH_FILES = 500
"""Files added to a vector store by one request; the API takes 2,000."""
READY_WITHIN_S = 1800.0
LONGEST_WAIT_S = 5.0
DELETING_AT_ONCE = 32

REFUSES_INPUT = frozenset({400, 413, 415, 422})

Made = TypeVar("Made")
Purpose = Literal["assistants", "vision", "user_data"]
OLD: frozenset["Kind"] = frozenset({"assistant", "thread", "vector_store"})
Kind = Literal["assistant", "thread", "conversation", "response", "file", "vector_store"]


def content_key(path: Path, purpose: Purpose) -> str:
    """Names an upload by its content, so that what is known under this key need not be uploaded again.

    Raises UsageError for what the API would refuse: no such file, an empty one, more than 512 MB.
    """
    _check(path)
    with path.open("rb") as content:
        return f"{purpose}:{hashlib.file_digest(content, 'sha256').hexdigest()}"


async def upload_file(client: AsyncOpenAI, path: Path, purpose: Purpose) -> str:
    """Upload a file and return its id. Raises UsageError or ApiUnavailable."""
    _check(path)
    create = client.with_options(max_retries=RETRIES).files.create
    return (await _or_sentence(create(file=path, purpose=purpose), client, str(path))).id


def _check(path: Path) -> None:
    if fault := file_fault(path):
        raise UsageError(fault)


async def still_there(client: AsyncOpenAI, kind: Kind, object_id: str) -> bool:
    """Whether a file or vector store of earlier can be used once more. Raises ApiUnavailable."""
    where = f"/{kind}s/{quote(object_id, safe='')}"
    options: RequestOptions = {"headers": {"OpenAI-Beta": "assistants=v2"} if kind in OLD else {}}
    steady = client.with_options(max_retries=RETRIES)
    try:
        found = await steady.get(where, cast_to=httpx2.Response, options=options)
    except NotFoundError:
        return False
    except OpenAIError as error:
        raise ApiUnavailable(f"{object_id}: {error_sentence(error, client)}") from None
    return found.json().get("status") not in {"expired", "error"}


def store_name(profile: Profile) -> str:
    """Of the vector store of a profile's files."""
    return f"askmill {profile.name or ''}".strip()


def vector_store_key(base_url: str, file_ids: Iterable[str]) -> str:
    """Names a vector store of just these files."""
    named = "\n".join((base_url.partition("?")[0].rstrip("/"), *sorted(file_ids)))
    return hashlib.sha256(named.encode()).hexdigest()


async def make_vector_store(
    client: AsyncOpenAI, files: Mapping[str, str], name: str, expires_days: int | None = 30
) -> str:
    """Make a vector store of uploaded files, wait until it is ready, and return its id.

    `files` are names by file id. It expires `expires_days` after its last use (None: never). Raises
    UsageError that names each file which could not be read, ApiUnavailable when the API does not get ready.
    """
    steady = client.with_options(max_retries=RETRIES)
    expiry: Any = (
        {"expires_after": {"anchor": "last_active_at", "days": expires_days}} if expires_days else {}
    )
    store = await _or_sentence(steady.vector_stores.create(name=name, **expiry), client, name)
    try:
        await _fill(steady, store.id, list(files))
        await _or_sentence(_ready(steady, store.id), client, name)
        await _or_sentence(_refuse_failures(steady, store.id, files), client, name)
    except BaseException:
        # Left alone it would cost storage until it expires.
        with suppress(OpenAIError):
            await asyncio.shield(_delete(steady, "vector_store", store.id))
        raise
    return store.id


async def _fill(client: AsyncOpenAI, store_id: str, file_ids: list[str]) -> None:
    for start in range(0, len(file_ids), BATCH_FILES):
        part = file_ids[start : start + BATCH_FILES]
        create = client.vector_stores.file_batches.create
        await _or_sentence(create(store_id, file_ids=part), client, store_id)


async def _ready(client: AsyncOpenAI, store_id: str) -> None:
    """Wait until no file is in progress, looking as often as the server says (`openai-poll-after-ms`)."""
    wait_s = 0.2
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while True:
                reply = await client.vector_stores.with_raw_response.retrieve(store_id)
                if reply.parse().file_counts.in_progress == 0:
                    return
                told_ms = reply.headers.get("openai-poll-after-ms")
                await asyncio.sleep(float(told_ms) / 1000 if told_ms else wait_s)
                wait_s = min(LONGEST_WAIT_S, wait_s * 1.5)
    except TimeoutError:
        said = f"The vector store was not ready after {READY_WITHIN_S / 60:.0f} minutes"
        raise ApiUnavailable(f"{said}; try again later or with fewer files.") from None


async def _refuse_failures(client: AsyncOpenAI, store_id: str, files: Mapping[str, str]) -> None:
    found = []
    async for file in client.vector_stores.files.list(store_id, filter="failed"):
        reason = (
            f"{file.last_error.code}: {file.last_error.message}" if file.last_error else "no reason given"
        )
        found.append(f"  {files.get(file.id, file.id)}: {redact_api_text(reason)}")
    if found:
        raise UsageError("\n".join([f"The API cannot search {len(found)} of {len(files)} files:", *found]))


@dataclass
class Purged:
    """What a purge did. `faults` are sentences about objects that are still there."""

    deleted: int = 0
    absent: int = 0
    faults: list[str] = field(default_factory=list)


async def purge_objects(client: AsyncOpenAI, objects: Iterable[tuple[Kind, str]]) -> Purged:
    """Delete objects at the API, 32 at a time; those that are not there any more are no fault.

    `objects` may be a generator over a million of them: it is drawn from as deletions end. A conversation's
    items outlive it, so they are deleted first.
    """
    steady = client.with_options(max_retries=RETRIES)
    report, source = Purged(), iter(objects)

    async def delete_some() -> None:
        for kind, object_id in source:
            await _purge_one(steady, kind, object_id, report)

    async with asyncio.TaskGroup() as group:
        for number in range(DELETING_AT_ONCE):
            group.create_task(delete_some(), name=f"purge-{number}")
    return report


async def _purge_one(client: AsyncOpenAI, kind: Kind, object_id: str, report: Purged) -> None:
    try:
        if kind == "conversation":
            await _delete_items(client, object_id)
        await _delete(client, kind, object_id)
    except NotFoundError:
        report.absent += 1
    except OpenAIError as error:
        report.faults.append(f"{kind} {object_id}: {words_of(error, client)}")
    else:
        report.deleted += 1


async def _delete_items(client: AsyncOpenAI, conversation_id: str) -> None:
    items = client.conversations.items
    found = [item.id async for item in items.list(conversation_id, limit=100) if item.id]
    for item_id in found:
        try:
            await items.delete(item_id, conversation_id=conversation_id)
        except NotFoundError:
            continue


async def _delete(client: AsyncOpenAI, kind: Kind, object_id: str) -> None:
    """By the SDK's plain route: its typed one warns of the Assistants API's end with every call."""
    options: RequestOptions = {"headers": {"OpenAI-Beta": "assistants=v2"} if kind in OLD else {}}
    where = f"/{kind}s/{quote(object_id, safe='')}"
    await client.delete(where, cast_to=httpx2.Response, options=options)


async def _or_sentence(call: Awaitable[Made], client: AsyncOpenAI, about: str) -> Made:
    try:
        return await call
    except APIStatusError as refused:
        if refused.status_code not in REFUSES_INPUT or money_refused(report_of(refused)):
            raise ApiUnavailable(f"{about}: {error_sentence(refused, client)}") from None
        raise UsageError(f"{about}: the API refuses it: {words_of(refused, client)}") from None
    except OpenAIError as error:
        raise ApiUnavailable(f"{about}: {error_sentence(error, client)}") from None
