"""16.3: at submit, without ASKMILL_API and away from OpenAI, the batch's API is found out and frozen."""

import asyncio
from pathlib import Path

import pytest

from askmill import aio
from askmill.config.settings import load_settings
from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.model.api_target import api_target
from askmill.jobs.model.errors import ApiUnavailable, ProfileError, UsageError
from askmill.jobs.store import Store
from askmill.jobs.submit.find_api import ask_for_api
from tests.backends.stub_server import serving
from tests.helpers.chat_servers import CHAT_SERVERS, FASTAPI, WEB_PAGE, ChatServer

OLLAMA = CHAT_SERVERS["Ollama"]
QUESTIONS = ["What is 6 * 7?", "What is 1 + 1?"]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str) -> None:
    """A working folder of its own, and this test's Redis."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASKMILL_REDIS_URL", redis_url)
    monkeypatch.delenv("ASKMILL_API", raising=False)


async def test_the_api_is_found_and_a_repeat_asks_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second command finds its batch although the server is gone."""
    async with serving(server := OLLAMA.server()) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        batch = await aio.submit(QUESTIONS, model="llama3.2")
        asked = len(server.requests)
        assert await aio.submit(QUESTIONS, model="llama3.2") == batch
    assert await aio.submit(QUESTIONS, model="llama3.2") == batch
    assert (await store.batch(batch)).api == "chat"
    assert len(server.requests) == asked
    assert {name.split()[0] for name in server.request_names} == {"GET"}


async def test_a_batch_keeps_the_api_that_was_set_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set at the first command and not at the second: one batch, and the server is not asked."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{HOST}:{free_port()}/v1")
    monkeypatch.setenv("ASKMILL_API", "responses")
    batch = await aio.submit(QUESTIONS, model="m")
    monkeypatch.delenv("ASKMILL_API")
    assert await aio.submit(QUESTIONS, model="m") == batch
    assert (await store.batch(batch)).api == "responses"


async def test_commands_at_the_same_moment_are_one_batch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ask, both find the same API, one stores."""
    async with serving(OLLAMA.server()) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        both = await asyncio.gather(aio.submit(QUESTIONS, model="m"), aio.submit(QUESTIONS, model="m"))
    assert len(set(both)) == 1
    assert len(await store.list_batches()) == 1


async def test_nothing_is_stored_without_an_api(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable server and a web site: at once, with the address."""
    dead = f"http://{HOST}:{free_port()}/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", dead)
    with pytest.raises(ApiUnavailable, match=dead):
        await aio.submit(QUESTIONS, model="m")
    async with serving(ChatServer(default=WEB_PAGE)) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(ApiUnavailable, match="shows none of the APIs"):
            await aio.submit(QUESTIONS, model="m")
    assert await store.list_batches() == []


async def test_in_doubt_the_batch_is_one_of_chat_completions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers every read with 404 may have that one path; one line says what is tried."""
    lines = list[str]()
    async with serving(ChatServer(default=FASTAPI)) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert (await ask_for_api(api_target(load_settings()), lines.append)).api == "chat"
        batch = await aio.submit(QUESTIONS, model="m")
    (line,) = lines
    assert line.startswith(f"{url} does not show which API it has; chat completions are tried.")
    assert (await store.batch(batch)).api == "chat"


async def test_what_the_found_api_lacks_is_refused_before_anything_is_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A tool that chat completions do not have; a row's limit that the Assistants API does not take."""
    async with serving(OLLAMA.server()) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(ProfileError, match=f"code_interpreter.*{url} offers chat"):
            await aio.submit(QUESTIONS, model="m", tool=["code_interpreter"])
    rows = tmp_path / "rows.csv"
    rows.write_text("question,max_completion_tokens\nWhy?,300\nHow?,20\n")
    assistants = {"GET /assistants": {"object": "list", "data": []}}
    async with serving(ChatServer(routes=assistants, default=FASTAPI)) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(UsageError, match=r"row 2: max_completion_tokens 20 .*256"):
            await aio.submit(str(rows), model="m", override=["max_completion_tokens"])
    assert await store.list_batches() == []


async def test_estimate_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The price needs no API."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{HOST}:{free_port()}/v1")
    assert (await aio.estimate(QUESTIONS, model="m")).rows == 2
