"""What a worker keeps of Celery's messages: names once for all, and no message that is acknowledged."""

from typing import Any

import pytest
from celery import Celery
from celery.worker import state

from askmill.worker.celery.request import Message, Request


@pytest.fixture
def app() -> Celery:
    made = Celery("messages", broker="memory://", set_as_current=False)
    made.task(name="answer", ignore_result=True)(_answer)
    return made


def _answer(batch: str, row: int) -> None:
    """The body of a task that nobody runs here."""


@pytest.fixture
def received(app: Celery) -> list[Message]:
    """Two messages of one queue, as a worker's channel makes them."""
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        channel.Message = Message
        taken = []
        for row in (1, 2):
            app.send_task("answer", ("b_1", row), task_id=f"b_1:{row}:1", queue="q", connection=connection)
            taken.append(connection.SimpleQueue("q").get(timeout=5))
        return taken


def _request(app: Celery, message: Message, acks: list[Any]) -> Request:
    return Request(
        message, on_ack=lambda *_: acks.append(message), app=app, task=app.tasks["answer"], hostname="here"
    )


def test_names_are_shared_between_messages(received: list[Message]) -> None:
    """The headers of thousands of messages have their values, but only one set of names."""
    first, second = ({name: id(name) for name in message.headers} for message in received)

    assert first == second


def test_an_accepted_request_lets_go_of_its_message(app: Celery, received: list[Message]) -> None:
    """Acknowledged, then forgotten; what Flower and `inspect active` show stays."""
    acks: list[Any] = []
    request = _request(app, received[0], acks)

    request.on_accepted(pid=1, time_accepted=0.0)

    assert acks == [received[0]]
    assert request.message is None
    assert request.body is None
    assert request.info()["args"] == ["b_1", 1]
    assert request.info()["id"] == "b_1:1:1"
    state.active_requests.discard(request)


def test_a_request_that_is_not_acknowledged_keeps_it(app: Celery, received: list[Message]) -> None:
    """A task that acknowledges late can still give its message back."""
    app.tasks["answer"].acks_late = True
    acks: list[Any] = []
    request = _request(app, received[0], acks)

    request.on_accepted(pid=1, time_accepted=0.0)

    assert not acks
    assert request.message is received[0]
    state.active_requests.discard(request)
