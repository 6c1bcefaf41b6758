"""Keeps a worker alive during `run`: starts one where none is, and replaces it when it is killed."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from askmill.config.proxies import no_proxy_variables, proxy_environment
from askmill.config.settings import Settings, SettingSource, variable_of
from askmill.jobs.local import Child, worker_process
from askmill.jobs.model.api_target import Target, storage_environment
from askmill.jobs.model.errors import LocalFault
from askmill.jobs.model.profile import Functions
from askmill.jobs.store.views import StatusView

NO_WORKER_S = 30.0
"""How long no other worker may be alive before `run` starts one of its own."""
DRAIN_S = 15.0
"""How long calls of chat completions may end when `run` is interrupted, unless ASKMILL_DRAIN_S is set."""
BOOT_S = 60.0
"""Maximum time from a worker's start to its first heartbeat."""
OFFLINE_LIST_S = 1.0
"""Seconds between two lists of the emulator's batches (tier batch)."""


def batch_worker(
    settings: Settings, target: Target, functions: Functions | None, concurrency: int | None = None
) -> AbstractContextManager[Child]:
    """A worker of one batch alone, which calls its functions. It finds its Redis from the same settings."""
    arguments = ["--one-batch"] + ([] if concurrency is None else ["--concurrency", str(concurrency)])
    if functions is not None:
        arguments += ["--allow-functions", functions.module]
    variables = target.worker_environment | storage_environment(settings)
    if target.offline:
        variables |= no_proxy_variables(target.base_url, proxy_environment())
        if settings.source_of("batch_list_s") is SettingSource.DEFAULT:
            # The emulator runs a batch at once.
            variables |= {variable_of("batch_list_s"): str(OFFLINE_LIST_S)}
    drain_s = settings.drain_s if target.api in {"chat", None} else 0.0
    if settings.source_of("drain_s") is SettingSource.DEFAULT:
        # Somebody waits for the command to end.
        drain_s = min(drain_s, DRAIN_S)
        variables |= {variable_of("drain_s"): str(drain_s)}
    return worker_process(settings.data_dir, arguments, variables, drain_s)


class WorkerSupervisor:
    """Starts workers with `start`; each ends with `stack`. `log` is named in errors."""

    def __init__(
        self, start: Callable[[], AbstractContextManager[Child]], stack: ExitStack, log: Path
    ) -> None:
        self._start, self._stack, self._log = start, stack, log
        self._own: Child | None = None
        self._batch: str | None = None
        self._heartbeat_seen = False
        self._alive_s = self._started_s = time.monotonic()

    def start_worker(self) -> None:
        """Start a worker of this command's own."""
        self._own = self._stack.enter_context(self._start())
        if self._batch is not None:
            self._own.send_line(self._batch)
        self._heartbeat_seen = False
        self._alive_s = self._started_s = time.monotonic()

    def serve(self, batch: str) -> None:
        """Name the batch that this command's workers serve. A worker boots without it, and waits for it."""
        self._batch = batch
        if self._own is not None:
            self._own.send_line(batch)

    def check(self, view: StatusView) -> None:
        """Start or replace the worker if needed.

        Raises:
            LocalFault: the worker ended before its first heartbeat, or did not send one in time.
        """
        if view.workers:
            self._alive_s = time.monotonic()
        if self._own is None:
            if time.monotonic() - self._alive_s > NO_WORKER_S:
                self.start_worker()
            return
        pid = self._own.pid
        self._heartbeat_seen = self._heartbeat_seen or any(worker.pid == pid for worker in view.workers)
        try:
            self._own.check()
        except LocalFault:
            # A worker that never started up would fail again; one that was killed is replaced.
            if not self._heartbeat_seen:
                raise
            self.start_worker()
        if not self._heartbeat_seen and time.monotonic() - self._started_s > BOOT_S:
            raise LocalFault(
                f"The worker did not start within {BOOT_S:g} s; its log {self._log} may say why. Nothing is "
                "lost. Run the same command again to resume."
            )
