"""What somebody deletes at the API between two batches, or under one, is noticed and made again, once."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.helpers.requests import HEADERS, StackUser
from tests.stack import Stack
from tests.support import wait_until

ASSISTANTS, UPLOADS = "POST /assistants", "POST /files"


def _asker(folder, api: str, concurrency: int = 50) -> Iterator[StackUser]:
    with Stack(folder, api=api) as stack:
        stack.worker(concurrency)
        yield StackUser.of(stack, folder / "work")


@pytest.fixture(params=["assistants", "responses"])
def asker(request, tmp_path) -> Iterator[StackUser]:
    yield from _asker(tmp_path, request.param)


@pytest.fixture
def narrow(tmp_path) -> Iterator[StackUser]:
    """Assistants, two rows at a time: a batch that lasts."""
    yield from _asker(tmp_path, "assistants", concurrency=2)


def _delete(asker: StackUser, path: str) -> None:
    httpx2.delete(f"{asker.stack.base_url}/{path}", headers=HEADERS).raise_for_status()


def _only_assistant(asker: StackUser) -> str:
    (one,) = asker.get("assistants")["data"]
    return str(one["id"])


def test_a_deleted_assistant_is_made_again_for_the_next_batch(narrow: StackUser) -> None:
    """The remembered id answers 404: one more assistant, no failed row, and the third batch takes it."""
    for turn, made in enumerate([1, 2, 2]):
        file = narrow.table(
            f"{turn}.csv", ("question",), (f"What is 1 + {turn}?",), (f"What is 2 + {turn}?",)
        )
        rows = narrow.rows(file, "--tool", "code_interpreter")

        assert [row["attempts"] for row in rows] == [1, 1]
        assert narrow.requests(ASSISTANTS) == made
        if turn == 0:
            _delete(narrow, f"assistants/{_only_assistant(narrow)}")


def test_an_assistant_deleted_under_a_running_batch_is_made_again_once(narrow: StackUser) -> None:
    """Rows before and after it complete, each with one run; a second deletion is noticed as well."""
    asked = [(f"What is {n} + 1? [emulate: completed after=0.3]",) for n in range(24)]
    file = narrow.table("long.csv", ("question",), *asked)
    narrow.user.askmill("submit", file, "--tool", "code_interpreter")
    for made in (4, 12):
        wait_until(
            lambda made=made: narrow.stack.stats()["runs_created"] >= made, "some rows have been asked"
        )
        _delete(narrow, f"assistants/{_only_assistant(narrow)}")

    done = narrow.user.askmill("collect", "--wait", "-o", "out.jsonl")

    assert done.returncode == 0, done.stderr
    assert {row["attempts"] for row in narrow.written()} == {1}
    assert narrow.stack.stats()["runs_created"] == len(asked)
    assert narrow.requests(ASSISTANTS) == 3


async def test_batches_that_begin_together_make_one_assistant(tmp_path: Path) -> None:
    """Six batches of one profile, waiting when two workers start: the profile never makes a second assistant."""
    with Stack(tmp_path) as stack:
        batches = [await stack.submit([f"What is {n} + 1?"] * 3) for n in range(6)]
        stack.worker()
        stack.worker()
        for batch in batches:
            await stack.wait_for(batch)

        assert stack.stats()["requests"][ASSISTANTS] == 1
        assert stack.stats()["runs_created"] == 18


def test_a_stored_assistant_that_was_deleted_pauses_the_batch(narrow: StackUser) -> None:
    """It is not ours to make: the reason is told, and nothing is marked failed."""
    made = httpx2.post(f"{narrow.stack.base_url}/assistants", headers=HEADERS, json={"model": "gpt-5-mini"})
    stored = str(made.json()["id"])
    first = narrow.table("first.csv", ("question",), ("What is 1 + 1?",))
    narrow.rows(first, "--assistant-id", stored)
    _delete(narrow, f"assistants/{stored}")

    refused = narrow.run(
        narrow.table("next.csv", ("question",), ("What is 1 + 2?",)), "--assistant-id", stored
    )

    assert refused.returncode == 3
    assert stored in refused.stderr
    assert narrow.requests(ASSISTANTS) == 1


def test_deleted_files_and_vector_stores_are_made_again(asker: StackUser) -> None:
    """Found gone at submit: uploaded and indexed once more; the answers cite the new file."""
    asker.user.write("one.txt", "The number on the gate is nine.")
    options = ("--tool", "file_search", "--file", "one.txt")
    question = "What number is on the gate?"
    (before,) = asker.rows(asker.table("a.csv", ("question",), (question,)), *options)
    (store,) = asker.get("vector_stores")["data"]

    _delete(asker, f"vector_stores/{store['id']}")
    (again,) = asker.rows(asker.table("b.csv", ("question",), (question + " ",)), *options)
    assert asker.requests(UPLOADS) == 1, "the file was there still"
    assert again["citations"] == before["citations"]

    _delete(asker, f"files/{before['citations'][0]['file_id']}")
    (after,) = asker.rows(asker.table("c.csv", ("question",), (question + "  ",)), *options)
    assert asker.requests(UPLOADS) == 2
    assert "nine" in after["answer"]
    assert after["citations"][0]["file_id"] != before["citations"][0]["file_id"]


@pytest.fixture(params=["assistants", "responses"])
def lasting(request, tmp_path) -> Iterator[StackUser]:
    """Two rows at a time, on either API."""
    yield from _asker(tmp_path, request.param, concurrency=2)


def test_a_vector_store_deleted_under_a_running_batch_is_made_again_once(lasting: StackUser) -> None:
    """Of the same files, without an upload: rows after it cite them as those before it, each with one run."""
    lasting.user.write("one.txt", "The number on the gate is nine.")
    lasting_s = [0.1, 0.1, 4.0, 4.0] + [0.1] * 10
    asked = [
        (f"What number is on the gate, asks {n}? [emulate: completed after={run_s}]",)
        for n, run_s in enumerate(lasting_s)
    ]
    file = lasting.table("long.csv", ("question",), *asked)
    lasting.user.askmill("submit", file, "--tool", "file_search", "--file", "one.txt")
    wait_until(lambda: lasting.stack.stats()["runs_created"] >= 4, "the two long runs hold both slots")
    if lasting.stack.api == "assistants":
        _delete(lasting, f"assistants/{_only_assistant(lasting)}")
    (store,) = lasting.get("vector_stores")["data"]
    _delete(lasting, f"vector_stores/{store['id']}")

    done = lasting.user.askmill("collect", "--wait", "-o", "out.jsonl")

    assert done.returncode == 0, done.stderr
    rows = lasting.written()
    assert {row["attempts"] for row in rows} == {1}
    assert [row["citations"][0]["filename"] for row in rows[-4:]] == ["one.txt"] * 4
    assert (lasting.requests("POST /vector_stores"), lasting.requests(UPLOADS)) == (2, 1)
    again = lasting.table("next.csv", ("question",), ("What number is on the gate?",))
    lasting.rows(again, "--tool", "file_search", "--file", "one.txt")
    assert lasting.requests("POST /vector_stores") == 2, "the next batch takes the new one"


def test_a_vector_store_that_cannot_be_made_again_pauses_the_batch(lasting: StackUser) -> None:
    """Its file was deleted too: the reason is told, and no row is marked failed."""
    lasting.user.write("one.txt", "The number on the gate is nine.")
    asked = [(f"What number is on the gate, asks {n}? [emulate: completed after=0.3]",) for n in range(16)]
    file = lasting.table("long.csv", ("question",), *asked)
    lasting.user.askmill("submit", file, "--tool", "file_search", "--file", "one.txt")
    wait_until(lambda: lasting.stack.stats()["runs_created"] >= 2, "some rows have been asked")
    for kind in ("files", "vector_stores", *(["assistants"] if lasting.stack.api == "assistants" else [])):
        _delete(lasting, f"{kind}/{lasting.get(kind)['data'][0]['id']}")

    done = lasting.user.askmill("collect", "--wait", "-o", "out.jsonl")

    assert done.returncode == 3
    assert "not made again" in lasting.user.askmill("status").stdout
    assert "failed" not in {row["status"] for row in lasting.written()}
