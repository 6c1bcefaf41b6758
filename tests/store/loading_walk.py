"""The part of the random walk that loads batches: several loaders of one identity, some of which die."""

import random
from dataclasses import dataclass, replace
from typing import Any

import redis

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.model.models import Limits
from askmill.jobs.store import Store, keys
from askmill.jobs.store.codec import BLOCK_ROWS
from askmill.jobs.store.records import NANO, BatchToLoad, FoundBatch, LeaseLost, NewRow
from askmill.jobs.store.scripts import Scripts
from tests.helpers.batches import new_batch, submit_batch
from tests.store.store_model import ModelBatch, ModelRow

IDENTITIES = ("1" * 64, "2" * 64)
OTHER_REPLIES = {"drop_batch"}
"""Scripts whose second reply may differ: a dropped batch is gone."""


class SentTwice(Scripts):
    """Sends some calls twice, as after a lost reply, and returns the second reply."""

    def __init__(self, redis_client: Any, url: str, chance: random.Random) -> None:
        super().__init__(redis_client, url, redis_client, 12_000)
        self._chance = chance

    async def _run(self, name: str, *arguments: Any) -> Any:
        reply = await super()._run(name, *arguments)
        if self._chance.random() < 0.5:
            return reply
        again = await super()._run(name, *arguments)
        assert again == reply or name in OTHER_REPLIES, (name, reply, again)
        return again


@dataclass
class ModelLoading:
    """A loading batch. `stored`: rows that its present loader has stored."""

    rows: list[NewRow]
    budget: int | None
    identity: str
    replaces: str | None
    loader: Store
    expired: bool = False
    stored: int = 0


class LoadingWalk:
    """Steps that load batches; `Walk` has the others."""

    chance: random.Random
    store: Store
    redis: redis.Redis
    batches: dict[str, ModelBatch]
    url: str

    def __init__(self) -> None:
        self.loading: dict[str, ModelLoading] = {}
        self.newest: dict[str, str] = {}
        self.loads: list[tuple[Store, str]] = []
        """Every loader with each batch that it has ever been given to load."""
        scripts = SentTwice(self.store._connection.redis, self.url, self.chance)
        self.submitters = [Store(replace(self.store._connection, scripts=scripts)) for _ in range(3)]

    def run(self, coroutine: Any) -> Any:
        raise NotImplementedError

    def purge(self) -> None:
        raise NotImplementedError

    # ── whole batches ──

    def draw_rows(self) -> list[NewRow]:
        """Return random rows: some rejected, some in conversation a or b."""
        draws = [
            (self.chance.choice((True, False)), self.chance.choice(("", "", "", "a", "b")))
            for _ in range(self.chance.randint(1, 30))
        ]
        return [
            NewRow([f"question {i}"], "bad" if i % 7 == 6 and bad else None, conversation)
            for i, (bad, conversation) in enumerate(draws)
        ]

    def submit(self) -> None:
        """Load and seal a batch in one step."""
        if len(self.batches) == 3:
            self.purge()
        rows, budget = self.draw_rows(), self.chance.choice((None, 30))
        batch = self.run(submit_batch(self.store, rows, limits=limits_of(budget)))
        self.batches[batch] = model_of(rows, budget)

    # ── two submitters of one identity ──

    def current_batch(self, identity: str) -> str | None:
        """Return the batch of the identity; a --new whose loader is dead yields to the batch it replaces."""
        batch = self.newest.get(identity)
        while (
            batch in self.loading
            and self.loading[batch].expired
            and self.exists(self.loading[batch].replaces)
        ):
            batch = self.loading[batch].replaces
        return batch if self.exists(batch) else None

    def exists(self, batch: str | None) -> bool:
        return batch in self.batches or batch in self.loading

    def find_identity(self) -> None:
        identity = self.chance.choice(IDENTITIES)
        current_batch = self.current_batch(identity)
        expected = None if current_batch is None else FoundBatch(current_batch, current_batch in self.loading)
        if current_batch in self.loading and self.loading[current_batch].expired:
            expected = None
        assert self.run(self.store.find_identity(identity)) == expected

    def take_identity(self) -> None:
        """A command asks for a batch: it gets an existing one, or one to load."""
        identity, submitter = self.chance.choice(IDENTITIES), self.chance.choice(self.submitters)
        always_new, budget = self.chance.random() < 0.2, self.chance.choice((None, 30))
        current_batch = self.current_batch(identity)
        new = new_batch(identity=identity, limits=limits_of(budget))
        reply = self.run(submitter.take_identity(new, always_new=always_new))
        if current_batch is not None and not always_new:
            model = self.loading.get(current_batch)
            if model is None or not model.expired:
                assert reply == FoundBatch(current_batch, model is not None)
                return
            assert isinstance(reply, BatchToLoad), reply
            assert (reply.batch, reply.continued) == (current_batch, True)
            model.loader, model.expired, model.stored = submitter, False, 0
        else:
            assert isinstance(reply, BatchToLoad), reply
            assert not self.exists(reply.batch)
            self.loading[reply.batch] = ModelLoading(
                self.draw_rows(), budget, identity, current_batch, submitter
            )
        self.newest[identity] = reply.batch
        self.loads = [chosen for chosen in self.loads if chosen != (submitter, reply.batch)] + [
            (submitter, reply.batch)
        ]

    def choose_load(self) -> tuple[Store, str, ModelLoading | None] | None:
        """Return a loader, its batch, and the batch's model while this loader still holds it."""
        if not self.loads:
            return None
        submitter, batch = self.chance.choice(self.loads[-8:])
        model = self.loading.get(batch)
        return submitter, batch, model if model and model.loader is submitter else None

    def load(self) -> None:
        """Add one block of rows: accepted only from the batch's loader."""
        if not (chosen := self.choose_load()):
            return
        submitter, batch, model = chosen
        first = 0 if model is None else model.stored
        rows = [NewRow(["late"])] if model is None else model.rows[first : first + BLOCK_ROWS]
        if not rows:
            return
        self.expect(submitter.add_rows(batch, first + 1, rows), batch, model)
        if model:
            model.stored, model.expired = first + len(rows), False

    def renew_lease(self) -> None:
        if chosen := self.choose_load():
            submitter, batch, model = chosen
            self.expect(submitter.renew_lease(batch), batch, model)
            if model:
                model.expired = False

    def expire_lease(self) -> None:
        """A lease runs out: the loader was killed or silent for that long."""
        if self.loading:
            batch = self.chance.choice(list(self.loading))
            self.redis.hset(keys.batch(batch), "lease_until", 0)
            self.loading[batch].expired = True

    def seal(self) -> None:
        """Add the remaining rows and seal."""
        if not (chosen := self.choose_load()):
            return
        submitter, batch, model = chosen
        if model is None:
            self.expect(submitter.seal_batch(batch), batch, None)
            return
        if len(self.batches) == 3:
            self.purge()
        while model.stored < len(model.rows):
            rows = model.rows[model.stored : model.stored + BLOCK_ROWS]
            self.run(submitter.add_rows(batch, model.stored + 1, rows))
            model.stored += len(rows)
        self.run(submitter.seal_batch(batch))
        self.loads.remove((submitter, batch))
        del self.loading[batch]
        self.batches[batch] = model_of(model.rows, model.budget)
        self.newest[model.identity] = batch

    def drop(self) -> None:
        """A loader fails or is interrupted: a batch that another loads stays unchanged."""
        if not (chosen := self.choose_load()):
            return
        submitter, batch, model = chosen
        self.run(submitter.drop_batch(batch))
        if model is None:
            return
        del self.loading[batch]
        assert list(self.redis.scan_iter(f"{keys.batch(batch)}*")) == []
        if self.newest[model.identity] == batch:
            if self.exists(model.replaces):
                self.newest[model.identity] = str(model.replaces)
            else:
                del self.newest[model.identity]

    def expect(self, call: Any, batch: str, model: ModelLoading | None) -> None:
        """Run the call: it succeeds for the batch's loader, and raises for any other."""
        raised: type[Exception] | None = None
        try:
            self.run(call)
        except (LeaseLost, Unavailable) as fault:
            raised = type(fault)
        assert raised is (None if model else LeaseLost if self.exists(batch) else Unavailable)

    def check_lists(self) -> None:
        """Check that exactly the sealed batches are listed."""
        assert {batch.decode() for batch in self.redis.zrange(keys.BATCHES, 0, -1)} == set(self.batches)
        assert {batch.decode() for batch in self.redis.smembers(keys.LOADING)} == set(self.loading)


def limits_of(budget: int | None) -> Limits:
    return Limits(budget_usd=None if budget is None else budget / NANO)


def model_of(rows: list[NewRow], budget: int | None) -> ModelBatch:
    """Return the model of a sealed batch of these rows."""
    model, last = ModelBatch({}, budget), dict[str, int]()
    for number, row in enumerate(rows, 1):
        replaces = last.get(row.conversation) if row.conversation and row.reject is None else None
        model.rows[number] = ModelRow("j" if row.reject else "h" if replaces else "q", replaces)
        if replaces:
            model.rows[replaces].next_row_number = number
        if row.conversation and row.reject is None:
            last[row.conversation] = number
    model.close_if_done()
    return model
