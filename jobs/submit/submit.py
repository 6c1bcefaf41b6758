"""From a file to a stored batch: checked, named by its content, then stored row by row, or found again.

file ─▶ intake.check ─▶ identity ─▶ known? ─┬ no, or --new: take, upload, add_rows …, seal ─▶ feed
                                            ├ loading by another command: wait until it is sealed
                                            ├ unfinished: other limits if said, resume, go on
                                            └ done, or cancelled and every row ended: as it is

The identity is taken by one script before anything is stored or uploaded, so commands at the same moment make
one batch (jobs/store/ingest.py). A command that waits takes over from one that has died.
"""

import asyncio
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from askmill.config.settings import Settings
from askmill.jobs.intake import Intake, IntakeOptions, check
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.errors import NotFound, Unavailable, UsageError
from askmill.jobs.model.models import BatchState, Limits
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch, Counts, LeaseLost, Loading, NewBatch, NewRow
from askmill.jobs.submit.answer_cache import AnswerCache
from askmill.jobs.submit.load_lease import under_lease

Say = Callable[[str], None]
ROWS_A_CALL = 4096
"""A multiple of the store's block of 16 rows."""
PRICE_ADVICE = "Put its price into a file and name that file in ASKMILL_PRICES, or leave --budget out."
LOOK_S = 0.2
"""Between two questions whether another command has stored its rows."""
WAITING = "{} is being stored by another command with the same file and profile; waiting for it."
CONTINUED = "The command that was storing {} has stopped; this one stores it."
REPLACED = "This command stood still while it stored {}, and another one took over."
FEED_FLOOR = 20
"""Rows handed to the broker though no worker has a free slot: the next one finds work at once."""


@dataclass(frozen=True)
class SubmitRequest:
    """What the person asked for, beside the file's content. `limits` has only what was said."""

    intake: IntakeOptions
    profile: Profile
    target: Target
    limits: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    new: bool = False
    reuse_answers: bool = False
    retention_days: float | None = None


@dataclass(frozen=True)
class ExistingBatch:
    """A batch of the same content, and what became of it by asking again."""

    batch: Batch
    counts: Counts
    resumed: bool = False

    @property
    def finished(self) -> bool:
        """Nothing is left to do; of a cancelled batch, runs may still have to be seen to their end."""
        over = self.batch.state in {BatchState.DONE, BatchState.CANCELLED}
        return over and not self.counts.unfinished


def identity_of(intake: Intake, order: SubmitRequest) -> str:
    """Names the work: the contents of all files and what is read of them, the profile, who is asked.

    Options count as what they resolve to: one that says what is so anyway changes nothing.
    """
    target = order.target
    named = [*map(Path, order.profile.files), *intake.images.values(), *intake.files.values()]
    files = [_content(path) for path in named]
    parts: list[Any] = [
        intake.content_sha256,
        order.profile.sha256(),
        files,
        target.api,
        target.address,
        dataclasses.asdict(intake.spec),
        intake.dialect,
        order.intake.limit,
        intake.rejected,
    ]
    # Only where one is set, so that all other batches keep their identity.
    account = [target.organization, target.project]
    parts += [account] if any(account) else []
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _content(path: Path) -> str:
    """Of a file for the tools; a missing one is told by who uploads it."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def find_existing(store: Store, identity: str, order: SubmitRequest, say: Say) -> ExistingBatch | None:
    """The batch of the same work, unless `--new`; other limits are put into an unfinished one.

    A retention that is set is its retention from now on. Waits for a batch that another command is storing,
    and says so; None when there is no batch, or when the command that was storing it has died.
    """
    changed: set[str] = set()
    while not order.new and (found := await store.look(identity)) is not None:
        # Purged at this moment: it is as if it had never been.
        with suppress(NotFound):
            if not found.loading:
                return await _followed(store, found.batch, order)
            if found.batch not in changed:
                say(WAITING.format(found.batch))
                changed.add(found.batch)
                await _change(store, found.batch, order)
        await asyncio.sleep(LOOK_S)
    return None


async def _followed(store: Store, found: str, order: SubmitRequest) -> ExistingBatch:
    batch = await store.batch(found)
    known = ExistingBatch(batch, await store.counts(found))
    if known.finished:
        await _change(store, found, replace(order, limits={}))
        return known
    await _change(store, found, order)
    resumed = batch.state is BatchState.PAUSED and await store.resume(found)
    return ExistingBatch(await store.batch(found), known.counts, resumed)


async def _change(store: Store, batch: str, order: SubmitRequest) -> None:
    """What a later command says of a batch that exists."""
    if order.retention_days is not None:
        await store.update_retention(batch, order.retention_days)
    if order.limits:
        await store.change_limits(batch, order.limits)


async def find_or_store(
    store: Store, intake: Intake, order: SubmitRequest, identity: str, say: Say
) -> tuple[str, ExistingBatch | None]:
    """The batch's id, and what is known of it unless this command has stored it.

    Until the last row is in, nobody sees any. `say` receives progress. Raises UsageError when a file cannot
    be uploaded or changes meanwhile, and ApiUnavailable; then the identity is free again.
    """
    while True:
        known = await find_existing(store, identity, order, say)
        if known is not None:
            return known.batch.id, known
        new = _new_batch(intake, order, identity)
        taken = await store.take(new, anyway=order.new)
        if isinstance(taken, Loading):
            if taken.continued:
                say(CONTINUED.format(taken.batch))
            try:
                await under_lease(store, taken.batch, _load(store, taken, intake, order, say))
            except LeaseLost:
                say(REPLACED.format(taken.batch))
            else:
                return taken.batch, None
        order = replace(order, new=False)


def _new_batch(intake: Intake, order: SubmitRequest, identity: str) -> NewBatch:
    files = [_content(Path(path)) for path in order.profile.files]
    options = {"reuse_answers": order.reuse_answers, "files": files}
    options["offline"] = order.target.offline
    return NewBatch(
        name=order.name or Path(intake.name).name,
        file=intake.name,
        spec=intake.spec,
        profile=order.profile,
        resources=Resources(),
        api=order.target.api,
        base_url=order.target.base_url,
        model=order.profile.model or "",
        limits=Limits(**order.limits),
        identity=identity,
        options={name: value for name, value in options.items() if value},
        retention_days=order.retention_days,
    )


async def _load(store: Store, loading: Loading, intake: Intake, order: SubmitRequest, say: Say) -> None:
    """Upload, store every row, seal. Raises LeaseLost, and as `find_or_store` does."""
    batch, options = loading.batch, loading.options
    if loading.continued:
        await _change(store, batch, order)
    resources = await _prepared(store, batch, intake, order, say)
    known = None
    if order.reuse_answers or options.get("reuse_answers"):
        known = await _known_answers(store, intake, order, resources, options.get("files", []))
    first_row = 1
    for rows in _calls(intake.rows_iter()):
        await store.add_rows(batch, first_row, rows if known is None else known.applied(rows))
        first_row += len(rows)
    await store.seal_batch(batch)


async def _prepared(store: Store, batch: str, intake: Intake, order: SubmitRequest, say: Say) -> Resources:
    """What the API holds for the batch."""
    if not (order.profile.files or intake.images or intake.files):
        return Resources()
    # Loading the SDK takes half a second of CPU, much longer on a busy machine: in a thread, so that the
    # lease is renewed meanwhile.
    await asyncio.to_thread(import_module, "askmill.jobs.submit.resources")
    from askmill.jobs.openai_client.client import TIMEOUT_S, make_client  # noqa: PLC0415
    from askmill.jobs.submit.resources import Preparation  # noqa: PLC0415

    target = order.target
    key, organization, project = target.key, target.organization, target.project
    async with make_client(
        key, target.base_url, organization, project, TIMEOUT_S, target.proxy_environ
    ) as api_client:
        preparation = Preparation(store, batch, api_client, target.api, say)
        resources = await preparation.prepare(order.profile, intake.images, intake.files)
    await store.set_resources(batch, resources)
    return resources


async def _known_answers(
    store: Store, intake: Intake, order: SubmitRequest, resources: Resources, files: list[str]
) -> AnswerCache:
    """From the batches with the same API, address, profile and content of its files."""
    target, sha256 = order.target, order.profile.sha256()
    equals = [
        batch
        for batch in await store.list_batches()
        if (batch.api, batch.base_url) == (target.api, target.base_url)
        and batch.profile.sha256() == sha256
        and batch.options.get("files", []) == files
    ]
    return await AnswerCache.gather(store, intake, resources, equals)


def _calls(rows: Iterator[NewRow]) -> Iterator[list[NewRow]]:
    while some := list(islice(rows, ROWS_A_CALL)):
        yield some


async def dispatch_first_rows(store: Store, url: str) -> None:
    """Hand the first rows to the broker. When this fails, the next worker's sweep does it."""
    fed = await store.dispatch(FEED_FLOOR)
    if fed:
        from askmill.jobs.store.broker import publish  # noqa: PLC0415 -- loads Celery

        with suppress(Unavailable):
            await asyncio.to_thread(publish, url, fed)


def refuse_unpriced(order: SubmitRequest, prices: Prices) -> None:
    """Raises UsageError for a budget on a model whose price nobody knows."""
    model = order.profile.model
    if "budget_usd" in order.limits and prices.price_of(model) is None:
        what = f"The price of {model!r} is not known" if model else "A stored assistant's model is not known"
        raise UsageError(f"{what}, so --budget cannot be kept. {PRICE_ADVICE}")


def checked(file: str, order: SubmitRequest, settings: Settings) -> Intake:
    """The file, judged by what was asked for: under a budget each row's own model needs a known price.

    Raises InputFaults and UsageError.
    """
    if "budget_usd" not in order.limits:
        return check(file, order.intake)
    prices = Prices.read(settings.prices)

    def model_fault(model: str) -> str | None:
        unknown = prices.price_of(model) is None
        return f"has no known price, so --budget cannot be kept. {PRICE_ADVICE}" if unknown else None

    return check(file, order.intake, model_fault)
