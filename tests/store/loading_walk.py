"""The part of a random life in which batches come in: several loaders of one identity, some of which die."""

import random
from dataclasses import dataclass, replace
from typing import Any

import redis

from askmill.jobs.model.errors import Unavailable
from askmill.jobs.model.models import Limits
from askmill.jobs.store import Store, keys
from askmill.jobs.store.codec import BLOCK_ROWS
from askmill.jobs.store.records import NANO, Found, LeaseLost, Loading, NewRow
from askmill.jobs.store.scripts import Scripts
from tests.helpers.batches import new_batch, submitted
from tests.store.store_model import ModelBatch, ModelRow

IDENTITIES = ("1" * 64, "2" * 64)
OTHER_REPLIES = {"take", "drop"}
"""Those of a repeated call may differ: `created` is `continued` then, and what was dropped is gone."""


class SentTwice(Scripts):
    """Sends some calls again, as after a lost reply; the second reply counts."""

    def __init__(self, at: Any, url: str, chance: random.Random) -> None:
        super().__init__(at, url)
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
    """A batch on its way in. `stored`: rows that its present loader has stored."""

    rows: list[NewRow]
    budget: int | None
    identity: str
    before: str | None
    loader: Store
    lapsed: bool = False
    stored: int = 0


class LoadingWalk:
    """Events of batches on their way in; the walk has the rest."""

    chance: random.Random
    store: Store
    redis: redis.Redis
    batches: dict[str, ModelBatch]
    url: str

    def __init__(self) -> None:
        self.loading: dict[str, ModelLoading] = {}
        self.newest: dict[str, str] = {}
        self.had: list[tuple[Store, str]] = []
        """Every loader with each batch that it was ever to load."""
        scripts = SentTwice(self.store._at.redis, self.url, self.chance)
        self.submitters = [Store(replace(self.store._at, scripts=scripts)) for _ in range(3)]

    def run(self, coroutine: Any) -> Any:
        raise NotImplementedError

    def purge(self) -> None:
        raise NotImplementedError

    # ── whole batches ──

    def some_rows(self) -> list[NewRow]:
        """Some rejected, some in conversation a or b."""
        drawn = [
            (self.chance.choice((True, False)), self.chance.choice(("", "", "", "a", "b")))
            for _ in range(self.chance.randint(1, 30))
        ]
        return [
            NewRow([f"question {i}"], "bad" if i % 7 == 6 and bad else None, talk)
            for i, (bad, talk) in enumerate(drawn)
        ]

    def submit(self) -> None:
        """From its first row to its seal without a break."""
        if len(self.batches) == 3:
            self.purge()
        given, budget = self.some_rows(), self.chance.choice((None, 30))
        batch = self.run(submitted(self.store, given, limits=limits_of(budget)))
        self.batches[batch] = model_of(given, budget)

    # ── two submitters of one identity ──

    def known(self, identity: str) -> str | None:
        """The batch that the identity names: that of a dead --new yields to the one before."""
        batch = self.newest.get(identity)
        while (
            batch in self.loading and self.loading[batch].lapsed and self.exists(self.loading[batch].before)
        ):
            batch = self.loading[batch].before
        return batch if self.exists(batch) else None

    def exists(self, batch: str | None) -> bool:
        return batch in self.batches or batch in self.loading

    def look(self) -> None:
        identity = self.chance.choice(IDENTITIES)
        known = self.known(identity)
        there = None if known is None else Found(known, known in self.loading)
        if known in self.loading and self.loading[known].lapsed:
            there = None
        assert self.run(self.store.look(identity)) == there

    def come(self) -> None:
        """A command wants a batch; it is told that of another, or is to load one."""
        identity, submitter = self.chance.choice(IDENTITIES), self.chance.choice(self.submitters)
        anyway, budget = self.chance.random() < 0.2, self.chance.choice((None, 30))
        known = self.known(identity)
        new = new_batch(identity=identity, limits=limits_of(budget))
        got = self.run(submitter.take(new, anyway=anyway))
        if known is not None and not anyway:
            model = self.loading.get(known)
            if model is None or not model.lapsed:
                assert got == Found(known, model is not None)
                return
            assert isinstance(got, Loading), got
            assert (got.batch, got.continued) == (known, True)
            model.loader, model.lapsed, model.stored = submitter, False, 0
        else:
            assert isinstance(got, Loading), got
            assert not self.exists(got.batch)
            self.loading[got.batch] = ModelLoading(self.some_rows(), budget, identity, known, submitter)
        self.newest[identity] = got.batch
        self.had = [one for one in self.had if one != (submitter, got.batch)] + [(submitter, got.batch)]

    def a_load(self) -> tuple[Store, str, ModelLoading | None] | None:
        """A loader and its batch, and what is known of it while it still is that one's."""
        if not self.had:
            return None
        submitter, batch = self.chance.choice(self.had[-8:])
        model = self.loading.get(batch)
        return submitter, batch, model if model and model.loader is submitter else None

    def load(self) -> None:
        """One block of rows: only from the loader whose batch it is."""
        if not (one := self.a_load()):
            return
        submitter, batch, model = one
        first = 0 if model is None else model.stored
        rows = [NewRow(["late"])] if model is None else model.rows[first : first + BLOCK_ROWS]
        if not rows:
            return
        self.told(submitter.add_rows(batch, first + 1, rows), batch, model)
        if model:
            model.stored, model.lapsed = first + len(rows), False

    def keep_lease(self) -> None:
        if one := self.a_load():
            submitter, batch, model = one
            self.told(submitter.renew(batch), batch, model)
            if model:
                model.lapsed = False

    def lapse(self) -> None:
        """A loader was killed, or has been silent for as long as its lease."""
        if self.loading:
            batch = self.chance.choice(list(self.loading))
            self.redis.hset(keys.batch(batch), "lease_until", 0)
            self.loading[batch].lapsed = True

    def seal(self) -> None:
        """The rest of the rows, and the seal: the batch is one like all others from now on."""
        if not (one := self.a_load()):
            return
        submitter, batch, model = one
        if model is None:
            self.told(submitter.seal_batch(batch), batch, None)
            return
        if len(self.batches) == 3:
            self.purge()
        while model.stored < len(model.rows):
            rows = model.rows[model.stored : model.stored + BLOCK_ROWS]
            self.run(submitter.add_rows(batch, model.stored + 1, rows))
            model.stored += len(rows)
        self.run(submitter.seal_batch(batch))
        self.had.remove((submitter, batch))
        del self.loading[batch]
        self.batches[batch] = model_of(model.rows, model.budget)
        self.newest[model.identity] = batch

    def drop(self) -> None:
        """A loader fails, or is interrupted: another's batch stays as it is."""
        if not (one := self.a_load()):
            return
        submitter, batch, model = one
        self.run(submitter.drop(batch))
        if model is None:
            return
        del self.loading[batch]
        assert list(self.redis.scan_iter(f"{keys.batch(batch)}*")) == []
        if self.newest[model.identity] == batch:
            if self.exists(model.before):
                self.newest[model.identity] = str(model.before)
            else:
                del self.newest[model.identity]

    def told(self, call: Any, batch: str, model: ModelLoading | None) -> None:
        """Done for the batch's loader; to any other the store says what has become of it."""
        said: type[Exception] | None = None
        try:
            self.run(call)
        except (LeaseLost, Unavailable) as fault:
            said = type(fault)
        assert said is (None if model else LeaseLost if self.exists(batch) else Unavailable)

    def half_stored_is_seen_by_nobody(self) -> None:
        """Listed are the sealed batches, and all of them."""
        assert {batch.decode() for batch in self.redis.zrange(keys.BATCHES, 0, -1)} == set(self.batches)
        assert {batch.decode() for batch in self.redis.smembers(keys.LOADING)} == set(self.loading)


def limits_of(budget: int | None) -> Limits:
    return Limits(budget_usd=None if budget is None else budget / NANO)


def model_of(given: list[NewRow], budget: int | None) -> ModelBatch:
    """A sealed batch of these rows."""
    model, last = ModelBatch({}, budget), dict[str, int]()
    for number, row in enumerate(given, 1):
        before = last.get(row.conversation) if row.conversation and row.reject is None else None
        model.rows[number] = ModelRow("j" if row.reject else "h" if before else "q", before)
        if before:
            model.rows[before].after = number
        if row.conversation and row.reject is None:
            last[row.conversation] = number
    model.settle()
    return model
