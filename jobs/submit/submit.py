"""From a file to a stored batch: validate, identify by content, then find the batch or store it row by row.

file ─▶ intake.check ─▶ API ─▶ identity ─▶ exists? ─┬ no, or --new: take, upload, add_rows …, seal ─▶ dispatch
                                             ├ loading by another command: wait until it is sealed
                                             ├ unfinished: change limits if given, resume
                                             └ done, or cancelled and every row ended: unchanged

One script takes the identity before anything is stored or uploaded, so commands at the same moment create one
batch (jobs/store/ingest.py). A waiting command takes over from one that has died.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice
from pathlib import Path

from askmill.config.text import count_of
from askmill.jobs.display.input_preview import left_out_line
from askmill.jobs.display.stall_text import stall_reason
from askmill.jobs.display.status_text import commands_of_finished
from askmill.jobs.intake import Intake
from askmill.jobs.model.errors import NotFound, Unavailable
from askmill.jobs.model.models import BatchState, Limits
from askmill.jobs.model.profile import Resources
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch, BatchToLoad, LeaseLost, NewBatch, NewRow
from askmill.jobs.store.views import Counts
from askmill.jobs.submit.answer_cache import AnswerCache, equal_batches, reusable_line
from askmill.jobs.submit.find_api import with_api
from askmill.jobs.submit.images import profile_images, store_images
from askmill.jobs.submit.load_lease import under_lease
from askmill.jobs.submit.request import Say, SubmitRequest, content_sha256, identity_of

ROWS_PER_CALL = 4096
"""A multiple of the store's block of 16 rows."""
POLL_S = 0.2
"""Interval of checks whether another command has stored its rows."""
WAITING = "{} is being stored by another command with the same file and profile; waiting for it."
CONTINUED = "The command that was storing {} has stopped; this one stores it."
REPLACED = "This command was suspended while it stored {}, and another one took over."
DISPATCH_FLOOR = 20
"""Rows dispatched even if no worker has a free slot, so that the next one finds work at once."""


@dataclass(frozen=True)
class ExistingBatch:
    """A batch found by its identity, and whether this command resumed it."""

    batch: Batch
    counts: Counts
    resumed: bool = False

    @property
    def finished(self) -> bool:
        """Whether every row has ended; runs of a cancelled batch may still be active."""
        over = self.batch.state in {BatchState.DONE, BatchState.CANCELLED}
        return over and not self.counts.unfinished


@dataclass(frozen=True)
class Submitted:
    """The result of `submit`. `existing` is the batch found by identity, if there was one.

    `stall` says why the batch makes no progress and what to do; empty while it does.
    """

    batch: str
    existing: ExistingBatch | None
    stall: str


def existing_text(existing: ExistingBatch) -> str:
    """What became of a file whose batch exists already."""
    batch = existing.batch
    if existing.finished:
        return (
            f"{batch.id} has the same file and profile and is {batch.state}; nothing was submitted. "
            f"{commands_of_finished(batch, existing.counts)}"
        )
    resumed = " It was paused and is now resumed." if existing.resumed else ""
    return (
        f"{batch.id} has the same file and profile and is not finished: nothing new was submitted.{resumed}"
    )


async def find_existing(
    store: Store, identity: str, request: SubmitRequest, on_progress: Say
) -> ExistingBatch | None:
    """Return the batch with this identity, with the request's limits and retention, unless `--new` is given.

    Waits for a batch that another command is storing, and reports that. Returns None if there is no batch, or
    if the command that was storing it has died.
    """
    changed: set[str] = set()
    while not request.new and (found := await store.find_identity(identity)) is not None:
        # Purged at this moment: continue as if it had never existed.
        with suppress(NotFound):
            if not found.loading:
                return await _resume_existing(store, found.batch, request)
            if found.batch not in changed:
                on_progress(WAITING.format(found.batch))
                changed.add(found.batch)
                await _update_settings(store, found.batch, request)
        await asyncio.sleep(POLL_S)
    return None


async def _resume_existing(store: Store, found: str, request: SubmitRequest) -> ExistingBatch:
    batch = await store.batch(found)
    existing = ExistingBatch(batch, await store.counts(found))
    if existing.finished:
        await _update_settings(store, found, replace(request, limits={}))
        return existing
    await _update_settings(store, found, request)
    resumed = batch.state is BatchState.PAUSED and await store.resume(found)
    return ExistingBatch(await store.batch(found), existing.counts, resumed)


async def _update_settings(store: Store, batch: str, request: SubmitRequest) -> None:
    """Apply a later command's retention, limits and expectation to an existing batch."""
    if request.retention_days is not None:
        await store.update_retention(batch, request.retention_days)
    if request.limits:
        await store.change_limits(batch, request.limits)
    if request.expected is not None:
        await store.set_expected(batch, request.expected)


async def check_durability(store: Store, say: Say) -> None:
    """Say in which ways this Redis may lose batches; called before rows are stored.

    Raises:
        UsageError: it cannot give the durability that the settings ask for.
    """
    for weakness in await store.check_server():
        say(f"Warning: {weakness.sentence}")


async def submit(store: Store, url: str, intake: Intake, request: SubmitRequest, say: Say) -> Submitted:
    """Store a batch, or resume the one with the same identity. `url` is Redis' address.

    The batch is then as durable as the mark before a create: its id may be relied on. Raises as
    `find_or_store` and `check_durability` do.
    """
    request, was_asked = await with_api(store, intake, request, say)
    identity = identity_of(intake, request)
    existing = await find_existing(store, identity, request, say)
    source_line = None if was_asked else request.target.source_line
    if source_line is not None and not (existing is not None and existing.finished):
        say(source_line)
    if existing is None or not existing.finished:
        await check_durability(store, say)
    if existing is None:
        await describe_new_batch(store, intake, request, say)
        batch, existing = await find_or_store(store, intake, request, identity, say)
    else:
        batch = existing.batch.id
    await store.ensure_durable()
    if existing is None or not existing.finished:
        await dispatch_first_rows(store, url)
    return Submitted(batch, existing, stall_reason(await store.status(batch)))


async def describe_new_batch(store: Store, intake: Intake, request: SubmitRequest, say: Say) -> None:
    """Before a new batch is paid for: say what of its file is not asked, and which rows are answered here.

    The latter not where a repeat is what the user asks for: --new, or an idempotency key.
    """
    if line := left_out_line(intake.rows, intake.rejected, intake.blank_lines):
        say(line)
    if request.reuse_answers or request.new or request.idempotency_key or request.target.offline:
        return
    batches = await equal_batches(store, request.target, request.profile, _file_hashes(request))
    if line := await reusable_line(store, intake, batches):
        say(line)


async def find_or_store(
    store: Store, intake: Intake, request: SubmitRequest, identity: str, on_progress: Say
) -> tuple[str, ExistingBatch | None]:
    """Return the batch's id, and the existing batch unless this command has stored it.

    The batch is invisible until its last row is stored. Raises UsageError if a file cannot be uploaded or
    changes meanwhile, and ApiUnavailable; the identity is then free again.
    """
    while True:
        existing = await find_existing(store, identity, request, on_progress)
        if existing is not None:
            return existing.batch.id, existing
        new = _new_batch(intake, request, identity)
        taken = await store.take_identity(new, always_new=request.new)
        if isinstance(taken, BatchToLoad):
            if taken.continued:
                on_progress(CONTINUED.format(taken.batch))
            try:
                await under_lease(store, taken.batch, _load(store, taken, intake, request, on_progress))
            except LeaseLost:
                on_progress(REPLACED.format(taken.batch))
            else:
                return taken.batch, None
        request = replace(request, new=False)


def _new_batch(intake: Intake, request: SubmitRequest, identity: str) -> NewBatch:
    options = {"reuse_answers": request.reuse_answers, "files": _file_hashes(request)}
    options |= {"offline": request.target.offline, "web": request.web}
    return NewBatch(
        name=request.name or Path(intake.name).name,
        file=intake.name,
        spec=intake.spec,
        profile=request.profile,
        resources=Resources(),
        api=request.target.known_api,
        base_url=request.target.base_url,
        organization=request.target.organization or "",
        project=request.target.project or "",
        model=request.profile.model or "",
        limits=Limits(**request.limits),
        identity=identity,
        options={name: value for name, value in options.items() if value},
        retention_days=request.retention_days,
        expected=request.expected,
    )


def _file_hashes(request: SubmitRequest) -> list[str]:
    return [content_sha256(Path(path)) for path in request.profile.files]


async def _load(
    store: Store, loading: BatchToLoad, intake: Intake, request: SubmitRequest, on_progress: Say
) -> None:
    """Upload files, store every row, seal the batch. Raises LeaseLost, and as `find_or_store` does."""
    batch, options = loading.batch, loading.options
    if loading.continued:
        await _update_settings(store, batch, request)
    resources = await _prepare_resources(store, batch, intake, request, on_progress)
    existing = None
    if request.reuse_answers or options.get("reuse_answers"):
        batches = await equal_batches(store, request.target, request.profile, options.get("files", []))
        existing = await AnswerCache.gather(store, intake, resources, batches)
        on_progress(f"Answers stored here are reused for {count_of(existing.answered, 'question')}.")
    first_row = 1
    for rows in _chunked(intake.rows_iter()):
        await store.add_rows(batch, first_row, rows if existing is None else existing.with_answers(rows))
        first_row += len(rows)
    await store.seal_batch(batch)


async def _prepare_resources(
    store: Store, batch: str, intake: Intake, request: SubmitRequest, on_progress: Say
) -> Resources:
    """Upload the batch's files and return their ids at the API."""
    if not (request.profile.files or intake.images or intake.files):
        return Resources()
    if request.target.api == "chat":
        return await store_images(store, batch, {**profile_images(request.profile), **intake.images})
    # Loading the SDK takes half a second of CPU, much longer on a busy machine: in a thread, so that the
    # lease is renewed meanwhile.
    await asyncio.to_thread(import_module, "askmill.jobs.submit.resources")
    from askmill.jobs.openai_client.client import TIMEOUT_S, make_client  # noqa: PLC0415
    from askmill.jobs.submit.resources import Preparation  # noqa: PLC0415

    target = request.target
    key, organization, project = target.key, target.organization, target.project
    async with make_client(
        key, target.base_url, organization, project, TIMEOUT_S, target.proxy_environ
    ) as api_client:
        preparation = Preparation(store, batch, api_client, target.known_api, on_progress)
        resources = await preparation.prepare(request.profile, intake.images, intake.files)
    await store.set_resources(batch, resources)
    return resources


def _chunked(rows: Iterator[NewRow]) -> Iterator[list[NewRow]]:
    while chunk := list(islice(rows, ROWS_PER_CALL)):
        yield chunk


async def dispatch_first_rows(store: Store, url: str) -> None:
    """Publish the first rows. If this fails, the next worker's maintenance does it."""
    dispatched = await store.dispatch(DISPATCH_FLOOR)
    if dispatched:
        from askmill.jobs.store.broker import publish  # noqa: PLC0415 -- loads Celery

        with suppress(Unavailable):
            await asyncio.to_thread(publish, url, dispatched)
