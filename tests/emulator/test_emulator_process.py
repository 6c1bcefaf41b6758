"""The emulator as a process: options, faults on the wire, kept state, kill -9, secrets."""

import asyncio
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI

from tests.emulator.emulator_support import (
    JSON_HEADERS,
    KEY,
    Emulator,
    command,
    create_assistant,
    message_texts,
    open_client,
    run_emulator,
    run_question,
    run_to_end,
)
from tests.helpers import preloaded
from tests.support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


def run_expecting_failure(*options: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(command(*options), text=True, timeout=30)


def test_a_bad_scenario_is_refused_before_serving(tmp_path: Path) -> None:
    """Exit 2 and one sentence naming file and key."""
    path = tmp_path / "bad.toml"
    path.write_text("[http]\nrate_42 = 0.5\n")
    end = run_expecting_failure("--scenario", str(path))
    assert (end.returncode, end.stdout) == (2, "")
    assert "bad.toml" in end.stderr
    assert "http.rate_42" in end.stderr
    missing = run_expecting_failure("--scenario", str(tmp_path / "none.toml"))
    assert missing.returncode == 2
    assert "cannot be read" in missing.stderr


def test_a_taken_port_is_refused_in_a_sentence() -> None:
    """Exit 3, the address named, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        end = run_expecting_failure("--port", str(port))
    assert end.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in end.stderr
    assert "Traceback" not in end.stderr


def test_a_state_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """A file where the folder should be, or a folder another emulator holds: exit 3 and a sentence."""
    (tmp_path / "file").write_text("")
    end = run_expecting_failure("--state", str(tmp_path / "file"))
    assert end.returncode == 3
    assert "state folder" in end.stderr
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "batches.sqlite").write_bytes(b"no database" * 100)
    end = run_expecting_failure("--state", str(tmp_path / "other"))
    assert end.returncode == 3
    assert "batches.sqlite cannot be used: file is not a database" in end.stderr
    assert "Traceback" not in end.stderr
    with run_emulator("--state", str(tmp_path / "state")):
        second = run_expecting_failure("--state", str(tmp_path / "state"))
    assert second.returncode == 3
    assert "in use by another emulator" in second.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_stops_it_without_a_word(sent: signal.Signals, code: int) -> None:
    """Ctrl-C is the ordinary end; neither it nor SIGTERM prints a traceback."""
    process = preloaded.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(sent)
    _, said_last = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in said_last


def raw(url: str, call: str, headers: dict[str, str], body: bytes | None = None) -> tuple[int, str]:
    method, path = call.split()
    request = urllib.request.Request(url + path, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_key_and_header_are_required(emulator: Emulator) -> None:
    """No key: 401; no OpenAI-Beta header on assistants: 400; the stats need neither."""
    runs_before = emulator.stats()["runs_created"]
    beta = {"OpenAI-Beta": "assistants=v2"}
    key = {"Authorization": "Bearer x"}
    status, text = raw(emulator.url, "GET /models", {})
    assert status == 401
    assert "You didn't provide an API key" in text
    assert raw(emulator.url, "GET /models", {"Authorization": "Bearer "})[0] == 401
    status, text = raw(emulator.url, "GET /assistants", key)
    assert status == 400
    assert "You must provide the 'OpenAI-Beta' header" in text
    assert raw(emulator.url, "GET /assistants", key | beta)[0] == 200
    assert raw(emulator.url, "POST /threads", key | beta, b"{oops")[0] == 400
    assert raw(emulator.url, "POST /threads", key | beta, b"[]")[0] == 400
    assert raw(emulator.url, "DELETE /models", key)[0] == 405
    assert emulator.stats()["runs_created"] == runs_before


def exchanged(url: str, request: bytes) -> bytes:
    """All bytes that come back on a connection until the other side closes it."""
    host, port = url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def thread_request() -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in JSON_HEADERS.items())
    return f"POST /v1/threads HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 2\r\n\r\n{{}}".encode()


@pytest.mark.parametrize(("fault", "threads"), [("drop_before", 0), ("drop_after", 1)])
def test_a_dropped_request_gets_not_one_byte(fault: str, threads: int, tmp_path: Path) -> None:
    """`drop_before`: nothing was done. `drop_after`: it was done, only the reply is lost."""
    state = tmp_path / "state"
    with run_emulator(
        "--state", str(state), scenario=f"[http]\n{fault} = 1.0\n", folder=tmp_path
    ) as emulator:
        assert exchanged(emulator.url, thread_request()) == b""
        assert emulator.stats()["requests"] == {"POST /threads": 1}
    journal = (state / "journal").read_text()
    assert journal.count('["thread",') == threads


async def test_a_late_request_is_carried_out_after_the_client_gave_up(emulator: Emulator) -> None:
    """`late_s`: the connection is closed at once; the request is executed that much later."""
    emulator.set_scenario('[http]\nlate_s = 3.0\nonly = ["POST /threads/*/runs"]\n')
    runs_before = emulator.stats()["runs_created"]
    async with open_client(emulator.url) as client:
        assistant = await create_assistant(client)
        thread = await client.beta.threads.create(messages=[{"role": "user", "content": "x"}])
        with pytest.raises(APIConnectionError):
            await client.beta.threads.runs.create(thread.id, assistant_id=assistant.id)
        assert (await client.beta.threads.runs.list(thread.id)).data == []
        wait_until(lambda: emulator.stats()["runs_created"] > runs_before, "the late run is created")


async def test_a_slow_reply_is_a_done_request(emulator: Emulator) -> None:
    """`slow_s`: the request of a client that gives up is executed."""
    emulator.set_scenario('[http]\nslow_s = 5\nonly = ["POST /threads"]\n')
    before = Counter(emulator.stats()["requests"])
    async with open_client(emulator.url, timeout_s=0.3) as client:
        with pytest.raises(APITimeoutError):
            await client.beta.threads.create()
    assert Counter(emulator.stats()["requests"]) - before == {"POST /threads": 1}


async def test_faults_have_the_real_api_s_form_and_can_be_healed(emulator: Emulator) -> None:
    """429 with its headers, 500 and 503 in OpenAI's words; a new scenario ends them while running."""
    emulator.set_scenario("[http]\nrate_429 = 1\nretry_after_s = 1.5\n")
    async with open_client(emulator.url) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.models.list()
        error = caught.value
        assert (error.status_code, error.code) == (429, "rate_limit_exceeded")
        assert error.response.headers["retry-after"] == "1.5"
        assert error.response.headers["x-ratelimit-reset-requests"] == "1.5s"
        for rate, status in (("rate_500", 500), ("rate_503", 503)):
            emulator.set_scenario(f"[http]\n{rate} = 1\n")
            with pytest.raises(APIStatusError) as caught:
                await client.models.list()
            assert caught.value.status_code == status
        emulator.set_scenario("")
        assert (await client.models.list()).data
        with pytest.raises(urllib.error.HTTPError):
            emulator.set_scenario("[http]\nrate_42 = 1\n")


@pytest.mark.parametrize(
    ("error", "status", "reads"),
    [
        ("insufficient_quota", 429, True),
        ("billing_hard_limit_reached", 400, True),
        ("invalid_api_key", 401, False),
        ("unsupported_country_region_territory", 403, False),
        ("unknown_url", 404, False),
    ],
)
async def test_an_account_in_trouble(error: str, status: int, reads: bool, emulator: Emulator) -> None:
    """Creates are refused with the real status and code; reads as the real API would."""
    emulator.set_scenario(f'[account]\nerror = "{error}"\n')
    async with open_client(emulator.url) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.responses.create(model="gpt-5", input="x")
        assert (caught.value.status_code, caught.value.code) == (status, error)
        if reads:
            assert (await client.models.list()).data
        else:
            with pytest.raises(APIStatusError):
                await client.models.list()


async def test_undirected_runs_end_in_their_shares(tmp_path: Path) -> None:
    """`[outcomes]` decides for questions that direct nothing; the same seed decides the same."""
    scenario = '[outcomes]\n"failed(server_error)" = 0.5\n'
    ends = []
    for seed in ("3", "3", "4"):
        with run_emulator("--seed", seed, scenario=scenario, folder=tmp_path) as emulator:
            async with open_client(emulator.url) as client:
                rows = [{"askmill_batch": "b_1", "askmill_row": str(row)} for row in range(1, 41)]
                assistant = await create_assistant(client)
                runs = [run_question(client, "Who?", assistant_id=assistant.id, metadata=row) for row in rows]
                ends.append([run.status for run in await asyncio.gather(*runs)])
    assert ends[0] == ends[1] != ends[2]
    assert 8 < ends[0].count("failed") < 32


async def start_run(client: AsyncOpenAI, question: str) -> Any:
    assistant = await create_assistant(client)
    thread: Any = {"messages": [{"role": "user", "content": question}]}
    return await client.beta.threads.create_and_run(assistant_id=assistant.id, thread=thread)


async def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """Objects, contents, counters and running runs are there after kill -9; the runs go on and end in time."""
    options = ("--state", str(tmp_path / "state"))
    with run_emulator(*options) as emulator:
        async with open_client(emulator.url) as client:
            file = await client.files.create(file=("a.txt", b"A\r\nB"), purpose="user_data")
            done = await run_question(client, "What is 2 + 3?", tools=[{"type": "code_interpreter"}])
            texts = await message_texts(client, done)
            run = await start_run(client, "[emulate: completed after=3] What is 3 + 4?")
            stuck = await start_run(client, "[emulate: stuck] x")
            waiting = await client.responses.create(
                model="gpt-5", input="[emulate: completed after=3] What is 4 + 5?", background=True
            )
            stats = emulator.stats()
        emulator.kill()
    with run_emulator(*options) as emulator:
        async with open_client(emulator.url) as client:
            assert (await client.files.content(file.id)).content == b"A\r\nB"
            assert await message_texts(client, done) == texts
            again = await client.beta.threads.runs.retrieve(done.id, thread_id=done.thread_id)
            assert again == done
            ended = await run_to_end(client, run.thread_id, run.id)
            assert ended.status == "completed"
            assert "7" in (await message_texts(client, ended))[0]
            with pytest.raises(APIStatusError, match="already has an active run"):
                await client.beta.threads.runs.create(stuck.thread_id, assistant_id=stuck.assistant_id)
            response = wait_until(lambda: emulator.stats()["runs_active"] == 1, "the response is over")
            assert response
            assert "9" in (await client.responses.retrieve(waiting.id)).output_text
            now = emulator.stats()
            for name in ("runs_created", "runs_by_job"):
                assert now[name] == stats[name]
            assert now["requests"]["POST /threads/runs"] == stats["requests"]["POST /threads/runs"]
            assert now["tokens"] > stats["tokens"]


def test_no_key_is_ever_kept(tmp_path: Path) -> None:
    """The key that clients present is nowhere in the state folder, in what is printed, or in a refusal."""
    state = tmp_path / "state"
    process = preloaded.Popen(
        command("--state", str(state)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    url = process.stdout.readline().split()[-1]

    async def ask() -> str:
        async with open_client(url) as client:
            await run_question(client, "[emulate: failed(server_error)] x")
            with pytest.raises(APIStatusError) as caught:
                await client.beta.threads.retrieve("thread_x")
            return str(caught.value)

    refusal = asyncio.run(ask())
    process.terminate()
    printed = "".join(process.communicate(timeout=20))
    kept = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert KEY not in printed + refusal
    assert KEY.encode() not in kept


async def test_active_runs_are_counted(tmp_path: Path) -> None:
    """`runs_active` falls as runs end by themselves; `runs_active_max` keeps the peak."""
    with run_emulator() as emulator:
        async with open_client(emulator.url) as client:
            for _ in range(5):
                await start_run(client, "[emulate: completed after=3] x")
            assert emulator.stats()["runs_active"] == 5
        wait_until(lambda: emulator.stats()["runs_active"] == 0, "all runs are over")
        assert emulator.stats()["runs_active_max"] == 5
