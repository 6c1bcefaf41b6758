"""`askmill chat` over chat completions: the thread is kept here, and functions are called."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from askmill.jobs.chat.completions import CompletionsChat
from askmill.jobs.chat.render import Screen
from askmill.jobs.chat.session import ChatTarget, Memory, start_or_resume
from askmill.jobs.functions.registry import describe
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.openai_client.client import make_client
from tests.backends.stub_server import stub_server
from tests.backends.test_chat_backend import CALLS, DONE, answer, chunk, stream

MODULE = '''
def add(a: int) -> int:
    """One more."""
    return a + 1

def now() -> str:
    """The time."""
    return "noon"
'''


async def test_a_thread_is_kept_between_starts_and_functions_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call sends everything said before; a second start goes on with it, `--new` starts another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE, encoding="utf-8")
    profile = Profile(model="m", instructions="Be brief.", functions=describe("mine.py"))
    replies = [stream(CALLS + chunk({}, "tool_calls") + DONE), *[stream(answer("4", "2") + DONE)] * 3]
    shown: list[str] = []

    async def ask(url: str, question: str, *, new: bool = False) -> bool:
        async with make_client("key", url) as client:
            target = ChatTarget(client, "chat", profile, Resources(), tmp_path)
            chat, memory = CompletionsChat(target, Screen(shown.append)), Memory(tmp_path, url, target)
            saved, resumed = await start_or_resume(target, chat, memory, new=new)
            await chat.ask(saved, question)
        return resumed

    def reply(request: Any) -> Any:
        return replies.pop(0)(request)

    async with stub_server({"POST /chat/completions": reply}) as (server, url):
        assert not await ask(url, "Why?")
        assert await ask(url, "And then?")
        assert not await ask(url, "Anew?", new=True)
        sent = [[message["role"] for message in body["messages"]] for _, body in server.requests]

    assert sent[1] == ["system", "user", "assistant", "tool", "tool"]
    assert sent[2] == [*sent[1], "assistant", "user"]
    assert sent[3] == ["system", "user"]
    outputs = [
        message["content"] for message in server.requests[1][1]["messages"] if message["role"] == "tool"
    ]
    assert outputs == ["2", "noon"]
    assert "42" in "".join(shown)
    assert sum(name.startswith("chat_") for name in await asyncio.to_thread(os.listdir, tmp_path)) == 2


async def test_the_first_question_carries_the_profiles_images(tmp_path: Path) -> None:
    """`--file photo.png`: sent once a thread, which goes back as a whole with each later question."""
    picture = Path(__file__).parents[2] / "examples" / "red.png"
    profile = Profile(model="m", files=(str(picture),))
    route = {"POST /chat/completions": stream(answer("red") + DONE)}
    async with stub_server(route) as (server, url), make_client("key", url) as client:
        target = ChatTarget(client, "chat", profile, Resources(), tmp_path)
        chat, memory = CompletionsChat(target, Screen(lambda _: None)), Memory(tmp_path, url, target)
        saved, _ = await start_or_resume(target, chat, memory, new=True)
        for question in ("Which colour?", "Sure?"):
            await chat.ask(saved, question)
    first, _, second = server.requests[1][1]["messages"]
    assert [part["type"] for part in first["content"]] == ["text", "image_url"]
    assert first["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert second == {"role": "user", "content": "Sure?"}
