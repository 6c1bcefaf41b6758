"""Without a key: a local server is asked without Authorization, any other one is not asked at all."""

import json
from pathlib import Path

import pytest

from jobs.models import Api
from tests.command_line import Terminal, terminal
from tests.mill import Mill
from tests.recording import Recording

AMBIENT = {
    "OPENAI_ADMIN_KEY": "sk-admin-0123456789",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer sk-custom-0123456789",
}
"""What the SDK would send by itself."""


@pytest.fixture
def user(tmp_path: Path) -> Terminal:
    return terminal(tmp_path)


@pytest.mark.parametrize("api", ["assistants", "responses"])
def test_a_local_server_without_a_key_gets_no_authorization(user: Terminal, tmp_path: Path, api: Api) -> None:
    """Uploads, creates, polls, lists and deletions of `run`, `chat` and `purge`, on both APIs: none carries any."""
    (tmp_path / "mill").mkdir()
    with Mill(tmp_path / "mill", api=api) as mill, Recording(mill.base_url) as server:
        settings = {"OPENAI_BASE_URL": server.base_url, "ASKMILL_API": api, **AMBIENT}
        keyless = user.with_settings(ASKMILL_REDIS_URL=mill.redis_url, **settings)
        file = user.write("sums.csv", "question", "What is 6 * 7?", "What is 1 + 1?")
        notes = user.write("notes.txt", "Iron is a metal.")

        done = keyless.askmill("run", file, "--tool", "file_search", "--file", notes, "-o", "-")
        chat = keyless.askmill("chat", given="What is 2 + 3?\nexit\n")
        batch = json.loads(keyless.askmill("status", "--json").stdout)["batch"]
        purge = keyless.askmill("purge", batch)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("completed") == 2
    assert chat.returncode == 0, chat.stderr
    assert purge.returncode == 0, purge.stderr
    methods = {request.method for request in server.requests}
    assert methods == {"GET", "POST", "DELETE"}
    assert [request for request in server.requests if "authorization" in request.headers] == []
