"""What a job does before each of its requests: a context variable, because one client serves all jobs."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


async def _no_hook() -> None:
    """The hook outside a job."""


before_request: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("before_request", default=_no_hook)
"""Awaited before each request of the current task; its exception ends the request."""


@contextmanager
def before_each_request(hook: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Within the block, await the hook before each request of this task.

    One call of a backend may be several requests (pages, file names, deletions), so each job counts its
    requests and waits for the rate limit here.

    A connection keeps the context in which it was opened for as long as it is open, idle or not. A variable
    with the hook itself would keep the whole job, with its question and its batch, long after its end.
    """
    hooks = [hook]

    async def call() -> None:
        await hooks[0]()

    token = before_request.set(call)
    try:
        yield
    finally:
        hooks.clear()
        before_request.reset(token)
