"""What the worker wants done before each request to the API: it counts them, and may have to wait for a turn.

One call of a backend may be several requests: the pages of a list, a name for each file, a deletion for each
message. Only `Wire` knows each of them; only the worker knows for which job it is, hence a context variable.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Turn = Callable[[], Awaitable[None]]

_turn: ContextVar[Turn | None] = ContextVar("turn", default=None)


@contextmanager
def turns(turn: Turn) -> Iterator[None]:
    """Within, `turn` is awaited before each request that this task makes; what it raises ends the call."""
    token = _turn.set(turn)
    try:
        yield
    finally:
        _turn.reset(token)


async def next_turn() -> None:
    """Before a request."""
    turn = _turn.get()
    if turn is not None:
        await turn()
