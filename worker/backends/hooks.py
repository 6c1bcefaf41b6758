"""What a job wants to be called at its requests. One client serves all jobs, so a job sets context variables.

A connection keeps the context in which it was opened for as long as it is open, idle or not. So a variable
that named a job's method would keep the whole job, with its question and its batch, long after its end.
`hooked` lets go of it.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


async def _no_hook() -> None:
    """The hook outside a job."""


before_request: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("before_request", default=_no_hook)
"""Awaited before each request of the current task; its exception ends the request.
One call of a backend may be several requests (pages, file names, deletions), so each job counts its requests
and waits for the rate limit here.
"""
on_first_chunk: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("on_first_chunk", default=_no_hook)
"""Awaited when the first chunk of an answer has come: the server has accepted the call."""
before_send: ContextVar[Callable[[], bool] | None] = ContextVar("before_send", default=None)
"""A POST is sent only if it returns True once the request holds a connection's slot; else NotSent is raised.

A check before the wait for a slot would be old by the time of the write: the wait may take a minute.
"""


class NotSent(Exception):
    """The last check before a create failed; nothing was sent."""


@contextmanager
def hooked(variable: ContextVar[Any], hook: Callable[[], object]) -> Iterator[None]:
    """Within the block, the variable calls `hook`. Afterwards no copy of the context keeps it alive."""
    hooks = [hook]

    def call() -> object:
        return hooks[0]()

    token = variable.set(call)
    try:
        yield
    finally:
        hooks.clear()
        variable.reset(token)
