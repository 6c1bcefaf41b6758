"""An assistant, file or vector store deleted at the API between batches or during one is created again, once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.requests import StackUser
from tests.stack import Stack
from tests.support import wait_until

ASSISTANTS, UPLOADS = "POST /assistants", "POST /files"


def _stack_user(folder, api: str, concurrency: int = 50) -> Iterator[StackUser]:
    with Stack(folder, api=api) as stack:
        stack.worker(concurrency)
        yield StackUser.of(stack, folder / "work")


@pytest.fixture(params=["assistants", "responses"])
def user(request, tmp_path) -> Iterator[StackUser]:
    yield from _stack_user(tmp_path, request.param)


@pytest.fixture
def slow_assistants_user(tmp_path) -> Iterator[StackUser]:
    """The Assistants API and two slots, so that a batch takes some time."""
    yield from _stack_user(tmp_path, "assistants", concurrency=2)


def _delete(user: StackUser, path: str) -> None:
    user.stack.request("DELETE", path).raise_for_status()


def _only_assistant(user: StackUser) -> str:
    (one,) = user.get("assistants")["data"]
    return str(one["id"])


def test_a_deleted_assistant_is_created_again_for_the_next_batch(slow_assistants_user: StackUser) -> None:
    """The stored id answers 404: one more assistant, no failed row, and the third batch uses it."""
    for batch, assistants_created in enumerate([1, 2, 2]):
        file = slow_assistants_user.table(
            f"{batch}.csv", ("question",), (f"What is 1 + {batch}?",), (f"What is 2 + {batch}?",)
        )
        rows = slow_assistants_user.rows(file, "--tool", "code_interpreter")

        assert [row["attempts"] for row in rows] == [1, 1]
        assert slow_assistants_user.requests(ASSISTANTS) == assistants_created
        if batch == 0:
            _delete(slow_assistants_user, f"assistants/{_only_assistant(slow_assistants_user)}")


def test_an_assistant_deleted_during_a_batch_is_created_again_once(slow_assistants_user: StackUser) -> None:
    """Rows before and after it complete, each with one run; a second deletion is noticed as well."""
    questions = [(f"What is {n} + 1? [emulate: completed after=0.3]",) for n in range(24)]
    file = slow_assistants_user.table("long.csv", ("question",), *questions)
    slow_assistants_user.cli.askmill("submit", file, "--tool", "code_interpreter")
    for runs in (4, 12):
        wait_until(
            lambda runs=runs: slow_assistants_user.stack.stats()["runs_created"] >= runs, "some runs exist"
        )
        _delete(slow_assistants_user, f"assistants/{_only_assistant(slow_assistants_user)}")

    done = slow_assistants_user.cli.askmill("collect", "--wait", "-o", "out.jsonl")

    assert done.returncode == 0, done.stderr
    assert {row["attempts"] for row in slow_assistants_user.results()} == {1}
    assert slow_assistants_user.stack.stats()["runs_created"] == len(questions)
    assert slow_assistants_user.requests(ASSISTANTS) == 3


async def test_batches_that_start_together_create_one_assistant(tmp_path: Path) -> None:
    """Six batches of one profile, queued when two workers start: no second assistant is created."""
    with Stack(tmp_path) as stack:
        batches = [await stack.submit([f"What is {n} + 1?"] * 3) for n in range(6)]
        stack.worker()
        stack.worker()
        for batch in batches:
            await stack.wait_for(batch)

        assert stack.stats()["requests"][ASSISTANTS] == 1
        assert stack.stats()["runs_created"] == 18


def test_a_stored_assistant_that_was_deleted_pauses_the_batch(slow_assistants_user: StackUser) -> None:
    """askmill does not create the user's own assistant: the batch says why it is paused, and no row has failed."""
    reply = slow_assistants_user.stack.request("POST", "assistants", json={"model": "gpt-5-mini"})
    assistant_id = str(reply.json()["id"])
    first = slow_assistants_user.table("first.csv", ("question",), ("What is 1 + 1?",))
    slow_assistants_user.rows(first, "--assistant-id", assistant_id)
    _delete(slow_assistants_user, f"assistants/{assistant_id}")

    refused = slow_assistants_user.run(
        slow_assistants_user.table("next.csv", ("question",), ("What is 1 + 2?",)),
        "--assistant-id",
        assistant_id,
    )

    assert refused.returncode == 3
    assert assistant_id in refused.stderr
    assert slow_assistants_user.requests(ASSISTANTS) == 1


def test_deleted_files_and_vector_stores_are_created_again(user: StackUser) -> None:
    """Found deleted at submit: uploaded and indexed once more; the answers cite the new file."""
    user.cli.write("one.txt", "The number on the gate is nine.")
    options = ("--tool", "file_search", "--file", "one.txt")
    question = "What number is on the gate?"
    (before,) = user.rows(user.table("a.csv", ("question",), (question,)), *options)
    (store,) = user.get("vector_stores")["data"]

    _delete(user, f"vector_stores/{store['id']}")
    (again,) = user.rows(user.table("b.csv", ("question",), (question + " ",)), *options)
    assert user.requests(UPLOADS) == 1, "the file still existed"
    assert again["citations"] == before["citations"]

    _delete(user, f"files/{before['citations'][0]['file_id']}")
    (after,) = user.rows(user.table("c.csv", ("question",), (question + "  ",)), *options)
    assert user.requests(UPLOADS) == 2
    assert "nine" in after["answer"]
    assert after["citations"][0]["file_id"] != before["citations"][0]["file_id"]


@pytest.fixture(params=["assistants", "responses"])
def slow_user(request, tmp_path) -> Iterator[StackUser]:
    """Two slots, on either API."""
    yield from _stack_user(tmp_path, request.param, concurrency=2)


def test_a_vector_store_deleted_during_a_batch_is_created_again_once(slow_user: StackUser) -> None:
    """From the same files, without an upload: later rows cite them as earlier rows do, each with one run."""
    slow_user.cli.write("one.txt", "The number on the gate is nine.")
    durations_s = [0.1, 0.1, 4.0, 4.0] + [0.1] * 10
    questions = [
        (f"What number is on the gate, asks {n}? [emulate: completed after={run_s}]",)
        for n, run_s in enumerate(durations_s)
    ]
    file = slow_user.table("long.csv", ("question",), *questions)
    slow_user.cli.askmill("submit", file, "--tool", "file_search", "--file", "one.txt")
    wait_until(lambda: slow_user.stack.stats()["runs_created"] >= 4, "the two long runs hold both slots")
    if slow_user.stack.api == "assistants":
        _delete(slow_user, f"assistants/{_only_assistant(slow_user)}")
    (store,) = slow_user.get("vector_stores")["data"]
    _delete(slow_user, f"vector_stores/{store['id']}")

    done = slow_user.cli.askmill("collect", "--wait", "-o", "out.jsonl")

    assert done.returncode == 0, done.stderr
    rows = slow_user.results()
    assert {row["attempts"] for row in rows} == {1}
    assert [row["citations"][0]["filename"] for row in rows[-4:]] == ["one.txt"] * 4
    assert (slow_user.requests("POST /vector_stores"), slow_user.requests(UPLOADS)) == (2, 1)
    again = slow_user.table("next.csv", ("question",), ("What number is on the gate?",))
    slow_user.rows(again, "--tool", "file_search", "--file", "one.txt")
    assert slow_user.requests("POST /vector_stores") == 2, "the next batch uses the new one"


def test_a_vector_store_that_cannot_be_created_again_pauses_the_batch(slow_user: StackUser) -> None:
    """Its file was deleted too: the batch says why it is paused, and no row has failed."""
    slow_user.cli.write("one.txt", "The number on the gate is nine.")
    questions = [
        (f"What number is on the gate, asks {n}? [emulate: completed after=0.3]",) for n in range(16)
    ]
    file = slow_user.table("long.csv", ("question",), *questions)
    slow_user.cli.askmill("submit", file, "--tool", "file_search", "--file", "one.txt")
    wait_until(lambda: slow_user.stack.stats()["runs_created"] >= 2, "some runs exist")
    for kind in ("files", "vector_stores", *(["assistants"] if slow_user.stack.api == "assistants" else [])):
        _delete(slow_user, f"{kind}/{slow_user.get(kind)['data'][0]['id']}")

    done = slow_user.cli.askmill("collect", "--wait", "-o", "out.jsonl")

    assert done.returncode == 3
    assert "not made again" in slow_user.cli.askmill("status").stdout
    assert "failed" not in {row["status"] for row in slow_user.results()}
