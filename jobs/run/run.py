"""The whole job in one command: check, start what is missing, submit or find again, watch, collect, stop.

check the file ─▶ Redis (embedded: started) ─▶ known and finished? ─yes─▶ write the results again
                    emulator (offline)            │no
                                                  └▶ store ─▶ a worker, unless one is alive ─▶ follow ─▶ write
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from askmill.config.proxies import environment, without_proxy
from askmill.config.settings import Settings
from askmill.jobs.display.progress import Progress
from askmill.jobs.display.status_text import finished_rows
from askmill.jobs.intake import Intake
from askmill.jobs.local import (
    Child,
    EmulatorService,
    RedisService,
    ServiceLease,
    interruptible,
    worker_process,
)
from askmill.jobs.model.api_target import check_way
from askmill.jobs.model.errors import Interrupted, LocalFault
from askmill.jobs.model.models import BatchState
from askmill.jobs.results import Plan
from askmill.jobs.results.collect import collect
from askmill.jobs.run.watch import Answers, exit_code, watch
from askmill.jobs.run.worker_supervisor import WorkerSupervisor
from askmill.jobs.store import Store
from askmill.jobs.store.records import StatusView
from askmill.jobs.submit.submit import (
    ExistingBatch,
    Say,
    SubmitRequest,
    checked,
    dispatch_first_rows,
    find_existing,
    find_or_store,
    identity_of,
)

Agree = Callable[[Intake], None]
"""Asks the person before money is spent; raises UsageError when the answer is no."""


@dataclass(frozen=True)
class Outcome:
    """How it ended: `written` names the results, empty when the batch has paused."""

    view: StatusView
    written: Path | None
    known: ExistingBatch | None
    code: int


Tell = Callable[[Outcome], None]
"""Says how it ended, as soon as that is known: what was started takes a moment to stop."""


@dataclass(frozen=True)
class Job:
    """One `run`: the order, where the results go, and what its own worker is told."""

    settings: Settings
    order: SubmitRequest
    file: str
    plan_of: Callable[[Intake], Plan]
    agree: Agree
    say: Say
    tell: Tell
    concurrency: int | None = None
    show_answers: bool = False


def run(job: Job) -> Outcome:
    """Do it all; what was started is stopped however this ends.

    Raises InputFaults and UsageError before anything is stored, Unavailable, and Interrupted.
    """
    with checked(job.file, job.order, job.settings) as intake:
        return _Running(job, intake, job.plan_of(intake)).run()


class _Running:
    """The state of one `run`: what is to be stopped, and the batch once there is one."""

    def __init__(self, job: Job, intake: Intake, plan: Plan) -> None:
        self._job, self._intake, self._plan = job, intake, plan
        self._order = job.order
        self._batch: str | None = None
        self._outcome: Outcome | None = None
        self._emulator: ServiceLease | None = None

    def run(self) -> Outcome:
        """From the start of the servers to their end."""
        try:
            with interruptible(), ExitStack() as stack:
                url = self._started(stack)
                self._outcome = asyncio.run(self._work(url, stack))
                self._job.tell(self._outcome)
        except KeyboardInterrupt:
            if self._outcome is None:
                raise Interrupted(self._batch) from None
        assert self._outcome is not None
        return self._outcome

    def _started(self, stack: ExitStack) -> str:
        """Start Redis and the emulator side by side; returns Redis' address."""
        settings = self._job.settings
        redis = None if settings.redis_url else self._joined(RedisService(settings.data_dir), stack)
        if self._order.target.offline:
            self._emulator = self._joined(EmulatorService(settings.data_dir), stack)
            target = replace(self._order.target, base_url=self._emulator.address())
            self._order = replace(self._order, target=target)
        if redis is not None:
            return redis.wait_ready()
        assert settings.redis_url is not None
        return settings.redis_url.get_secret_value()

    def _joined(self, service: RedisService | EmulatorService, stack: ExitStack) -> ServiceLease:
        return stack.enter_context(ServiceLease(service))

    async def _work(self, url: str, stack: ExitStack) -> Outcome:
        async with await Store.open(url) as store:
            identity = identity_of(self._intake, self._order)
            known = await find_existing(store, identity, self._order, self._job.say)
            self._batch = None if known is None else known.batch.id
            if known is not None and known.finished:
                view = await store.status(known.batch.id)
            else:
                if self._order.target.asked is not None:
                    self._job.say(self._order.target.asked)
                fleet = await self._manned(store, known, stack)
                if self._batch is None:
                    # Another command may have come first while the person was asked.
                    self._batch, known = await find_or_store(
                        store, self._intake, self._order, identity, self._job.say
                    )
                    self._refuse_moved(known)
                view = await self._followed(store, url, fleet, self._batch)
            written = None
            if view.batch.state is not BatchState.PAUSED:
                written = (await collect(store, view.batch.id, self._plan)).path
            return Outcome(view, written, known, exit_code(view))

    async def _manned(self, store: Store, known: ExistingBatch | None, stack: ExitStack) -> WorkerSupervisor:
        """Somebody who can ask: the workers alive, else one of ours, which boots while the file is stored.

        Raises UsageError and LocalFault before anything is stored.
        """
        target = self._order.target
        self._refuse_moved(known)
        cards = await store.workers()
        alone = not any((card.api, card.base_url) == (target.api, target.base_url) for card in cards)
        if alone:
            check_way(target)
        if known is None:
            self._job.agree(self._intake)
        fleet = self._fleet(stack)
        if alone:
            fleet.reinforce()
        if (
            self._emulator is not None
            and await asyncio.to_thread(self._emulator.wait_ready) != target.base_url
        ):
            raise LocalFault("The emulator's port was taken while it started; run the same command again.")
        return fleet

    def _refuse_moved(self, known: ExistingBatch | None) -> None:
        if known is not None and known.batch.base_url != self._order.target.base_url:
            raise LocalFault(
                f"The emulator answered at {known.batch.base_url} when {known.batch.id} was submitted, and "
                "another program has that port now. End it, or start afresh with --new."
            )

    def _fleet(self, stack: ExitStack) -> WorkerSupervisor:
        target, concurrency = self._order.target, self._job.concurrency
        arguments = [] if concurrency is None else ["--concurrency", str(concurrency)]

        def start() -> AbstractContextManager[Child]:
            # What Redis it works on it finds out itself, as we did.
            told = target.environment
            if target.offline:
                told |= without_proxy(target.base_url, environment())
            return worker_process(self._job.settings.data_dir, arguments, told)

        return WorkerSupervisor(start, stack, self._job.settings.data_dir / "logs" / "worker.log")

    async def _followed(self, store: Store, url: str, fleet: WorkerSupervisor, batch: str) -> StatusView:
        """Until nothing more is to come."""
        view = await store.status(batch)
        if view.workers:
            await dispatch_first_rows(store, url)
        answers = (
            Answers(store, batch, since_start=not finished_rows(view)) if self._job.show_answers else None
        )
        with Progress(workers_start=True) as progress:
            async for now in watch(store, batch, manned=True):
                view = now
                progress.show(view, await answers.lines() if answers else ())
                fleet.watch(view)
        return view
