"""16.3: commands and workers that are not told which API their server has."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from askmill.jobs.local.ports import HOST, free_port
from tests.helpers.command_line import terminal
from tests.stack import Stack

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "chat-server.md"
CHAT_ONLY = '[chat]\nonly = true\nneeds_key = false\nmodels = ["llama3.2"]\n'
OLLAMA = "http://localhost:11434/v1"


def test_the_three_lines_of_the_page_answer_a_file(tmp_path: Path) -> None:
    """The page's lines, typed where the emulator offers chat completions alone, as Ollama does."""
    lines = next(
        block for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) if OLLAMA in block
    )
    (tmp_path / "stack").mkdir()
    with Stack(tmp_path / "stack", api="chat", scenario=CHAT_ONLY) as stack:
        user = terminal(tmp_path).with_settings(ASKMILL_REDIS_URL=stack.redis_url)
        user.write("questions.csv", "question", "What is 6 * 7?", "What is 1 + 1?", "Why?")
        typed = subprocess.run(
            ["sh", "-e"],
            input=lines.replace(OLLAMA, stack.base_url),
            cwd=user.folder,
            env={**user.env(), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        requests = stack.stats()["requests"]
    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert "offers chat completions (ASKMILL_API=chat); models: llama3.2" in typed.stdout
    assert "FAULT" not in typed.stdout
    assert "WARN  model" not in typed.stdout
    with (user.folder / "questions.answers.csv").open(encoding="utf-8", newline="") as answers:
        rows = list(csv.DictReader(answers))
    assert [row["status"] for row in rows] == ["completed"] * 3
    assert "42" in rows[0]["answer"]
    assert requests["POST /chat/completions"] == 3, "finding the API asks no model"


async def test_one_worker_serves_batches_of_every_api(tmp_path: Path) -> None:
    """Its ASKMILL_API is not set. Of chat completions it makes 8 calls at a time, as local servers have few slots."""
    with Stack(tmp_path, scenario="[latency]\nmedian_s = 0.2\n") as stack:
        questions = [f"What is {number} + 1?" for number in range(20)]
        batches = {}
        for api in ("assistants", "chat", "responses"):
            stack.api = api
            batches[api] = await stack.submit(questions if api == "chat" else questions[:2])
        worker = stack.worker(concurrency=None, ASKMILL_API="")
        for api in ("assistants", "responses"):
            view = await stack.wait_for(batches[api])
            assert view.counts.by_status["completed"] == 2
        view = await stack.wait_for(batches["chat"])
        assert view.counts.by_status["completed"] == 20
        assert stack.stats()["runs_active_max"] <= 8 + 4
        assert worker.leave() == 0


@pytest.mark.parametrize("api", ["", "chat"])
def test_without_a_server_no_command_waits(tmp_path: Path, redis_url: str, api: str) -> None:
    """Exit code 3 with the address, and nothing is stored or started."""
    address = f"http://{HOST}:{free_port()}/v1"
    settings = {"OPENAI_BASE_URL": address, "ASKMILL_REDIS_URL": redis_url, "ASKMILL_API": api}
    user = terminal(tmp_path).with_settings(**settings)
    user.write("q.csv", "question", "What is 6 * 7?")
    commands = [["run", "q.csv"], ["chat"], ["doctor"]] + ([] if api else [["submit", "q.csv"]])
    for command in commands:
        done = user.askmill(*command, stdin="What is 2 + 3?\n")
        assert done.returncode == 3, (command, done.stdout, done.stderr)
        assert f"{address} does not answer" in done.stdout + done.stderr
    assert user.askmill("list", "--json").stdout in {"", "[]\n"}
