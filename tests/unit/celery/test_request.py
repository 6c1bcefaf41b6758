"""Celery's record of a task in flight: after the acknowledgement it drops its message and shares header names."""

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.worker import state
from kombu.message import Message

from askmill.worker.celery.request import Request

Accept = Callable[[int], tuple[Request, Message, list[Any]]]


@pytest.fixture
def app() -> Celery:
    app = Celery("requests", broker="memory://", set_as_current=False)
    app.task(name="answer", ignore_result=True)(_answer)
    return app


def _answer(batch: str, row: int) -> None:
    """The task's body, which is not run here."""


@pytest.fixture
def accept(app: Celery) -> Accept:
    """Receive and accept a row's message: the request, its message and the acknowledgements."""

    def accept(row: int) -> tuple[Request, Message, list[Any]]:
        acks: list[Any] = []
        with app.connection_for_write() as connection:
            app.send_task("answer", ("b_1", row), task_id=f"b_1:{row}:1", queue="q", connection=connection)
            message = connection.SimpleQueue("q").get(timeout=5)
        request = Request(
            message,
            on_ack=lambda *_: acks.append(message),
            app=app,
            task=app.tasks["answer"],
            hostname="here",
        )
        request.on_accepted(pid=1, time_accepted=0.0)
        state.active_requests.discard(request)
        return request, message, acks

    return accept


def test_requests_share_the_names_of_headers(accept: Accept) -> None:
    """Requests in flight have their own values, but one set of names."""
    first, second = ({name: id(name) for name in accept(row)[0].request_dict} for row in (1, 2))

    assert first == second


def test_an_accepted_request_drops_its_message(accept: Accept) -> None:
    """It is acknowledged first. What Flower and `inspect active` show is kept."""
    request, message, acks = accept(1)

    assert acks == [message]
    assert request.message is None
    assert request.body is None
    assert request.info()["args"] == ["b_1", 1]
    assert request.info()["id"] == "b_1:1:1"


def test_a_request_that_is_not_acknowledged_keeps_its_message(app: Celery, accept: Accept) -> None:
    """A task with late acknowledgement can still reject its message."""
    app.tasks["answer"].acks_late = True
    request, message, acks = accept(1)

    assert not acks
    assert request.message is message
