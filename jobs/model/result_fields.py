"""The fields of a row's result, as every format of the results shows them."""

from operator import attrgetter
from typing import Any, Protocol

import msgspec

FIELDS = (
    "row",
    "status",
    "answer",
    "error",
    "attempts",
    "thread_id",
    "run_id",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "duration_s",
    "citations",
    "files",
)
"""In the order of the columns."""


class HasFields(Protocol):
    """A result with the names of `Result`: a `StoredResult`, or plain data."""

    def get(self, name: str, default: Any = None, /) -> Any:
        """Return a field's value."""


class StoredUsage(msgspec.Struct, frozen=True, gc=False):
    """The tokens that an API has reported; None where it reports none."""

    prompt_tokens: Any = None
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    completion_tokens: Any = None
    reasoning_tokens: Any = None


_NO_USAGE = StoredUsage()


class StoredAttempt(msgspec.Struct, frozen=True):
    """What the results show of one `Attempt`."""

    number: Any = None
    run_id: Any = None
    status: Any = None
    model: Any = None
    tier: Any = None
    usage: StoredUsage = _NO_USAGE
    cost_usd: Any = None
    finished_at: Any = None


class StoredResult(msgspec.Struct, frozen=True):
    """What the results show of one `Result` but its steps; `attempts` is None without a result.

    Decoding it takes half of the time that plain data takes. Values keep whatever type they were stored with.
    """

    answer: Any = None
    error: Any = None
    attempts: list[StoredAttempt] | None = None
    attempts_made: Any = None
    thread_id: Any = None
    run_id: Any = None
    model: Any = None
    usage: StoredUsage = _NO_USAGE
    cost_usd: Any = None
    duration_s: Any = None
    citations: Any = ()
    files: Any = ()

    def get(self, name: str, default: Any = None, /) -> Any:
        """Return a field's value."""
        return getattr(self, name, default)

    @property
    def attempt_count(self) -> Any:
        """The number of all attempts of the row; None without a result."""
        if self.attempts_made is not None or self.attempts is None:
            return self.attempts_made
        return len(self.attempts)


NO_RESULT = StoredResult()


class Run(msgspec.Struct, frozen=True, gc=False):
    """What an attempt was charged for, as the steps file shows it; unknown values are None."""

    run_id: Any
    attempt: Any
    status: Any
    model: Any
    tier: Any
    prompt_tokens: Any
    cached_tokens: Any
    cache_write_tokens: Any
    completion_tokens: Any
    reasoning_tokens: Any
    cost_usd: Any


_values_of = attrgetter(
    "answer",
    "error",
    "attempt_count",
    "thread_id",
    "run_id",
    "model",
    "usage.prompt_tokens",
    "usage.completion_tokens",
    "cost_usd",
    "duration_s",
    "citations",
    "files",
)


def result_values(result: StoredResult) -> tuple[Any, ...]:
    """Return the values of FIELDS after `status`.

    Unknown values are None; citations and files are lists. Without a result nothing is known.
    """
    values: tuple[Any, ...] = _values_of(result)
    return values


def runs_of(result: StoredResult) -> list[Run]:
    """Return what each attempt was charged for."""
    return list(map(_run_of, result.attempts or ()))


def runs_json(result: StoredResult) -> list[dict[str, Any]]:
    """Return what `runs_of` returns, as plain data."""
    return list(map(msgspec.structs.asdict, runs_of(result)))


def _run_of(attempt: StoredAttempt) -> Run:
    usage = attempt.usage
    return Run(
        attempt.run_id,
        attempt.number,
        attempt.status,
        attempt.model,
        attempt.tier,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.completion_tokens,
        usage.reasoning_tokens,
        attempt.cost_usd,
    )
