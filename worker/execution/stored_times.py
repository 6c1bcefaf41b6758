"""A job's moments on either side of the store: the jobs' own time here, Redis' time there. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from askmill.jobs.model.models import Attempt
from askmill.worker.lifecycle.state import JobState
from askmill.worker.runtime.redis_clock import RedisClock

MOMENTS = ("create_sent_at", "began_at", "locked_since", "cancel_requested_at", "failing_since", "gone_since")
"""The fields of Known that are points in time; tests/unit/test_clock.py holds the list complete."""
ToClock = Callable[[float], float]


def stored(known: JobState, clock: RedisClock) -> JobState:
    """As the next holder of the row is to read it."""
    return _told(known, clock.to_redis) if clock.stepped_s else known


def taken_over(known: JobState, clock: RedisClock, now_s: float) -> JobState:
    """As it was stored, told by our time."""
    return _told(known, lambda at: clock.from_redis(at, now_s)) if known != JobState() else known


def timed(attempts: Iterable[Attempt], to_clock: ToClock) -> tuple[Attempt, ...]:
    """The attempts with their times told by another clock."""
    return tuple(
        replace(
            attempt,
            started_at=None if attempt.started_at is None else to_clock(attempt.started_at),
            finished_at=None if attempt.finished_at is None else to_clock(attempt.finished_at),
        )
        for attempt in attempts
    )


def _told(known: JobState, to_clock: ToClock) -> JobState:
    moments: dict[str, Any] = {
        name: to_clock(at) for name in MOMENTS if (at := getattr(known, name)) is not None
    }
    return replace(known, past_attempts=timed(known.past_attempts, to_clock), **moments)
