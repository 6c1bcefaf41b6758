"""The request of a chat completion is the one that AsyncOpenAI would send, at half its CPU."""

from contextlib import suppress

import httpx2
import openai
import pytest

from askmill.jobs.openai_client.client import make_client
from askmill.worker.backends.http import HttpClient
from askmill.worker.lifecycle.api_types import ApiError
from tests.helpers.recording_server import RecordingServer

PATH, BODY = "chat/completions", {"model": "m", "messages": [{"role": "user", "content": "Wie groß?"}]}
OF_THE_CALL = ("content-length:", "x-stainless-read-timeout:", "x-askmill-job:")
"""Headers that depend on the body's spelling and on the call."""
CUSTOM = "X-Team: blue\nauthorization: Bearer other\nx-stainless-os: none"


async def heads_of(key: str | None, query: str) -> tuple[list[str], list[str]]:
    """Request line and headers: by the SDK's own call, and by the backend's."""
    with RecordingServer(refuse_all=True) as server:
        client = make_client(key, f"{server.base_url}{query}", organization="org-1", project="proj-1")
        http = HttpClient(client)
        try:
            with pytest.raises(openai.AuthenticationError):
                await client.post(f"/{PATH}", cast_to=httpx2.Response, body=BODY)
            with pytest.raises(ApiError) as raised:
                async with http.post_stream(PATH, BODY, {"X-Askmill-Job": "b:1:1"}, lambda: 0):
                    pass
            assert (raised.value.status, raised.value.code) == (401, "invalid_api_key")
            with suppress(ApiError):
                await http.get("models")
        finally:
            await http.close()
        by_sdk, ours, read = (head.split("\r\n") for head in server.heads)
    credentials = [line for line in read if line.lower().startswith("authorization")]
    assert credentials == [line for line in by_sdk if line.lower().startswith("authorization")]
    return _comparable(by_sdk), _comparable(ours)


def _comparable(head: list[str]) -> list[str]:
    lines = [(name.lower(), value) for name, _, value in (line.partition(":") for line in head[1:])]
    return [head[0], *sorted(f"{name}:{value}" for name, value in lines if f"{name}:" not in OF_THE_CALL)]


@pytest.mark.parametrize("custom", ["", CUSTOM])
@pytest.mark.parametrize("key", ["k", None])
async def test_address_credentials_headers_and_query_are_the_sdks(
    key: str | None, custom: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a key and without one; whatever OPENAI_CUSTOM_HEADERS adds or replaces."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", custom)
    by_sdk, ours = await heads_of(key, "?api-version=v1")
    assert ours == by_sdk
    assert by_sdk[0] == "POST /v1/chat/completions?api-version=v1 HTTP/1.1"
    assert "openai-organization: org-1" in ours
