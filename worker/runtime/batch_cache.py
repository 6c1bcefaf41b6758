"""What each batch is, read from the store once a process, and the assistant its runs are made with."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import orjson

from askmill.jobs.model.models import BatchState
from askmill.jobs.openai_client.pricing import tokens_of
from askmill.jobs.openai_client.uploads import store_name, vector_store_key
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch, BatchUpdate, Claim, ResourceKey
from askmill.jobs.store.single_flight import single_flight
from askmill.worker.backends.base import Backend
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.polling import RunTimes
from askmill.worker.lifecycle.retry import store_gone


@dataclass
class BatchContext:
    """A batch as this process knows it: what is frozen, what last changed, and how long its runs take."""

    batch: Batch
    current: BatchUpdate
    current_at_ms: int
    """When `now` was true, by Redis' clock."""
    run_times: RunTimes = field(default_factory=RunTimes)
    assistant_id: str | None = None
    assistant_ready: bool = False
    deleted_ids: set[str] = field(default_factory=set)
    """Assistants and vector stores of ours that the API no longer has."""
    creator_id: str = field(default_factory=lambda: secrets.token_hex(8))
    created_ids: dict[str, str] = field(default_factory=dict)
    """By content, what was made here, which Redis may not know yet."""
    runs_seen: int = 0
    tokens_seen: int = 0
    assistant_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def update(self, now: BatchUpdate, at_ms: int) -> bool:
        """Take newer news; whether anything has changed."""
        if at_ms < self.current_at_ms:
            return False
        changed, self.current, self.current_at_ms = now != self.current, now, at_ms
        return changed

    def expected_tokens(self) -> int:
        """What a run of this batch takes: the mean of those seen, else what its limits suggest."""
        if self.runs_seen:
            return round(self.tokens_seen / self.runs_seen)
        profile = self.batch.profile
        return tokens_of(profile.instructions or "") + (profile.max_completion_tokens or 500)

    def add_tokens(self, used: int) -> None:
        """Another run has told its tokens."""
        self.runs_seen += 1
        self.tokens_seen += used

    async def ensure_assistant(self, store: Store, backend: Backend, gone: str | None = None) -> None:
        """See to it that the assistant stands: reused by content, made at most once. Raises ApiError.

        `gone`: an assistant or a vector store that somebody has deleted at the API; whoever notices first
        makes another.
        """
        async with self.assistant_lock:
            if self.assistant_ready and gone in {None, *self.deleted_ids}:
                return
            if gone is not None:
                self.deleted_ids.add(gone)
            self.assistant_ready = False
            try:
                self.assistant_id = await self._assistant(store, backend)
            except ApiError as fault:
                if not store_gone(fault, self.batch.resources.vector_store_id):
                    raise
                self.deleted_ids.add(self.batch.resources.vector_store_id or "")
                self.assistant_id = await self._assistant(store, backend)
            self.assistant_ready = True

    async def _assistant(self, store: Store, backend: Backend) -> str | None:
        """The stored one, or ours, which is made with the vector store; none on Responses."""
        if self.batch.resources.vector_store_id in self.deleted_ids:
            await self._recreate_vector_store(store, backend)
        resources = self.batch.resources
        profile = self.batch.profile.model_copy(update={"model": self.batch.model})
        if backend.api != "assistants" or profile.assistant_id is not None:
            return await backend.ready(profile, resources)

        async def make() -> str:
            made = await backend.ready(profile, resources)
            assert made is not None
            return made

        named = orjson.dumps([profile.sha256(), self.batch.base_url, resources.model_dump()])
        return await self._single_flight(store, "assistant", hashlib.sha256(named).hexdigest(), make)

    async def _recreate_vector_store(self, store: Store, backend: Backend) -> None:
        """Another vector store of the same files; other workers and `purge` are told."""
        files = self.batch.resources.vector_store_files
        sha256 = vector_store_key(self.batch.base_url, files)
        name = store_name(self.batch.profile)
        found = await self._single_flight(
            store, "vector_store", sha256, lambda: backend.make_store(files, name)
        )
        resources = self.batch.resources.model_copy(update={"vector_store_id": found})
        await store.set_resources(self.batch.id, resources)
        self.batch = replace(self.batch, resources=resources)

    async def _single_flight(
        self, store: Store, kind: str, sha256: str, make: Callable[[], Awaitable[str]]
    ) -> str:
        """The one that is known, also to another batch or worker that makes it just now; else a new one."""

        async def make_here() -> str:
            if self.created_ids.get(sha256) in {None, *self.deleted_ids}:
                self.created_ids[sha256] = await make()
            return self.created_ids[sha256]

        wanted = ResourceKey(self.batch.id, kind, sha256, self.creator_id)
        return await single_flight(store, wanted, make_here, self.deleted_ids)


@dataclass
class BatchCache:
    """The batches this process has met."""

    store: Store
    contexts: dict[str, BatchContext] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, claim: Claim) -> BatchContext:
        """The claimed row's batch. Raises NotFound when it was purged meanwhile."""
        if claim.batch not in self.contexts:
            async with self.lock:
                if claim.batch not in self.contexts:
                    batch = await self.store.batch(claim.batch)
                    self.contexts[claim.batch] = BatchContext(batch, claim.update, claim.now_ms)
        room = self.contexts[claim.batch]
        room.update(claim.update, claim.now_ms)
        return room

    def drop_ended(self, in_hand: set[str]) -> None:
        """Batches that are over and have no job here need no memory; a retried one is read anew."""
        over = {BatchState.DONE, BatchState.CANCELLED}
        for batch in [batch for batch, room in self.contexts.items() if room.current.state in over]:
            if batch not in in_hand:
                del self.contexts[batch]
