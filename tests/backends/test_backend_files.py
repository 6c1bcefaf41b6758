"""Files of questions and answers, and what `doctor` and `purge` ask of the API, against the emulator."""

from pathlib import Path

import pytest

from askmill.jobs.model.errors import ApiUnavailable, UsageError
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client import client as jobs_api
from askmill.jobs.openai_client.client import probe
from askmill.jobs.openai_client.uploads import content_key, make_vector_store, purge_objects, upload_file
from askmill.worker.lifecycle.api_types import ApiError
from tests.backends.api_support import KEY, TUTOR

READER = Profile(model="gpt-5-mini", tools=("file_search",))


@pytest.fixture
async def client(emulator_url):
    async with jobs_api.make_client(KEY, emulator_url) as made:
        yield made


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.txt"
    path.write_text("The heron nests on the island.\n\nThe badger sleeps in winter.\n", "utf-8")
    return path


async def test_answers_cite_the_files_they_were_found_in(api, client, notes):
    """file_search: markers gone, `[1]` in place, the file's name at the end and in `citations`."""
    file_id = await upload_file(client, notes, "assistants")
    store = await make_vector_store(client, {file_id: "notes.txt"}, "askmill b_test")
    resources = Resources(vector_store_id=store)
    run, answer = await api.answered("Where does the heron nest?", READER, resources=resources)
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


async def test_a_generated_file_is_named_and_can_be_fetched(api):
    """The answer names it without its path; its bytes come from where the API keeps it."""
    _, answer = await api.answered("What is 6 * 7? [emulate: completed(file)]")
    (file,) = answer.files
    assert file["name"] == "answer.csv"
    assert "sandbox:" not in answer.text
    content = await api.backend.fetch_file(file)
    assert content.startswith(b"answer")


async def test_a_file_that_is_too_large_is_not_read_on(api):
    """The limit holds for what is fetched, and the fault says how large the file is."""
    _, answer = await api.answered("What is 6 * 7? [emulate: completed(file)]")
    (file,) = answer.files
    whole = await api.backend.fetch_file(file)
    assert await api.backend.fetch_file(file, len(whole)) == whole
    with pytest.raises(ApiError, match=f"too_large: {len(whole)} bytes"):
        await api.backend.fetch_file(file, len(whole) - 1)
    with pytest.raises(ApiError) as absent:
        await api.backend.fetch_file({**file, "file_id": "file-nowhere"})
    assert absent.value.status == 404


async def test_an_image_is_a_file(api):
    """A picture that the code drew."""
    _, answer = await api.answered("Draw [emulate: completed(image)]")
    (file,) = answer.files
    assert (await api.backend.fetch_file(file)).startswith(b"\x89PNG")


async def test_a_row_may_bring_a_file_and_an_image(api, client, notes, tmp_path):
    """Uploaded at submit, named by the row: accepted with the question; an image may be a URL too."""
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 64)
    uploaded = {
        "notes.txt": await upload_file(client, notes, "assistants"),
        "dot.png": await upload_file(client, picture, "vision"),
    }
    resources = Resources(row_files=uploaded, code_interpreter_files=(uploaded["notes.txt"],))
    for image in ("dot.png", "https://example.com/dot.png"):
        for profile in (TUTOR, Profile(model="gpt-5-mini", tools=("file_search",))):
            run, _ = await api.answered(
                "What is this?", profile, resources=resources, file="notes.txt", image=image
            )
            assert run.status == "completed"


async def test_the_content_names_an_upload(notes, tmp_path):
    """Equal content, equal key, whatever the file is called; what the API would refuse is refused before."""
    twin = tmp_path / "twin.md"
    twin.write_bytes(notes.read_bytes())
    assert content_key(notes, "assistants") == content_key(twin, "assistants")
    assert content_key(notes, "assistants") != content_key(notes, "vision")
    empty = tmp_path / "empty.txt"
    empty.touch()
    for bad, word in ((empty, "empty"), (tmp_path / "absent.txt", "no such file")):
        with pytest.raises(UsageError, match=word):
            content_key(bad, "assistants")


async def test_purge_deletes_and_does_not_mind_what_is_gone(api, client, notes):
    """Everything that a batch made goes; a second purge finds nothing and reports no fault."""
    ask = await api.ask("What is 2 + 2?")
    thread_id, run = await api.begin(ask)
    await api.over(ask, thread_id, run.id)
    file_id = await upload_file(client, notes, "assistants")
    store = await make_vector_store(client, {file_id: "notes.txt"}, "askmill b_test")
    objects = [("file", file_id), ("vector_store", store)]
    if api.backend.api == "assistants":
        objects += [("thread", thread_id), ("assistant", ask.assistant_id)]
    else:
        objects += [("conversation", thread_id), ("response", run.id)]
    first = await purge_objects(client, iter(objects))
    assert (first.deleted, first.absent, first.faults) == (4, 0, [])
    again = await purge_objects(client, objects)
    assert (again.deleted, again.absent, again.faults) == (0, 4, [])


async def test_the_probe_is_silent_when_all_is_well(api, client):
    """Nothing to say, nothing made, nothing paid."""
    before = api.stats()["runs_created"]
    await probe(client, api.backend.api)
    assert api.stats()["runs_created"] == before


async def test_the_probe_says_what_to_do(api, emulator_url):
    """No answer, no such API, a refused key: one sentence each, without the key."""
    nowhere = emulator_url.replace("/v1", "/v7")
    async with jobs_api.make_client(KEY, nowhere) as lost:
        with pytest.raises(
            ApiUnavailable, match=r"does not offer the (Assistants|Responses) API.*ASKMILL_API"
        ):
            await probe(lost, api.backend.api)
    async with jobs_api.make_client(KEY, "http://127.0.0.1:9/v1") as dead:
        with pytest.raises(ApiUnavailable, match=r"does not answer.*OPENAI_BASE_URL"):
            await probe(dead, api.backend.api)
    api.scenario('[account]\nerror = "invalid_api_key"')
    async with jobs_api.make_client(KEY, emulator_url) as spent:
        with pytest.raises(ApiUnavailable, match="OPENAI_API_KEY") as raised:
            await probe(spent, api.backend.api)
    assert KEY not in str(raised.value)
