"""The batches a worker process works on, read from the store once each, and the assistant of each batch."""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

import orjson

from askmill.jobs.model.models import BatchState
from askmill.jobs.openai_client.pricing import estimate_tokens
from askmill.jobs.openai_client.uploads import vector_store_key, vector_store_name
from askmill.jobs.store import Store
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.records import Batch, BatchUpdate, ResourceKey
from askmill.jobs.store.shard_records import ShardClaim
from askmill.jobs.store.single_flight import single_flight
from askmill.jobs.store.waits import Poll
from askmill.worker.backends.base import Backend
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.polling import RunTimes
from askmill.worker.lifecycle.retry import vector_store_missing
from askmill.worker.runtime.fault_log import FaultLog
from askmill.worker.runtime.taken_over import TakenOverRuns


@dataclass
class BatchContext:
    """A batch in this process: its definition, its current state and limits, and its run times."""

    batch: Batch
    current: BatchUpdate
    current_at_ms: int
    """When `current` was read, in milliseconds of Redis' clock."""
    run_times: RunTimes = field(default_factory=RunTimes)
    assistant_id: str | None = None
    assistant_ready: bool = False
    deleted_ids: set[str] = field(default_factory=set)
    """Assistants and vector stores of this batch that the API no longer has."""
    creator_id: str = field(default_factory=partial(secrets.token_hex, 8))
    created_ids: dict[str, str] = field(default_factory=dict)
    """Objects created here, by content hash; Redis may not have them yet."""
    runs_seen: int = 0
    tokens_seen: int = 0
    """Tokens of those runs, for `expected_tokens`."""
    faults: FaultLog = field(default_factory=FaultLog)
    """What this process met at the API, until it is reported."""
    polls: dict[int, tuple[str, Poll]] = field(default_factory=dict)
    """By row: the fence of its claim and its last poll, until the next heartbeat records them."""
    taken_over: TakenOverRuns = field(default_factory=TakenOverRuns)
    accepted: bool = False
    """The store knows from this process that the API accepts calls of the batch (chat completions)."""
    assistant_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def update(self, update: BatchUpdate, at_ms: int) -> bool:
        """Apply an update unless a newer one was applied; returns whether anything has changed."""
        if at_ms < self.current_at_ms:
            return False
        changed, self.current, self.current_at_ms = update != self.current, update, at_ms
        # After a pause one row goes alone again until the API accepts it.
        self.accepted = self.accepted and not changed
        return changed

    def note_poll(self, claim: Claim, status: str, next_ms: int) -> None:
        """Keep what a poll showed until the next heartbeat records it."""
        self.polls[claim.row] = (claim.fence, Poll(status, next_ms))

    def expected_tokens(self) -> int:
        """Tokens a run of this batch takes: the mean of earlier runs, else an estimate from its limits."""
        if self.runs_seen:
            return round(self.tokens_seen / self.runs_seen)
        profile = self.batch.profile
        return estimate_tokens(profile.instructions or "") + (profile.max_completion_tokens or 500)

    async def ensure_assistant(self, store: Store, backend: Backend, missing: str | None = None) -> None:
        """Ensure that the assistant exists. It is shared by content and created at most once.

        Args:
            store: where all workers record the objects they have created.
            backend: the API.
            missing: the id of an assistant or vector store that the API no longer has; another is created.

        Raises:
            ApiError: the API refuses a create or does not answer.
        """
        async with self.assistant_lock:
            if self.assistant_ready and missing in {None, *self.deleted_ids}:
                return
            if missing is not None:
                self.deleted_ids.add(missing)
            self.assistant_ready = False
            try:
                self.assistant_id = await self._find_or_create_assistant(store, backend)
            except ApiError as error:
                if not vector_store_missing(error, self.batch.resources.vector_store_id):
                    raise
                self.deleted_ids.add(self.batch.resources.vector_store_id or "")
                self.assistant_id = await self._find_or_create_assistant(store, backend)
            self.assistant_ready = True

    async def _find_or_create_assistant(self, store: Store, backend: Backend) -> str | None:
        """The id of the profile's assistant, else of one shared by content; None on Responses."""
        if self.batch.resources.vector_store_id in self.deleted_ids:
            await self._recreate_vector_store(store, backend)
        resources = self.batch.resources
        profile = self.batch.profile.model_copy(update={"model": self.batch.model})
        if backend.api != "assistants" or profile.assistant_id is not None:
            return await backend.ensure_assistant(profile, resources)
        content = [profile.sha256(), self.batch.base_url, resources.model_dump()]
        # Only where one is set: what one account has created does not exist for another.
        content += [account] if any(account := (self.batch.organization, self.batch.project)) else []
        sha256 = hashlib.sha256(orjson.dumps(content)).hexdigest()
        return await self._create_once(
            store, "assistant", sha256, partial(backend.ensure_assistant, profile, resources)
        )

    async def _recreate_vector_store(self, store: Store, backend: Backend) -> None:
        """Create another vector store of the same files, and record it for other workers and `purge`."""
        files = self.batch.resources.vector_store_files
        sha256 = vector_store_key(self.batch.base_url, files)
        create = partial(backend.create_vector_store, files, vector_store_name(self.batch.profile))
        store_id = await self._create_once(store, "vector_store", sha256, create)
        resources = self.batch.resources.model_copy(update={"vector_store_id": store_id})
        await store.set_resources(self.batch.id, resources)
        self.batch = replace(self.batch, resources=resources)

    async def _create_once(
        self, store: Store, kind: str, sha256: str, create: Callable[[], Awaitable[str | None]]
    ) -> str:
        """The id of the object with this content, created by this worker or another one, now or earlier."""

        async def create_here() -> str:
            if self.created_ids.get(sha256) in {None, *self.deleted_ids}:
                object_id = await create()
                assert object_id is not None
                self.created_ids[sha256] = object_id
            return self.created_ids[sha256]

        key = ResourceKey(self.batch.id, kind, sha256, self.creator_id)
        return await single_flight(store, key, create_here, self.deleted_ids)


@dataclass
class BatchCache:
    """The batches of this process, by id."""

    store: Store
    contexts: dict[str, BatchContext] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, claim: Claim | ShardClaim) -> BatchContext:
        """The batch of a claimed row or shard. Raises NotFound when it was purged meanwhile."""
        if claim.batch not in self.contexts:
            async with self.lock:
                if claim.batch not in self.contexts:
                    batch = await self.store.batch(claim.batch)
                    self.contexts[claim.batch] = BatchContext(batch, claim.update, claim.now_ms)
        context = self.contexts[claim.batch]
        context.update(claim.update, claim.now_ms)
        return context

    async def report(self, now_s: float) -> None:
        """Report the last polls of running rows, and the faults that no later one has reported."""
        for batch, context in list(self.contexts.items()):
            polls, context.polls = context.polls, {}
            if polls:
                await self.store.record_polls(batch, polls)
            fault = context.faults.report(now_s)
            if fault is not None:
                await self.store.record_fault(batch, fault)

    def has_chat(self, batches: set[str]) -> bool:
        """Whether one of the batches uses chat completions, whose calls cannot be handed over."""
        contexts = [self.contexts[batch] for batch in batches if batch in self.contexts]
        return any(context.batch.api == "chat" for context in contexts)

    def drop_ended(self, batches_in_progress: set[str]) -> None:
        """Forget batches that have ended and have no job here; a retried one is read again."""
        ended = {BatchState.DONE, BatchState.CANCELLED}
        for batch, context in list(self.contexts.items()):
            if context.current.state in ended and batch not in batches_in_progress:
                del self.contexts[batch]
