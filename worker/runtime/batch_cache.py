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
from askmill.jobs.store.records import Batch, BatchNow, Claim, Wanted
from askmill.jobs.store.single_flight import made_once
from askmill.worker.backends.base import Backend
from askmill.worker.lifecycle.api_types import ApiFault
from askmill.worker.lifecycle.polling import RunTimes
from askmill.worker.lifecycle.retry import store_gone


@dataclass
class BatchRoom:
    """A batch as this process knows it: what is frozen, what last changed, and how long its runs take."""

    batch: Batch
    now: BatchNow
    seen_ms: int
    """When `now` was true, by Redis' clock."""
    times: RunTimes = field(default_factory=RunTimes)
    assistant_id: str | None = None
    furnished: bool = False
    gone: set[str] = field(default_factory=set)
    """Assistants and vector stores of ours that the API no longer has."""
    maker: str = field(default_factory=lambda: secrets.token_hex(8))
    made: dict[str, str] = field(default_factory=dict)
    """By content, what was made here, which Redis may not know yet."""
    runs_seen: int = 0
    tokens_seen: int = 0
    furnishing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def learn(self, now: BatchNow, at_ms: int) -> bool:
        """Take newer news; whether anything has changed."""
        if at_ms < self.seen_ms:
            return False
        changed, self.now, self.seen_ms = now != self.now, now, at_ms
        return changed

    def expected_tokens(self) -> int:
        """What a run of this batch takes: the mean of those seen, else what its limits suggest."""
        if self.runs_seen:
            return round(self.tokens_seen / self.runs_seen)
        profile = self.batch.profile
        return tokens_of(profile.instructions or "") + (profile.max_completion_tokens or 500)

    def took_tokens(self, used: int) -> None:
        """Another run has told its tokens."""
        self.runs_seen += 1
        self.tokens_seen += used

    async def furnish(self, store: Store, backend: Backend, gone: str | None = None) -> None:
        """See to it that the assistant stands: reused by content, made at most once. Raises ApiFault.

        `gone`: an assistant or a vector store that somebody has deleted at the API; whoever notices first
        makes another.
        """
        async with self.furnishing:
            if self.furnished and gone in {None, *self.gone}:
                return
            if gone is not None:
                self.gone.add(gone)
            self.furnished = False
            try:
                self.assistant_id = await self._assistant(store, backend)
            except ApiFault as fault:
                if not store_gone(fault, self.batch.resources.vector_store_id):
                    raise
                self.gone.add(self.batch.resources.vector_store_id or "")
                self.assistant_id = await self._assistant(store, backend)
            self.furnished = True

    async def _assistant(self, store: Store, backend: Backend) -> str | None:
        """The stored one, or ours, which is made with the vector store; none on Responses."""
        if self.batch.resources.vector_store_id in self.gone:
            await self._refill(store, backend)
        resources = self.batch.resources
        profile = self.batch.profile.model_copy(update={"model": self.batch.model})
        if backend.api != "assistants" or profile.assistant_id is not None:
            return await backend.ready(profile, resources)

        async def make() -> str:
            made = await backend.ready(profile, resources)
            assert made is not None
            return made

        named = orjson.dumps([profile.sha256(), self.batch.base_url, resources.model_dump()])
        return await self._once(store, "assistant", hashlib.sha256(named).hexdigest(), make)

    async def _refill(self, store: Store, backend: Backend) -> None:
        """Another vector store of the same files; other workers and `purge` are told."""
        files = self.batch.resources.vector_store_files
        sha256 = vector_store_key(self.batch.base_url, files)
        name = store_name(self.batch.profile)
        found = await self._once(store, "vector_store", sha256, lambda: backend.make_store(files, name))
        resources = self.batch.resources.model_copy(update={"vector_store_id": found})
        await store.set_resources(self.batch.id, resources)
        self.batch = replace(self.batch, resources=resources)

    async def _once(self, store: Store, kind: str, sha256: str, make: Callable[[], Awaitable[str]]) -> str:
        """The one that is known, also to another batch or worker that makes it just now; else a new one."""

        async def make_here() -> str:
            if self.made.get(sha256) in {None, *self.gone}:
                self.made[sha256] = await make()
            return self.made[sha256]

        wanted = Wanted(self.batch.id, kind, sha256, self.maker)
        return await made_once(store, wanted, make_here, self.gone)


@dataclass
class Rooms:
    """The batches this process has met."""

    store: Store
    known: dict[str, BatchRoom] = field(default_factory=dict)
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def room(self, claim: Claim) -> BatchRoom:
        """The claimed row's batch. Raises NotFound when it was purged meanwhile."""
        if claim.batch not in self.known:
            async with self.opening:
                if claim.batch not in self.known:
                    batch = await self.store.batch(claim.batch)
                    self.known[claim.batch] = BatchRoom(batch, claim.now, claim.now_ms)
        room = self.known[claim.batch]
        room.learn(claim.now, claim.now_ms)
        return room

    def forget_ended(self, in_hand: set[str]) -> None:
        """Batches that are over and have no job here need no memory; a retried one is read anew."""
        over = {BatchState.DONE, BatchState.CANCELLED}
        for batch in [batch for batch, room in self.known.items() if room.now.state in over]:
            if batch not in in_hand:
                del self.known[batch]
