"""Both APIs at one emulator: a test that takes `api` promises the same of each."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.backends.api_support import Bench, bench, emulator_running


@pytest.fixture(scope="session")
def emulator_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`http://127.0.0.1:PORT/v1` of an emulator that the tests of the backends share."""
    with emulator_running(tmp_path_factory.mktemp("emulator")) as url:
        yield url


@pytest.fixture(params=["assistants", "responses"])
async def api(request: pytest.FixtureRequest, emulator_url: str) -> AsyncIterator[Bench]:
    """A backend with connections of its own; whatever faults a test lets the emulator play end with it."""
    at = bench(emulator_url, request.param)
    yield at
    at.scenario("")
    await at.backend.close()
