"""The APIs at one emulator: a test that takes `session` runs once with each that has threads and runs.

With `any_session` it runs with chat completions too, where a run has ended when it is created.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.backends.backend_session import BackendSession, emulator_running, open_session


@pytest.fixture(scope="session")
def emulator_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the emulator that the backend tests share."""
    with emulator_running(tmp_path_factory.mktemp("emulator")) as url:
        yield url


@pytest.fixture(params=["assistants", "responses", "chat"])
async def any_session(request: pytest.FixtureRequest, emulator_url: str) -> AsyncIterator[BackendSession]:
    """As `session`, for what every API can show."""
    session = open_session(emulator_url, request.param)
    yield session
    session.set_scenario("")
    await session.backend.close()


@pytest.fixture(params=["assistants", "responses"])
async def session(request: pytest.FixtureRequest, emulator_url: str) -> AsyncIterator[BackendSession]:
    """A backend with its own connections. The emulator's faults end with the test."""
    session = open_session(emulator_url, request.param)
    yield session
    session.set_scenario("")
    await session.backend.close()
