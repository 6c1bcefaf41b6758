"""Uploads files, creates vector stores, and deletes the objects that askmill has created at the API.

Here the SDK may retry: neither a repeated upload nor a repeated delete costs anything.
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

from askmill.jobs.model.api_errors import money_refused
from askmill.jobs.model.errors import ApiUnavailable, UsageError
from askmill.jobs.model.file_rules import file_fault
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.client import describe_error, error_message, redact_api_text, to_error_report
from askmill.jobs.openai_client.paging import all_objects

MAX_RETRIES = 4
BATCH_FILES = 500
"""Files added to a vector store per request; the API accepts 2,000."""
READY_TIMEOUT_S = 1800.0
MAX_POLL_INTERVAL_S = 5.0
CONCURRENT_DELETES = 32
INTERRUPTED_S = 5.0
"""How long an interrupted command waits for the reply to a create."""

KEY_NAME = "askmill_files"
"""In the metadata of a vector store: the key of its files."""

INPUT_ERROR_STATUSES = frozenset({400, 413, 415, 422})

T = TypeVar("T")
Purpose = Literal["assistants", "vision", "user_data"]
ASSISTANTS_KINDS: frozenset["ObjectKind"] = frozenset({"assistant", "thread", "vector_store"})
ObjectKind = Literal["assistant", "thread", "conversation", "response", "file", "vector_store"]


def upload_key(path: Path, purpose: Purpose) -> str:
    """A key for an upload, derived from the content: a file with the same key need not be uploaded again.

    Raises UsageError for a file that the API would refuse: missing, empty, or over 512 MB.
    """
    _check_file(path)
    with path.open("rb") as content:
        return f"{purpose}:{hashlib.file_digest(content, 'sha256').hexdigest()}"


async def upload_file(client: AsyncOpenAI, path: Path, purpose: Purpose) -> str:
    """Upload a file and return its id. Raises UsageError or ApiUnavailable."""
    _check_file(path)
    retrying_client = client.with_options(max_retries=MAX_RETRIES)
    creating = retrying_client.files.create(file=path, purpose=purpose)
    return await _translate_errors(_id_of_created(creating, retrying_client, "file"), client, str(path))


def _check_file(path: Path) -> None:
    if fault := file_fault(path):
        raise UsageError(fault)


async def object_exists(client: AsyncOpenAI, kind: ObjectKind, object_id: str) -> bool:
    """Whether an existing object can still be used: neither deleted nor expired. Raises ApiUnavailable."""
    path = f"/{kind}s/{quote(object_id, safe='')}"
    options: RequestOptions = {
        "headers": {"OpenAI-Beta": "assistants=v2"} if kind in ASSISTANTS_KINDS else {}
    }
    retrying_client = client.with_options(max_retries=MAX_RETRIES)
    try:
        reply = await retrying_client.get(path, cast_to=httpx2.Response, options=options)
    except NotFoundError:
        return False
    except OpenAIError as error:
        raise ApiUnavailable(f"{object_id}: {describe_error(error, client)}") from None
    return reply.json().get("status") not in {"expired", "error"}


def vector_store_name(profile: Profile) -> str:
    """The name of the vector store for a profile's files."""
    return f"askmill {profile.name or ''}".strip()


def vector_store_key(base_url: str, file_ids: Iterable[str]) -> str:
    """A key for the vector store with exactly these files at this server."""
    named = "\n".join((base_url.partition("?")[0].rstrip("/"), *sorted(file_ids)))
    return hashlib.sha256(named.encode()).hexdigest()


async def create_vector_store(
    client: AsyncOpenAI, files: Mapping[str, str], name: str, expires_days: int | None = 30
) -> str:
    """Create a vector store of uploaded files, wait until it is ready, and return its id.

    Args:
        client: the API client.
        files: the files' names by file id.
        name: the vector store's name.
        expires_days: days after its last use until it expires; None: never.

    Raises:
        UsageError: the API cannot read some files; the message names each.
        ApiUnavailable: the API does not answer, or the store is not ready in time.
    """
    retrying_client = client.with_options(max_retries=MAX_RETRIES)
    expiry: Any = (
        {"expires_after": {"anchor": "last_active_at", "days": expires_days}} if expires_days else {}
    )
    key = vector_store_key(str(client.base_url), files)
    creating = retrying_client.vector_stores.create(name=name, metadata={KEY_NAME: key}, **expiry)
    store_id = await _translate_errors(
        _id_of_created(creating, retrying_client, "vector_store"), client, name
    )
    try:
        await _add_files(retrying_client, store_id, list(files))
        await _translate_errors(_wait_until_ready(retrying_client, store_id), client, name)
        await _translate_errors(_raise_for_failed_files(retrying_client, store_id, files), client, name)
    except BaseException:
        # An unused store would cost storage until it expires.
        with suppress(OpenAIError):
            await asyncio.shield(_delete(retrying_client, "vector_store", store_id))
        raise
    return store_id


async def _id_of_created(creating: Awaitable[Any], client: AsyncOpenAI, kind: ObjectKind) -> str:
    """Send a request that creates an object, and return its id.

    If it is cancelled, as by Ctrl-C or the fault of another upload, it may have arrived: its reply is awaited
    for some seconds, and the object is deleted, for nobody would find it again.
    """
    reply = asyncio.ensure_future(creating)
    try:
        return str((await asyncio.shield(reply)).id)
    except asyncio.CancelledError:
        with suppress(OpenAIError, TimeoutError):
            async with asyncio.timeout(INTERRUPTED_S):
                await _delete(client, kind, (await reply).id)
        raise


async def _add_files(client: AsyncOpenAI, store_id: str, file_ids: list[str]) -> None:
    for start in range(0, len(file_ids), BATCH_FILES):
        part = file_ids[start : start + BATCH_FILES]
        create = client.vector_stores.file_batches.create
        await _translate_errors(create(store_id, file_ids=part), client, store_id)


async def _wait_until_ready(client: AsyncOpenAI, store_id: str) -> None:
    """Poll until no file is in progress, at the interval that the server sends (`openai-poll-after-ms`)."""
    interval_s = 0.2
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                reply = await client.vector_stores.with_raw_response.retrieve(store_id)
                if reply.parse().file_counts.in_progress == 0:
                    return
                poll_after_ms = reply.headers.get("openai-poll-after-ms")
                await asyncio.sleep(float(poll_after_ms) / 1000 if poll_after_ms else interval_s)
                interval_s = min(MAX_POLL_INTERVAL_S, interval_s * 1.5)
    except TimeoutError:
        raise ApiUnavailable(
            f"The vector store was not ready after {READY_TIMEOUT_S / 60:.0f} minutes; "
            "try again later or with fewer files."
        ) from None


async def _raise_for_failed_files(client: AsyncOpenAI, store_id: str, files: Mapping[str, str]) -> None:
    failures = []
    async for file in all_objects(await client.vector_stores.files.list(store_id, filter="failed")):
        reason = (
            f"{file.last_error.code}: {file.last_error.message}" if file.last_error else "no reason given"
        )
        failures.append(f"  {files.get(file.id, file.id)}: {redact_api_text(reason)}")
    if failures:
        raise UsageError(
            "\n".join([f"The API cannot search {len(failures)} of {len(files)} files:", *failures])
        )


@dataclass
class PurgeReport:
    """The result of a purge. `faults` are messages about objects that could not be deleted."""

    deleted: int = 0
    absent: int = 0
    faults: list[str] = field(default_factory=list)


async def purge_objects(client: AsyncOpenAI, objects: Iterable[tuple[ObjectKind, str]]) -> PurgeReport:
    """Delete objects at the API, 32 at a time. Objects that do not exist count as `absent`.

    `objects` may be a generator of a million objects: it is consumed as deletions end. The items of a
    conversation are deleted first, since they outlive it.
    """
    retrying_client = client.with_options(max_retries=MAX_RETRIES)
    report, source = PurgeReport(), iter(objects)

    async def delete_some() -> None:
        for kind, object_id in source:
            await _purge_one(retrying_client, kind, object_id, report)

    async with asyncio.TaskGroup() as group:
        for number in range(CONCURRENT_DELETES):
            group.create_task(delete_some(), name=f"purge-{number}")
    return report


async def _purge_one(client: AsyncOpenAI, kind: ObjectKind, object_id: str, report: PurgeReport) -> None:
    try:
        if kind == "conversation":
            await _delete_items(client, object_id)
        await _delete(client, kind, object_id)
    except NotFoundError:
        report.absent += 1
    except OpenAIError as error:
        report.faults.append(f"{kind} {object_id}: {error_message(error, client)}")
    else:
        report.deleted += 1


async def _delete_items(client: AsyncOpenAI, conversation_id: str) -> None:
    items = client.conversations.items
    first = await items.list(conversation_id, limit=100)
    item_ids = dict.fromkeys([item.id async for item in all_objects(first) if item.id])
    for item_id in item_ids:
        try:
            await items.delete(item_id, conversation_id=conversation_id)
        except NotFoundError:
            continue


async def _delete(client: AsyncOpenAI, kind: ObjectKind, object_id: str) -> None:
    """Use the SDK's untyped method: the typed one warns of the Assistants API's end on every call."""
    options: RequestOptions = {
        "headers": {"OpenAI-Beta": "assistants=v2"} if kind in ASSISTANTS_KINDS else {}
    }
    path = f"/{kind}s/{quote(object_id, safe='')}"
    await client.delete(path, cast_to=httpx2.Response, options=options)


async def _translate_errors(call: Awaitable[T], client: AsyncOpenAI, subject: str) -> T:
    try:
        return await call
    except APIStatusError as refused:
        if refused.status_code not in INPUT_ERROR_STATUSES or money_refused(to_error_report(refused)):
            raise ApiUnavailable(f"{subject}: {describe_error(refused, client)}") from None
        raise UsageError(f"{subject}: the API refuses it: {error_message(refused, client)}") from None
    except OpenAIError as error:
        raise ApiUnavailable(f"{subject}: {describe_error(error, client)}") from None
