"""What `purge` deletes at the API, what it leaves because others use it, and what several submits share."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.store import Store
from askmill.jobs.store.records import NewRow
from askmill.jobs.submit.resources import Preparation
from tests.helpers.batches import new_batch
from tests.helpers.requests import HEADERS, StackUser
from tests.stack import QUICK, Stack
from tests.support import wait_until

SEARCHING = ("--tool", "file_search", "--file", "notes.txt")
NOTES = "In Bergen it rains on 230 days of the year."


@pytest.fixture(params=["assistants", "responses"])
def asker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StackUser]:
    with Stack(tmp_path, api=request.param) as stack:
        stack.worker(times=QUICK)
        yield StackUser.of(stack, tmp_path / "work")


def _there(asker: StackUser, path: str) -> bool:
    found = httpx2.get(f"{asker.stack.base_url}/{path}", headers=HEADERS)
    assert found.status_code in {200, 404}
    return found.status_code == 200


def test_purge_leaves_nothing_that_only_this_batch_made(asker: StackUser) -> None:
    """Assistant, vector store, uploads, generated files, and every response of a chain of function calls."""
    asker.user.write("notes.txt", NOTES)
    asker.user.write("skies.py", "def weather(town: str) -> str:", '    """The sky."""', "    return 'grey'")
    asked = [
        ('Rain? [emulate: requires_action(weather, {"town": "Bergen"})]',),
        ("What is 6 * 7? [emulate: completed(file)]",),
    ]
    tools = (*SEARCHING, "--tool", "code_interpreter", "--functions", "skies.py")
    with_functions = StackUser(asker.stack, asker.user.with_settings(PYTHONPATH=str(asker.user.folder)))
    rows = with_functions.rows(asker.table("in.csv", ("question",), *asked), *tools)
    runs = {step["run_id"] for row in rows for step in row["steps"]}
    made = [f"files/{file['file_id']}" for row in rows for file in row["files"] if "container_id" not in file]
    if asker.stack.api == "responses":
        made += [f"responses/{run}" for run in runs]
        assert len(runs) == 3, "the calls and their outputs are two responses"
    else:
        assert len(made) == 1
        made += [f"assistants/{one['id']}" for one in asker.get("assistants")["data"]]
    made += [f"{kind}/{one['id']}" for kind in ("files", "vector_stores") for one in asker.get(kind)["data"]]
    assert all(_there(asker, path) for path in made)
    batch = asker.user.askmill("list").stdout.split()[0]

    purged = asker.user.askmill("purge", batch)

    assert purged.returncode == 0, purged.stderr
    assert [path for path in made if _there(asker, path)] == []


async def test_a_batch_on_its_way_in_keeps_what_it_was_told(asker: StackUser) -> None:
    """A submit that has found an upload of an older batch may load for minutes: `purge` leaves it that file."""
    asker.user.write("notes.txt", NOTES)
    await asyncio.to_thread(asker.rows, asker.table("a.csv", ("question",), ("Does it rain?",)), *SEARCHING)
    older = asker.user.askmill("list").stdout.split()[0]
    profile = Profile(tools=("file_search",), files=(str(asker.user.folder / "notes.txt"),))
    async with (
        await Store.open(asker.stack.redis_url) as store,
        make_client("offline", asker.stack.base_url) as api,
    ):
        loading = await store.create_batch(new_batch(base_url=asker.stack.base_url, api=asker.stack.api))
        prepared = Preparation(store, loading, api, asker.stack.api, lambda _: None)
        resources = await prepared.prepare(profile, {}, {})

        purged = await asyncio.to_thread(asker.user.askmill, "purge", older)

        assert purged.returncode == 0, purged.stderr
        (file,) = resources.vector_store_files
        assert _there(asker, f"files/{file}")
        assert _there(asker, f"vector_stores/{resources.vector_store_id}")
        await store.add_rows(loading, 1, [NewRow(["Does it rain?"], "a bad row")])
        await store.seal_batch(loading)
        await asyncio.to_thread(asker.user.askmill, "purge", loading)
    assert not _there(asker, f"files/{file}")
    assert not _there(asker, f"vector_stores/{resources.vector_store_id}")


async def test_submits_at_the_same_moment_upload_a_file_once(asker: StackUser) -> None:
    """Five of them with the same three new files: three uploads, one vector store, the same ids for all."""
    files = tuple(str(asker.user.folder / asker.user.write(f"{n}.txt", f"Number {n}.")) for n in range(3))
    profile = Profile(tools=("file_search",), files=files)
    async with (
        await Store.open(asker.stack.redis_url) as store,
        make_client("offline", asker.stack.base_url) as api,
    ):
        batches = [await store.create_batch(new_batch(base_url=asker.stack.base_url)) for _ in range(5)]
        found = await asyncio.gather(
            *(
                Preparation(store, batch, api, asker.stack.api, lambda _: None).prepare(profile, {}, {})
                for batch in batches
            )
        )
        assert len({one.model_dump_json() for one in found}) == 1
        for batch in batches:
            assert len(await store.list_resources(batch)) == 4
    assert (asker.requests("POST /files"), asker.requests("POST /vector_stores")) == (3, 1)


def test_a_submit_that_fails_while_it_uploads_leaves_no_batch(asker: StackUser) -> None:
    """Nothing keeps its name, and what it had uploaded is found by the next submit."""
    asker.user.write("notes.txt", NOTES)
    file = asker.table("in.csv", ("question",), ("Does it rain?",))
    asker.stack.scenario("[http]\nrate_500 = 1.0")
    refused = asker.user.askmill("submit", file, *SEARCHING)
    assert refused.returncode == 3, refused.stderr
    asker.stack.scenario("")
    assert asker.user.askmill("list", "--json").stdout == ""
    assert len(asker.rows(file, *SEARCHING)) == 1


def test_nothing_is_deleted_under_a_run(asker: StackUser) -> None:
    """Going or paused, `purge` says to cancel; then it waits until workers have cancelled every run at the API."""
    asked = [(f"What is {n} + 1? [emulate: completed after=60]",) for n in range(4)]
    asker.user.askmill("submit", asker.table("in.csv", ("question",), *asked))
    batch = asker.user.askmill("list").stdout.split()[0]
    wait_until(lambda: asker.stack.stats()["runs_active"] == 4, "all rows run")
    for state in ("running", "paused"):
        refused = asker.user.askmill("purge", batch)
        assert refused.returncode == 2
        assert f"{batch} is {state}" in refused.stderr
        assert f"askmill cancel {batch}" in refused.stderr
        asker.user.askmill("pause", batch)
    asker.user.askmill("cancel", batch)

    purged = asker.user.askmill("purge", batch)

    assert purged.returncode == 0, purged.stderr
    assert asker.stack.stats()["runs_active"] == 0
    threads = "threads" if asker.stack.api == "assistants" else "conversations"
    assert asker.requests(f"DELETE /{threads}/{{{threads[:-1]}_id}}") == 4
