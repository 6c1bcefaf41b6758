"""The application in this process, on a real Redis, with a client that has the token."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from askmill.config.settings import Settings
from askmill.jobs.model.api_target import Target
from askmill.jobs.store import Store
from askmill.web.app import create_app
from askmill.web.context import Web
from askmill.web.http.options import Options

TOKEN = "token-of-the-tests-0123456789"
ADDRESS = "http://127.0.0.1:8765"
MAX_UPLOAD = 200_000


@pytest.fixture
def web(store: Store, redis_url: str, tmp_path: Path) -> Web:
    """The server's state: no worker runs, and the API is an address where nobody answers."""
    uploads = tmp_path / "data" / "web" / "uploads"
    uploads.mkdir(parents=True)
    settings = Settings(data_dir=tmp_path / "data", redis_url=SecretStr(redis_url))
    target = Target("assistants", "http://127.0.0.1:9/v1", None, offline=False)
    options = Options(TOKEN, 8765, max_upload=MAX_UPLOAD, hosts=frozenset({"askmill.example"}))
    return Web(settings, options, store, redis_url, target, "", uploads)


def client_of(web: Web, **headers: str) -> httpx2.AsyncClient:
    """A client of the application without redirects."""
    transport = httpx2.ASGITransport(create_app(web))
    return httpx2.AsyncClient(transport=transport, base_url=ADDRESS, headers=headers, trust_env=False)


@pytest.fixture
async def client(web: Web) -> AsyncIterator[httpx2.AsyncClient]:
    """A program with the token."""
    async with client_of(web, Authorization=f"Bearer {TOKEN}") as client:
        yield client


@pytest.fixture
async def stranger(web: Web) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody without the token."""
    async with client_of(web) as client:
        yield client
