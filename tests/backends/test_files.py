"""Files of questions and answers, and the API requests of `doctor` and `purge`, against the emulator."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from askmill.jobs.model.errors import ApiUnavailable, UsageError
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.lost_uploads import (
    LostUpload,
    delete_lost_vector_stores,
    find_lost_upload,
    newest_file,
)
from askmill.jobs.openai_client.offers import probe
from askmill.jobs.openai_client.uploads import (
    create_vector_store,
    object_exists,
    purge_objects,
    upload_file,
    upload_key,
    vector_store_key,
)
from askmill.worker.lifecycle.api_types import ApiError
from tests.backends.backend_session import KEY, TUTOR, BackendSession
from tests.helpers.tcp_relay import TcpRelay
from tests.support import wait_until_async

READER = Profile(model="gpt-5-mini", tools=("file_search",))


@pytest.fixture
async def client(emulator_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with make_client(KEY, emulator_url) as client:
        yield client


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.txt"
    path.write_text("The heron nests on the island.\n\nThe badger sleeps in winter.\n", "utf-8")
    return path


@pytest.fixture
def namesake(notes: Path) -> Path:
    """Another file with the same name and size."""
    path = notes.parent / "other" / notes.name
    path.parent.mkdir()
    path.write_text(notes.read_text("utf-8").replace("heron", "egret"), "utf-8")
    return path


async def test_answers_cite_the_files_they_were_found_in(
    session: BackendSession, client: AsyncOpenAI, notes: Path
) -> None:
    """file_search: no markers, `[1]` in the text, the file's name at the end and in `citations`."""
    file_id = await upload_file(client, notes, "assistants")
    store = await create_vector_store(client, {file_id: "notes.txt"}, "askmill b_test")
    resources = Resources(vector_store_id=store)
    run, answer = await session.answer("Where does the heron nest?", READER, resources=resources)
    assert run.status == "completed"
    assert "island" in answer.text
    assert "【" not in answer.text
    assert "[1]" in answer.text
    assert answer.text.endswith("[1] notes.txt")
    assert answer.citations[0]["file_id"] == file_id
    assert answer.citations[0]["filename"] == "notes.txt"
    search = next(step for step in answer.steps if step.type == "file_search")
    assert search.details["results"][0]["file_id"] == file_id
    assert "heron" in search.details["results"][0]["text"]


@pytest.mark.parametrize("kind", ["file", "vector_store"])
async def test_what_an_interrupted_upload_has_created_is_deleted(
    client: AsyncOpenAI, emulator_url: str, notes: Path, kind: str
) -> None:
    """Ctrl-C between the API's side of a create and its reply: nobody would find that object again."""
    objects = client.files if kind == "file" else client.vector_stores

    async def ids() -> set[str]:
        return {found.id async for found in objects.list()}

    before = await ids()
    with TcpRelay(emulator_url) as relay:
        slow = make_client(KEY, f"http://127.0.0.1:{relay.port}/v1")
        relay.block("replies")
        create = (
            upload_file(slow, notes, "assistants") if kind == "file" else create_vector_store(slow, {}, "x")
        )
        creating = asyncio.create_task(create)

        async def is_created() -> bool:
            return len(await ids()) > len(before)

        await wait_until_async(is_created, "the API has created it")
        creating.cancel()
        relay.unblock("replies", deliver=True)
        with pytest.raises(asyncio.CancelledError):
            await creating
        await slow.close()
    assert await ids() == before


async def test_what_a_dead_command_left_is_found_by_its_content(
    client: AsyncOpenAI, notes: Path, namesake: Path
) -> None:
    """Of two files with one name and size each finds its own, and none from before the note. One that the API does not
    let be read is only named. A vector store is found by the key of its files, and deleted."""
    note = await newest_file(client, "user_data")
    first, second = [await upload_file(client, path, "user_data") for path in (notes, namesake)]
    assert (await find_lost_upload(client, notes, "user_data", note)).file_id == first
    assert (await find_lost_upload(client, namesake, "user_data", note)).file_id == second
    later = await newest_file(client, "user_data")
    assert await find_lost_upload(client, notes, "user_data", later) == LostUpload()

    note = await newest_file(client, "assistants")
    file_id = await upload_file(client, notes, "assistants")
    assert await find_lost_upload(client, notes, "assistants", note) == LostUpload(unreadable=[file_id])

    stores = [await create_vector_store(client, {id_: "notes.txt"}, "left") for id_ in (file_id, first)]
    await delete_lost_vector_stores(client, vector_store_key(str(client.base_url), [file_id]))
    assert [await object_exists(client, "vector_store", store) for store in stores] == [False, True]


async def test_a_generated_file_is_named_and_can_be_downloaded(session: BackendSession) -> None:
    """The answer has its name without the path."""
    _, answer = await session.answer("What is 6 * 7? [emulate: completed(file)]")
    (file,) = answer.files
    assert file["name"] == "answer.csv"
    assert "sandbox:" not in answer.text
    content = await session.backend.download_file(file)
    assert content.startswith(b"answer")


async def test_a_download_stops_at_the_size_limit(session: BackendSession) -> None:
    """The error says how large the file is."""
    _, answer = await session.answer("What is 6 * 7? [emulate: completed(file)]")
    (file,) = answer.files
    content = await session.backend.download_file(file)
    assert await session.backend.download_file(file, len(content)) == content
    with pytest.raises(ApiError, match=f"too_large: {len(content)} bytes"):
        await session.backend.download_file(file, len(content) - 1)
    with pytest.raises(ApiError) as missing:
        await session.backend.download_file({**file, "file_id": "file-nowhere"})
    assert missing.value.status == 404


async def test_an_image_is_a_generated_file(session: BackendSession) -> None:
    """An image that code drew."""
    _, answer = await session.answer("Draw [emulate: completed(image)]")
    (file,) = answer.files
    assert (await session.backend.download_file(file)).startswith(b"\x89PNG")


async def test_a_row_may_have_a_file_and_an_image(
    session: BackendSession, client: AsyncOpenAI, notes: Path, tmp_path: Path
) -> None:
    """Uploaded at submit and named by the row. An image may also be a URL."""
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 64)
    uploaded = {
        "notes.txt": await upload_file(client, notes, "assistants"),
        "dot.png": await upload_file(client, picture, "vision"),
    }
    resources = Resources(row_files=uploaded, code_interpreter_files=(uploaded["notes.txt"],))
    for image in ("dot.png", "https://example.com/dot.png"):
        for profile in (TUTOR, Profile(model="gpt-5-mini", tools=("file_search",))):
            run, _ = await session.answer(
                "What is this?", profile, resources=resources, file="notes.txt", image=image
            )
            assert run.status == "completed"


def test_an_upload_is_identified_by_its_content(notes: Path, tmp_path: Path) -> None:
    """The file's name does not matter. A file that the API would refuse is refused before the upload."""
    copy = tmp_path / "copy.md"
    copy.write_bytes(notes.read_bytes())
    assert upload_key(notes, "assistants") == upload_key(copy, "assistants")
    assert upload_key(notes, "assistants") != upload_key(notes, "vision")
    empty = tmp_path / "empty.txt"
    empty.touch()
    for path, word in ((empty, "empty"), (tmp_path / "missing.txt", "no such file")):
        with pytest.raises(UsageError, match=word):
            upload_key(path, "assistants")


async def test_purge_deletes_everything_and_ignores_missing_objects(
    session: BackendSession, client: AsyncOpenAI, notes: Path
) -> None:
    """A second purge finds nothing and reports no error."""
    request = await session.new_request("What is 2 + 2?")
    thread_id, run = await session.start_and_wait(request)
    file_id = await upload_file(client, notes, "assistants")
    store = await create_vector_store(client, {file_id: "notes.txt"}, "askmill b_test")
    objects = [("file", file_id), ("vector_store", store)]
    if session.backend.api == "assistants":
        objects += [("thread", thread_id), ("assistant", request.assistant_id)]
    else:
        objects += [("conversation", thread_id), ("response", run.id)]
    first = await purge_objects(client, iter(objects))
    assert (first.deleted, first.absent, first.faults) == (4, 0, [])
    again = await purge_objects(client, objects)
    assert (again.deleted, again.absent, again.faults) == (0, 4, [])


async def test_the_probe_costs_nothing(session: BackendSession, client: AsyncOpenAI) -> None:
    """It creates no run."""
    before = session.stats()["runs_created"]
    await probe(client, session.backend.api)
    assert session.stats()["runs_created"] == before


async def test_the_probe_says_what_to_set(session: BackendSession, emulator_url: str) -> None:
    """No answer, no such API, a refused key: one sentence each, without the key."""
    nowhere = emulator_url.replace("/v1", "/v7")
    async with make_client(KEY, nowhere) as client:
        with pytest.raises(
            ApiUnavailable, match=r"does not offer the (Assistants|Responses) API.*ASKMILL_API"
        ):
            await probe(client, session.backend.api)
    async with make_client(KEY, "http://127.0.0.1:9/v1") as client:
        with pytest.raises(ApiUnavailable, match=r"does not answer.*OPENAI_BASE_URL"):
            await probe(client, session.backend.api)
    session.set_scenario('[account]\nerror = "invalid_api_key"')
    async with make_client(KEY, emulator_url) as client:
        with pytest.raises(ApiUnavailable, match="OPENAI_API_KEY") as raised:
            await probe(client, session.backend.api)
    assert KEY not in str(raised.value)
