"""The `run` use case: check the file, start what is missing, submit or resume, watch, collect, stop.

check the file ─▶ Redis (embedded: start) ─▶ already finished? ─yes─▶ write the results again
                  emulator (offline)           │no
                                               └▶ store ─▶ a worker, unless one is alive ─▶ watch ─▶ write
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from askmill.config.settings import Settings
from askmill.config.text import count_of
from askmill.jobs.display.progress import Display, Progress
from askmill.jobs.display.status_text import finished_rows
from askmill.jobs.intake import Intake
from askmill.jobs.local import (
    Child,
    EmulatorService,
    RedisService,
    ServiceLease,
    died_here,
    interruptible,
)
from askmill.jobs.model.api_target import check_connection_settings
from askmill.jobs.model.errors import Interrupted, LocalFault, RedisUnavailable
from askmill.jobs.model.models import BatchState
from askmill.jobs.results import Plan
from askmill.jobs.results.collect import collect, with_stored_expectation
from askmill.jobs.run.watch import NewAnswers, exit_code, watch
from askmill.jobs.run.worker_supervisor import WorkerSupervisor, batch_worker
from askmill.jobs.store import Store
from askmill.jobs.store.views import StatusView, WorkerInfo
from askmill.jobs.submit.check import checked
from askmill.jobs.submit.find_api import check_local_server, with_api
from askmill.jobs.submit.request import Say, SubmitRequest, identity_of
from askmill.jobs.submit.submit import (
    ExistingBatch,
    check_durability,
    describe_new_batch,
    dispatch_first_rows,
    find_existing,
    find_or_store,
)


@dataclass(frozen=True)
class RunOutcome:
    """The end of one `run`.

    `written` is the result file; None for stdout and for a paused batch. `existing` is the batch that the
    command resumed or found finished; None for a new batch. `code` is the exit code.
    """

    view: StatusView
    written: Path | None
    existing: ExistingBatch | None
    code: int


@dataclass(frozen=True)
class RunSpec:
    """What one `run` does.

    `plan_of` plans the result file before anything is asked. `confirm` asks the user before money is spent,
    and raises UsageError if the answer is no. `on_outcome` is called as soon as the outcome is known, because
    stopping the local services takes a moment. `progress` makes the display; None is the panel on stderr.
    `deliver` is called at the end of a batch that did not pause: it reads or writes the results and returns
    their file, if there is one; None writes the planned file.
    """

    settings: Settings
    submit: SubmitRequest
    file: str
    plan_of: Callable[[Intake], Plan | None]
    confirm: Callable[[Intake], None]
    say: Say
    on_outcome: Callable[[RunOutcome], None]
    concurrency: int | None = None
    show_answers: bool = False
    progress: Callable[[], Display] | None = None
    deliver: Callable[[Store, str], Awaitable[Path | None]] | None = None


def run(spec: RunSpec) -> RunOutcome:
    """Run a batch from start to end. What was started here is stopped, however the run ends.

    Raises:
        InputFaults: the file has faults; nothing was stored.
        UsageError: an option or a setting is wrong; nothing was stored.
        Unavailable: Redis, the API or a local service cannot be reached.
        Interrupted: Ctrl-C or SIGTERM.
    """
    with checked(spec.file, spec.submit, spec.settings) as intake:
        return Run(spec, intake, spec.plan_of(intake)).run()


class Run:
    """The state of one `run`: its services, and `batch`, its id, as soon as there is one."""

    def __init__(self, spec: RunSpec, intake: Intake, plan: Plan | None = None) -> None:
        self._spec, self._intake, self._plan = spec, intake, plan
        self._request = spec.submit
        self.batch: str | None = None
        self._outcome: RunOutcome | None = None
        self._emulator: ServiceLease | None = None

    def run(self) -> RunOutcome:
        """Start the services, do the work, stop the services."""
        try:
            with interruptible(), self._naming_the_batch(), ExitStack() as stack:
                url = self._start_services(stack)
                self._outcome = asyncio.run(self._work(url, stack))
                self._spec.on_outcome(self._outcome)
        except KeyboardInterrupt:
            if self._outcome is None:
                raise Interrupted(self.batch) from None
        assert self._outcome is not None
        return self._outcome

    async def run_in_loop(self) -> RunOutcome:
        """The same on a running event loop that may be blocked, and without signal handlers.

        Cancelling it stops what was started.
        """
        with self._naming_the_batch(), ExitStack() as stack:
            outcome = await self._work(self._start_services(stack), stack)
            self._spec.on_outcome(outcome)
            return outcome

    @contextmanager
    def _naming_the_batch(self) -> Iterator[None]:
        """Where Redis goes away, the error says what is left and how to resume."""
        try:
            yield
        except RedisUnavailable as error:
            if self.batch is None:
                raise
            left = f"{self.batch} is stored: run the same command again to resume"
            raise RedisUnavailable(f"{error}. {left}") from None

    def _start_services(self, stack: ExitStack) -> str:
        """Start Redis and the emulator side by side, where they are needed; returns Redis' address."""
        settings = self._spec.settings
        redis = None
        if settings.redis_url is None:
            redis = stack.enter_context(ServiceLease(RedisService(settings.data_dir)))
        if self._request.target.offline:
            self._emulator = stack.enter_context(ServiceLease(EmulatorService(settings.data_dir)))
            target = replace(self._request.target, base_url=self._emulator.address())
            self._request = replace(self._request, target=target)
        if redis is not None:
            return redis.wait_ready()
        assert settings.redis_url is not None
        return settings.redis_url.get_secret_value()

    async def _work(self, url: str, stack: ExitStack) -> RunOutcome:
        durability = self._spec.settings.durability_in_use
        async with await Store.open(url, durability=durability) as store:
            with_known_api = with_api(store, self._intake, self._request, self._spec.say)
            self._request, was_asked = await with_known_api
            identity = identity_of(self._intake, self._request)
            existing = await find_existing(store, identity, self._request, self._spec.say)
            self.batch = None if existing is None else existing.batch.id
            if existing is not None and existing.finished:
                view = await store.status(existing.batch.id)
            else:
                if self._request.target.source_line is not None and not was_asked:
                    self._spec.say(self._request.target.source_line)
                if existing is None:
                    await check_local_server(self._request.target)
                await check_durability(store, self._spec.say)
                if existing is None:
                    await describe_new_batch(store, self._intake, self._request, self._spec.say)
                else:
                    self._spec.say(_resumed(existing))
                supervisor = await self._ensure_worker(store, existing, stack)
                if self.batch is None:
                    # Another command may have stored the batch while the user was asked.
                    self.batch, existing = await find_or_store(
                        store, self._intake, self._request, identity, self._spec.say
                    )
                    self._check_address(existing)
                supervisor.serve(self.batch)
                view = await self._watch(store, url, supervisor, self.batch)
            written = None
            if view.batch.state is not BatchState.PAUSED:
                written, view = await self._deliver(store, view)
            return RunOutcome(view, written, existing, exit_code(view))

    async def _deliver(self, store: Store, view: StatusView) -> tuple[Path | None, StatusView]:
        """Write the results; return the file's path, and the view with the accuracy of what was written."""
        if self._spec.deliver is not None:
            return await self._spec.deliver(store, view.batch.id), view
        if self._plan is None:
            return None, view
        plan = with_stored_expectation(self._plan, view.batch)
        written = (await collect(store, view.batch.id, plan)).path
        judge = plan.columns.additions.judge
        return written, replace(view, accuracy=None if judge is None else judge.accuracy)

    async def _ensure_worker(
        self, store: Store, existing: ExistingBatch | None, stack: ExitStack
    ) -> WorkerSupervisor:
        """Start a worker if none is alive for this API; it boots while the file is stored.

        Raises UsageError and LocalFault before anything is stored.
        """
        target = self._request.target
        self._check_address(existing)
        workers = [worker for worker in await store.workers() if not died_here(worker)]
        needs_worker = not any(
            worker.serves(existing.batch) if existing is not None else self._will_serve(worker)
            for worker in workers
        )
        if needs_worker:
            check_connection_settings(target)
        if existing is None:
            self._spec.confirm(self._intake)
        supervisor = WorkerSupervisor(
            self._start_worker, stack, self._spec.settings.data_dir / "logs" / "worker.log"
        )
        if needs_worker:
            supervisor.start_worker()
        if (
            self._emulator is not None
            and await asyncio.to_thread(self._emulator.wait_ready) != target.base_url
        ):
            raise LocalFault(
                "Another program took the emulator's port while it started. Run the same command again."
            )
        return supervisor

    def _will_serve(self, worker: WorkerInfo) -> bool:
        """Whether the worker will serve the batch, which has no id yet."""
        same_server = worker.server.serves(self._request.target.server)
        return same_server and not worker.batch and worker.allows(self._request.profile.functions)

    def _check_address(self, existing: ExistingBatch | None) -> None:
        """A batch keeps its address; the emulator may have had to take another port since."""
        if existing is not None and existing.batch.base_url != self._request.target.base_url:
            raise LocalFault(
                f"{existing.batch.id} was submitted with the emulator at {existing.batch.base_url}, and "
                "another program uses that port now. Stop that program, or create a new batch with --new."
            )

    def _start_worker(self) -> AbstractContextManager[Child]:
        request = self._request
        return batch_worker(
            self._spec.settings, request.target, request.profile.functions, self._spec.concurrency
        )

    def _progress(self) -> Display:
        return Progress(worker_starting=True) if self._spec.progress is None else self._spec.progress()

    async def _watch(self, store: Store, url: str, supervisor: WorkerSupervisor, batch: str) -> StatusView:
        """Show progress and keep a worker alive until the batch is over."""
        view = await store.status(batch)
        if view.workers:
            await dispatch_first_rows(store, url)
        answers = None
        if self._spec.show_answers:
            answers = NewAnswers(store, batch, since_start=not finished_rows(view))
        with self._progress() as progress:
            async for current in watch(store, batch, worker_expected=True):
                # After a kill -9 a worker counts as alive for 12 s; its process is gone at once.
                alive = tuple(worker for worker in current.workers if not died_here(worker))
                view = replace(current, workers=alive)
                progress.show(view, await answers.lines() if answers else ())
                supervisor.check(view)
        return view


def _resumed(existing: ExistingBatch) -> str:
    """What is said of a batch found unfinished, before it goes on."""
    rows, unfinished = existing.batch.rows, existing.counts.unfinished
    ended = f"{rows - unfinished:,} of {count_of(rows, 'row')} {'has' if rows == 1 else 'have'} ended"
    return f"Resuming {existing.batch.id}: {ended}."
