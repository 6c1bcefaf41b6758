"""What a worker keeps of a Celery message while its task runs: as little as can be, for thousands of them.

    received   Message   names of headers are shared between messages; kombu's JSON makes each anew
    accepted   Request   acknowledged (early): the message itself, and what would answer it, is let go of

A run takes seconds to minutes, and Celery would keep the message all that time: half of what it takes a run.
"""

from sys import intern
from typing import Any

from celery.worker.request import Request as CelerysRequest
from kombu.transport.virtual import Message as KombusMessage

__all__ = ("Message", "Request")


def _sharing(told: Any) -> Any:
    """The same, each name in it shared by all who use that name."""
    if not isinstance(told, dict):
        return told
    return {intern(name): _sharing(value) for name, value in told.items()}


class Message(KombusMessage):
    """A message whose names take no memory of their own."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **options: Any) -> None:
        super().__init__(_sharing(payload), channel=channel, **options)  # type: ignore[no-untyped-call]
        self._raw = payload  # by which the transport finds the message again


def _nothing(*_: object) -> None:
    """Answers a message that is answered already."""


class Request(CelerysRequest):  # type: ignore[misc]  # celery publishes no types
    """Celery's record of a task, without its message once that is acknowledged; `Task.Request` names it."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        if self.acknowledged:
            self._message = self._body = None
            self._on_ack = self._on_reject = _nothing
