"""What each batch is, read from the store once a process, and the assistant its runs are made with."""

import asyncio
import hashlib
import secrets
from dataclasses import dataclass, field

import orjson

from jobs.models import BatchState
from jobs.pricing import tokens_of
from jobs.profile import Profile
from jobs.records import Batch, BatchNow, Claim
from jobs.store import Store
from worker.backends.base import Backend
from worker.polling import RunTimes

MAKING_LOOK_S = 0.1


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
    """Assistants of ours that the API no longer has."""
    maker: str = field(default_factory=lambda: secrets.token_hex(8))
    made: str | None = None
    """The assistant that was made here, which Redis may not know yet."""
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

        `gone`: an assistant that somebody has deleted at the API; whoever notices first makes another.
        """
        async with self.furnishing:
            if self.furnished and gone in {None, *self.gone}:
                return
            if gone is not None:
                self.gone.add(gone)
            self.furnished = False
            profile = self.batch.profile.model_copy(update={"model": self.batch.model})
            if backend.api != "assistants" or profile.assistant_id is not None:
                found = await backend.ready(profile, self.batch.resources)
            else:
                found = await self._own_assistant(store, backend, profile)
            self.assistant_id, self.furnished = found, True

    async def _own_assistant(self, store: Store, backend: Backend, profile: Profile) -> str | None:
        """The one that is known, also to another batch or worker that makes it just now; else a new one."""
        named = orjson.dumps([profile.sha256(), self.batch.base_url, self.batch.resources.model_dump()])
        sha256 = hashlib.sha256(named).hexdigest()
        while True:
            ours, known = await store.reserve("assistant", sha256, self.maker, self.gone)
            if known is not None:
                return known
            if ours:
                break
            await asyncio.sleep(MAKING_LOOK_S)
        if self.made in {None, *self.gone}:
            try:
                self.made = await backend.ready(profile, self.batch.resources)
            except BaseException:
                await store.forget("assistant", sha256)
                raise
        assert self.made is not None
        await store.remember("assistant", sha256, self.made)
        return self.made


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
