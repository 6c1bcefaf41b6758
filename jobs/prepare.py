"""What a batch needs at the API before its first row: its files uploaded, a vector store filled.

Files are found again by content and address, so that no file is uploaded twice for two batches.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from openai import AsyncOpenAI

from jobs.errors import UsageError
from jobs.models import Api
from jobs.objects import Purpose, content_key, make_vector_store, upload_file
from jobs.profile import Profile, Resources
from jobs.store import Store

CODE_INTERPRETER_FILES = 20
"""Files of the code interpreter on an assistant or thread (OpenAPI: AssistantToolResources)."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """The ids for the batch, and under which key each upload is remembered, for `purge` to forget."""

    resources: Resources
    keys: dict[str, str]


@dataclass(frozen=True)
class _Upload:
    path: Path
    purpose: Purpose
    key: str


class Preparation:
    """Uploads for one batch. `say` hears of the progress."""

    def __init__(self, store: Store, client: AsyncOpenAI, api: Api, say: Say) -> None:
        self._store, self._client, self._api, self._say = store, client, api, say
        self._keys: dict[str, str] = {}

    async def prepare(
        self, profile: Profile, images: Mapping[str, Path], files: Mapping[str, Path]
    ) -> Prepared:
        """Upload what is new, make the vector store. Raises UsageError with all faults, ApiUnavailable."""
        row_purpose: Purpose = "assistants" if self._api == "assistants" else "user_data"
        wanted: dict[str, tuple[Path, Purpose]] = {path: (Path(path), "assistants") for path in profile.files}
        rows: dict[str, tuple[Path, Purpose]] = {name: (path, "vision") for name, path in images.items()}
        rows |= {name: (path, row_purpose) for name, path in files.items()}
        uploads = self._checked(profile, {**{f"profile:{k}": v for k, v in wanted.items()}, **rows})
        ids = {
            name: await self._id_of(upload, number, len(uploads))
            for number, (name, upload) in enumerate(uploads.items(), 1)
        }
        own = {ids[f"profile:{path}"]: Path(path).name for path in wanted}
        vector_store = None
        if own and "file_search" in profile.tools:
            self._say(f"Indexing {len(own)} files …")
            vector_store = await make_vector_store(self._client, own, f"askmill {profile.name or ''}".strip())
        return Prepared(
            Resources(
                code_interpreter_files=tuple(own) if "code_interpreter" in profile.tools else (),
                vector_store_id=vector_store,
                row_files={name: ids[name] for name in rows},
            ),
            self._keys,
        )

    def _checked(self, profile: Profile, wanted: Mapping[str, tuple[Path, Purpose]]) -> dict[str, _Upload]:
        """Each file with its key; raises UsageError with every fault before anything is uploaded."""
        faults, uploads = [], {}
        if "code_interpreter" in profile.tools and len(profile.files) > CODE_INTERPRETER_FILES:
            faults.append(f"code_interpreter takes {CODE_INTERPRETER_FILES} files, not {len(profile.files)}.")
        for name, (path, purpose) in wanted.items():
            try:
                content = content_key(path, purpose)
            except UsageError as fault:
                faults.append(str(fault))
                continue
            key = hashlib.sha256(f"{self._client.base_url}\n{content}\n{path.name}".encode()).hexdigest()
            uploads[name] = _Upload(path, purpose, key)
        if faults:
            raise UsageError("\n".join(faults))
        return uploads

    async def _id_of(self, upload: _Upload, number: int, count: int) -> str:
        known = await self._store.recall("file", upload.key)
        if known is None:
            self._say(f"Uploading {upload.path.name} ({number} of {count})")
            known = await upload_file(self._client, upload.path, upload.purpose)
            await self._store.remember("file", upload.key, known)
        self._keys[known] = upload.key
        return known
