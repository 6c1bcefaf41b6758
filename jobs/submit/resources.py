"""What a batch needs at the API before its first row: uploaded files and a vector store.

    files of profile and rows ─▶ check all ─▶ stored id for this content? ─┬ still at the API: use it
                                                                           ├ a dead command's: find it
                                                                           └ else: upload once
    files for file_search ─▶ stored id of a vector store of these? ─┬ still at the API: use it
                                                                    └ else: create, fill, wait

Objects are found by content and address, so that nothing is uploaded twice for two rows or batches. The batch
already exists and records each object before using it, so that `purge` of another batch keeps it.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openai import AsyncOpenAI

from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.file_rules import tools_for_file, type_fault
from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import IMAGE, Profile, Resources
from askmill.jobs.openai_client.lost_uploads import (
    delete_lost_vector_stores,
    find_lost_upload,
    newest_file,
)
from askmill.jobs.openai_client.uploads import (
    Purpose,
    create_vector_store,
    object_exists,
    upload_file,
    upload_key,
    vector_store_key,
    vector_store_name,
)
from askmill.jobs.store import Store
from askmill.jobs.store.records import LeaseLost, ResourceKey
from askmill.jobs.store.single_flight import DeadCreator, single_flight

TOOLS = {"code_interpreter": 20, "file_search": 10_000}
"""Tools that read files, and how many at most (OpenAPI: AssistantToolResources; file search guide)."""
UPLOADS_AT_ONCE = 8
ProgressCallback = Callable[[str], None]


@dataclass(frozen=True)
class _Upload:
    path: Path
    purpose: Purpose
    key: str


class Preparation:
    """Uploads for one batch, or for none (''). `on_progress` gets a line per upload."""

    def __init__(
        self, store: Store, batch: str, client: AsyncOpenAI, api: Api, on_progress: ProgressCallback
    ) -> None:
        self._store, self._batch, self._client, self._api, self._on_progress = (
            store,
            batch,
            client,
            api,
            on_progress,
        )
        # Only where one is set: what one account has uploaded does not exist for another.
        account = (client.organization, client.project)
        self._account = "\n" + "\n".join(name or "" for name in account) if any(account) else ""
        self._gate = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._newest = dict[Purpose, str]()
        """The newest file at the API before the first upload, by purpose."""
        self._started = 0
        self._lease_lost = False

    async def prepare(
        self, profile: Profile, images: Mapping[str, Path], files: Mapping[str, Path]
    ) -> Resources:
        """Upload new files and create the vector store. Raises UsageError with all faults, ApiUnavailable."""
        row_purpose: Purpose = "assistants" if self._api == "assistants" else "user_data"
        own: dict[str, tuple[Path, Purpose]] = {path: (Path(path), "assistants") for path in profile.files}
        rows: dict[str, tuple[Path, Purpose]] = {name: (path, row_purpose) for name, path in files.items()}
        rows |= {f"{IMAGE}{name}": (path, "vision") for name, path in images.items()}
        faults = [*_count_faults(profile), *_type_faults(profile, [*map(Path, own), *files.values()])]
        # Hashing large files takes seconds: in a thread, so that the loader's lease is renewed meanwhile.
        of_profile = await asyncio.to_thread(self._keyed, own, faults)
        of_rows = await asyncio.to_thread(self._keyed, rows, faults)
        if faults:
            raise UsageError("\n".join(dict.fromkeys(faults)))
        ids = await self._ids({upload.key: upload for upload in (*of_profile.values(), *of_rows.values())})
        file_ids = {path: ids[upload.key] for path, upload in of_profile.items()}
        read = {
            tool: {file_ids[path]: Path(path).name for path in _files_for(profile, tool)} for tool in TOOLS
        }
        store_id = None
        if read["file_search"]:
            store_id = await self._vector_store(read["file_search"], profile)
        return Resources(
            code_interpreter_files=tuple(read["code_interpreter"]),
            vector_store_id=store_id,
            vector_store_files=tuple(read["file_search"]),
            row_files={name: ids[upload.key] for name, upload in of_rows.items()},
        )

    def _keyed(self, files: Mapping[str, tuple[Path, Purpose]], faults: list[str]) -> dict[str, _Upload]:
        """Return an upload with its key for each file; append files that the API would refuse to `faults`."""
        uploads = {}
        for name, (path, purpose) in files.items():
            try:
                content = upload_key(path, purpose)
            except UsageError as fault:
                faults.append(str(fault))
                continue
            identity = f"{self._client.base_url}\n{content}\n{path.name}{self._account}"
            uploads[name] = _Upload(path, purpose, hashlib.sha256(identity.encode()).hexdigest())
        return uploads

    async def _ids(self, uploads: Mapping[str, _Upload]) -> dict[str, str]:
        """Return the id of each upload by its key.

        Active uploads finish even if the batch is lost to another command, because what the API has accepted
        must be recorded with the batch.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    key: group.create_task(self._id_of(upload, len(uploads)), name=f"upload {upload.path}")
                    for key, upload in uploads.items()
                }
        except BaseExceptionGroup as several:
            # The first exception names the next step; the others started beside it.
            raise several.exceptions[0] from None
        if self._lease_lost:
            raise LeaseLost
        return {key: task.result() for key, task in tasks.items()}

    async def _id_of(self, upload: _Upload, count: int) -> str:
        async with self._gate:
            if self._lease_lost:
                return ""
            self._started += 1
            number = self._started
            size_kb = upload.path.stat().st_size / 1000

            async def create() -> str:
                self._on_progress(f"Uploading {upload.path.name} ({number} of {count}, {size_kb:,.1f} kB)")
                return await upload_file(self._client, upload.path, upload.purpose)

            try:
                return await self._find_or_create("file", upload.key, create, self._dead_creator(upload))
            except LeaseLost:
                self._lease_lost = True
                return ""

    def _dead_creator(self, upload: _Upload) -> DeadCreator:
        """How to find this upload of a command that was killed before it stored the id."""

        async def note() -> str:
            if upload.purpose not in self._newest:
                newest = await newest_file(self._client, upload.purpose)
                # The first of several that look at a time: no upload has begun before it.
                self._newest.setdefault(upload.purpose, newest)
            return self._newest[upload.purpose]

        async def find(newest: str) -> str | None:
            lost = await find_lost_upload(self._client, upload.path, upload.purpose, newest)
            if lost.file_id is None and lost.unreadable:
                self._on_progress(
                    f"A killed command may have left {upload.path.name} at the API as "
                    f"{', '.join(lost.unreadable)}, which the API does not let be read: it is uploaded "
                    "again. Delete the other one there unless another program uses it."
                )
            return lost.file_id

        return DeadCreator(note, find)

    async def _vector_store(self, files: Mapping[str, str], profile: Profile) -> str:
        """Return the id of a vector store of exactly these files."""

        async def create() -> str:
            self._on_progress(f"Indexing {len(files)} files …")
            return await create_vector_store(self._client, files, vector_store_name(profile))

        key = vector_store_key(str(self._client.base_url), files)

        async def note() -> str:
            return key

        async def find(_: str) -> None:
            await delete_lost_vector_stores(self._client, key)

        return await self._find_or_create("vector_store", key, create, DeadCreator(note, find))

    async def _find_or_create(
        self,
        kind: Literal["file", "vector_store"],
        key: str,
        create: Callable[[], Awaitable[str]],
        dead_creator: DeadCreator | None = None,
    ) -> str:
        """Return the stored id if the API still has it; else create it, once for concurrent commands."""
        resource, created, deleted_ids = ResourceKey(self._batch, kind, key), set[str](), set[str]()

        async def create_here() -> str:
            created.add(object_id := await create())
            return object_id

        while True:
            found = await single_flight(self._store, resource, create_here, deleted_ids, dead_creator)
            if found in created or await object_exists(self._client, kind, found):
                return found
            deleted_ids.add(found)


def _files_for(profile: Profile, tool: str) -> list[str]:
    """Return the profile's files for one of its tools."""
    return [path for path in profile.files if tool in tools_for_file(path, profile.tools)]


def _count_faults(profile: Profile) -> list[str]:
    """Return a fault for each tool with too many files."""
    faults = []
    for tool, most in TOOLS.items():
        count = len(_files_for(profile, tool))
        if count > most:
            faults.append(f"files: {tool} takes {most:,} files, not {count:,}.")
    return faults


def _type_faults(profile: Profile, paths: Iterable[Path]) -> list[str]:
    """Return a fault for each file that no tool reads; a stored assistant's tools are unknown."""
    found = (type_fault(path, profile.tools) for path in paths)
    return [fault for fault in found if fault is not None]
