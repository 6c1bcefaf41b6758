"""A shard's state in the store: its times follow Redis' clock there, and the jobs' time in memory. Pure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from askmill.worker.lifecycle.shard_state import ShardState
from askmill.worker.runtime.redis_clock import RedisClock

SHARD_JSON = TypeAdapter(ShardState)
TIME_FIELDS = (
    "sent_at",
    "followed_since",
    "unsettled_since",
    "missing_since",
    "failing_since",
)
"""The fields of `ShardState` that are points in the past; `expires_at` is one to come."""


def shard_to_json(state: ShardState, clock: RedisClock) -> bytes:
    """The state as it is stored."""
    stored = _convert(state, clock.to_redis, clock.stepped_s) if clock.stepped_s else state
    return SHARD_JSON.dump_json(stored, exclude_defaults=True)


def shard_from_json(stored: bytes, clock: RedisClock, now_s: float) -> ShardState:
    """The stored state in memory."""
    state = SHARD_JSON.validate_json(stored)
    return _convert(state, lambda at: clock.from_redis(at, now_s), -clock.stepped_s)


def _convert(state: ShardState, convert: Callable[[float], float], ahead_s: float) -> ShardState:
    times: dict[str, Any] = {
        name: convert(at) for name in TIME_FIELDS if (at := getattr(state, name)) is not None
    }
    expires_at = None if state.expires_at is None else state.expires_at + ahead_s
    return replace(state, expires_at=expires_at, **times)
