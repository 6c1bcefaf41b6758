"""What a batch needs at the API before its first row: its files uploaded, a vector store filled.

    named by profile and rows ─▶ checked, all faults at once ─▶ known by content? ─┬ there still: its id
                                                                                   └ uploaded, once
    files that file_search reads ─▶ a vector store of just these? ─┬ there still: its id
                                                                   └ created, filled, waited for

Everything is found again by content and address, so that nothing is uploaded twice for two rows or batches.
The batch exists by then: what it takes stands in its ledger before it is looked at, safe from `purge`.
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
from askmill.jobs.store.single_flight import single_flight

TOOLS = {"code_interpreter": 20, "file_search": 10_000}
"""Tools that are given files, and how many at most (OpenAPI: AssistantToolResources; file search guide)."""
UPLOADS_AT_ONCE = 8
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Upload:
    path: Path
    purpose: Purpose
    key: str


class Preparation:
    """Uploads for one batch, or for none (''). `say` hears of the progress."""

    def __init__(self, store: Store, batch: str, client: AsyncOpenAI, api: Api, say: Say) -> None:
        self._store, self._batch, self._client, self._api, self._say = store, batch, client, api, say
        self._gate = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._begun = 0
        self._lost = False

    async def prepare(
        self, profile: Profile, images: Mapping[str, Path], files: Mapping[str, Path]
    ) -> Resources:
        """Upload what is new, make the vector store. Raises UsageError with all faults, ApiUnavailable."""
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
        given = {path: ids[upload.key] for path, upload in of_profile.items()}
        read = {tool: {given[path]: Path(path).name for path in _read_by(profile, tool)} for tool in TOOLS}
        store_id = None
        if read["file_search"]:
            store_id = await self._vector_store(read["file_search"], profile)
        return Resources(
            code_interpreter_files=tuple(read["code_interpreter"]),
            vector_store_id=store_id,
            vector_store_files=tuple(read["file_search"]),
            row_files={name: ids[upload.key] for name, upload in of_rows.items()},
        )

    def _keyed(self, wanted: Mapping[str, tuple[Path, Purpose]], faults: list[str]) -> dict[str, _Upload]:
        """Each file with the key it is remembered under; what the API would refuse goes to the faults."""
        uploads = {}
        for name, (path, purpose) in wanted.items():
            try:
                content = upload_key(path, purpose)
            except UsageError as fault:
                faults.append(str(fault))
                continue
            named = f"{self._client.base_url}\n{content}\n{path.name}"
            uploads[name] = _Upload(path, purpose, hashlib.sha256(named.encode()).hexdigest())
        return uploads

    async def _ids(self, uploads: Mapping[str, _Upload]) -> dict[str, str]:
        """The id of each upload by its key.

        Uploads that are under way when the batch is lost to another command end as they would: what the API
        has taken must stand in the batch's ledger.
        """
        try:
            async with asyncio.TaskGroup() as group:
                made = {
                    key: group.create_task(self._id_of(upload, len(uploads)), name=f"upload {upload.path}")
                    for key, upload in uploads.items()
                }
        except BaseExceptionGroup as several:
            # The first says what to do; the others were begun beside it.
            raise several.exceptions[0] from None
        if self._lost:
            raise LeaseLost
        return {key: task.result() for key, task in made.items()}

    async def _id_of(self, upload: _Upload, count: int) -> str:
        async with self._gate:
            if self._lost:
                return ""
            self._begun += 1
            number = self._begun
            size_kb = upload.path.stat().st_size / 1000

            async def make() -> str:
                self._say(f"Uploading {upload.path.name} ({number} of {count}, {size_kb:,.1f} kB)")
                return await upload_file(self._client, upload.path, upload.purpose)

            try:
                return await self._found_or_made("file", upload.key, make)
            except LeaseLost:
                self._lost = True
                return ""

    async def _vector_store(self, files: Mapping[str, str], profile: Profile) -> str:
        """The vector store of just these files."""

        async def make() -> str:
            self._say(f"Indexing {len(files)} files …")
            return await create_vector_store(self._client, files, vector_store_name(profile))

        return await self._found_or_made(
            "vector_store", vector_store_key(str(self._client.base_url), files), make
        )

    async def _found_or_made(
        self, kind: Literal["file", "vector_store"], key: str, make: Callable[[], Awaitable[str]]
    ) -> str:
        """The one that is known, if the API has it still; else a new one, made by us or by another submit."""
        wanted, fresh, gone = ResourceKey(self._batch, kind, key), set[str](), set[str]()

        async def make_here() -> str:
            fresh.add(made := await make())
            return made

        while True:
            found = await single_flight(self._store, wanted, make_here, gone)
            if found in fresh or await object_exists(self._client, kind, found):
                return found
            gone.add(found)


def _read_by(profile: Profile, tool: str) -> list[str]:
    """The profile's files for one of its tools."""
    return [path for path in profile.files if tool in tools_for_file(path, profile.tools)]


def _count_faults(profile: Profile) -> list[str]:
    """Too many files for a tool."""
    faults = []
    for tool, most in TOOLS.items():
        count = len(_read_by(profile, tool))
        if count > most:
            faults.append(f"files: {tool} takes {most:,} files, not {count:,}.")
    return faults


def _type_faults(profile: Profile, paths: Iterable[Path]) -> list[str]:
    """Files that no tool of the profile reads; a stored assistant's tools are not known here."""
    found = (type_fault(path, profile.tools) for path in paths)
    return [fault for fault in found if fault is not None]
