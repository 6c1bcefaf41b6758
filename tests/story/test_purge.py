"""What `purge` deletes at the API, what it keeps because other batches use it, and what several submits share."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.store import Store
from askmill.jobs.store.records import NewRow
from askmill.jobs.submit.resources import Preparation
from tests.helpers.batches import new_batch
from tests.helpers.requests import StackUser
from tests.stack import QUICK, Stack
from tests.support import wait_until

FILE_SEARCH = ("--tool", "file_search", "--file", "notes.txt")
NOTES = "In Bergen it rains on 230 days of the year."


@pytest.fixture(params=["assistants", "responses"])
def user(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StackUser]:
    with Stack(tmp_path, api=request.param) as stack:
        stack.worker(times=QUICK)
        yield StackUser.of(stack, tmp_path / "work")


def _exists(user: StackUser, path: str) -> bool:
    reply = user.stack.request("GET", path)
    assert reply.status_code in {200, 404}
    return reply.status_code == 200


def test_purge_deletes_all_resources_that_only_this_batch_uses(user: StackUser) -> None:
    """Assistant, vector store, uploads, generated files, and each response of a chain of function calls."""
    user.cli.write("notes.txt", NOTES)
    user.cli.write("skies.py", "def weather(town: str) -> str:", '    """The sky."""', "    return 'grey'")
    questions = [
        ('Rain? [emulate: requires_action(weather, {"town": "Bergen"})]',),
        ("What is 6 * 7? [emulate: completed(file)]",),
    ]
    tools = (*FILE_SEARCH, "--tool", "code_interpreter", "--functions", "skies.py")
    with_functions = StackUser(user.stack, user.cli.with_settings(PYTHONPATH=str(user.cli.folder)))
    rows = with_functions.rows(user.table("in.csv", ("question",), *questions), *tools)
    runs = {step["run_id"] for row in rows for step in row["steps"]}
    resources = [
        f"files/{file['file_id']}" for row in rows for file in row["files"] if "container_id" not in file
    ]
    if user.stack.api == "responses":
        resources += [f"responses/{run}" for run in runs]
        assert len(runs) == 3, "the calls and their outputs are two responses"
    else:
        assert len(resources) == 1
        resources += [f"assistants/{one['id']}" for one in user.get("assistants")["data"]]
    resources += [
        f"{kind}/{one['id']}" for kind in ("files", "vector_stores") for one in user.get(kind)["data"]
    ]
    assert all(_exists(user, path) for path in resources)
    batch = user.cli.batches()[0]

    purged = user.cli.askmill("purge", batch)

    assert purged.returncode == 0, purged.stderr
    assert [path for path in resources if _exists(user, path)] == []


async def test_purge_keeps_the_files_of_a_batch_that_is_still_loading(user: StackUser) -> None:
    """A submit that reuses an upload of an older batch may load for minutes: `purge` keeps that file."""
    user.cli.write("notes.txt", NOTES)
    await asyncio.to_thread(user.rows, user.table("a.csv", ("question",), ("Does it rain?",)), *FILE_SEARCH)
    older = user.cli.batches()[0]
    profile = Profile(tools=("file_search",), files=(str(user.cli.folder / "notes.txt"),))
    async with (
        await Store.open(user.stack.redis_url) as store,
        make_client("offline", user.stack.base_url) as api,
    ):
        loading = await store.create_batch(new_batch(base_url=user.stack.base_url, api=user.stack.api))
        preparation = Preparation(store, loading, api, user.stack.api, lambda _: None)
        resources = await preparation.prepare(profile, {}, {})

        purged = await asyncio.to_thread(user.cli.askmill, "purge", older)

        assert purged.returncode == 0, purged.stderr
        (file,) = resources.vector_store_files
        assert _exists(user, f"files/{file}")
        assert _exists(user, f"vector_stores/{resources.vector_store_id}")
        await store.add_rows(loading, 1, [NewRow(["Does it rain?"], "a bad row")])
        await store.seal_batch(loading)
        await asyncio.to_thread(user.cli.askmill, "purge", loading)
    assert not _exists(user, f"files/{file}")
    assert not _exists(user, f"vector_stores/{resources.vector_store_id}")


async def test_simultaneous_submits_upload_a_file_once(user: StackUser) -> None:
    """Five of them with the same three new files: three uploads, one vector store, the same ids for all."""
    files = tuple(str(user.cli.folder / user.cli.write(f"{n}.txt", f"Number {n}.")) for n in range(3))
    profile = Profile(tools=("file_search",), files=files)
    async with (
        await Store.open(user.stack.redis_url) as store,
        make_client("offline", user.stack.base_url) as api,
    ):
        batches = [await store.create_batch(new_batch(base_url=user.stack.base_url)) for _ in range(5)]
        prepared = await asyncio.gather(
            *(
                Preparation(store, batch, api, user.stack.api, lambda _: None).prepare(profile, {}, {})
                for batch in batches
            )
        )
        assert len({resources.model_dump_json() for resources in prepared}) == 1
        for batch in batches:
            assert len(await store.list_resources(batch)) == 4
    assert (user.requests("POST /files"), user.requests("POST /vector_stores")) == (3, 1)


def test_a_submit_that_fails_while_it_uploads_leaves_no_batch(user: StackUser) -> None:
    """Its identity is free again, and the next submit finds what it had uploaded."""
    user.cli.write("notes.txt", NOTES)
    file = user.table("in.csv", ("question",), ("Does it rain?",))
    user.stack.scenario("[http]\nrate_500 = 1.0")
    refused = user.cli.askmill("submit", file, *FILE_SEARCH)
    assert refused.returncode == 3, refused.stderr
    user.stack.scenario("")
    assert user.cli.askmill("list", "--json").stdout == ""
    assert len(user.rows(file, *FILE_SEARCH)) == 1


def test_nothing_is_deleted_while_runs_use_it(user: StackUser) -> None:
    """Running or paused: `purge` says to cancel first; then it waits until workers have cancelled every run."""
    questions = [(f"What is {n} + 1? [emulate: completed after=60]",) for n in range(4)]
    user.cli.askmill("submit", user.table("in.csv", ("question",), *questions))
    batch = user.cli.batches()[0]
    wait_until(lambda: user.stack.stats()["runs_active"] == 4, "all rows are running")
    for state in ("running", "paused"):
        refused = user.cli.askmill("purge", batch)
        assert refused.returncode == 2
        assert f"{batch} is {state}" in refused.stderr
        assert f"askmill cancel {batch}" in refused.stderr
        user.cli.askmill("pause", batch)
    user.cli.askmill("cancel", batch)

    purged = user.cli.askmill("purge", batch)

    assert purged.returncode == 0, purged.stderr
    assert user.stack.stats()["runs_active"] == 0
    threads = "threads" if user.stack.api == "assistants" else "conversations"
    assert user.requests(f"DELETE /{threads}/{{{threads[:-1]}_id}}") == 4
