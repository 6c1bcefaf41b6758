"""Case D9: a key of the environment never goes to an address that a planted `.env` names, unless the user agrees.

Beyond loopback the address is `http://planted.example`, reached through a proxy that records every request.
"""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from askmill.jobs.local.ports import HOST
from askmill.jobs.store import Store
from tests.helpers import preloaded
from tests.helpers.batches import claim_row, expire_worker, submit_batch, worker_info
from tests.helpers.command_line import LIMIT_S, CommandLine, terminal
from tests.helpers.recording_server import RecordingServer
from tests.support import wait_until

KEY = "sk-environment-0123456789"
PLANTED = "http://planted.example/v1"
SECRETS = {
    "OPENAI_API_KEY": KEY,
    "OPENAI_ORG_ID": "org-environment",
    "OPENAI_PROJECT_ID": "proj-environment",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: gateway-environment",
}
ACCOUNT = {"organization": SECRETS["OPENAI_ORG_ID"], "project": SECRETS["OPENAI_PROJECT_ID"]}
FILE = ("--tool", "code_interpreter", "--file", "notes.txt")
COMMANDS = {
    "run": ("run", "q.csv"),
    "submit with a file": ("submit", "q.csv", *FILE),
    "submit": ("submit", "q.csv"),
    "chat": ("chat",),
    "chat with a file": ("chat", *FILE),
    "doctor": ("doctor",),
    "estimate --pilot": ("estimate", "q.csv", "--pilot", "1"),
    "worker": ("worker",),
}
SENDING = {name: words for name, words in COMMANDS.items() if name not in {"submit", "worker"}}


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    """The server that receives every request."""
    with RecordingServer(refuse_all=True) as server:
        yield server


@pytest.fixture
def user(tmp_path: Path, server: RecordingServer) -> CommandLine:
    """All of `SECRETS` in the environment, and an address in the folder's `.env`."""
    (tmp_path / ".netrc").write_text("default login me password netrc-environment\n", encoding="utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy"), server.url)
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), HOST)
    user = terminal(tmp_path).with_settings(
        **SECRETS, **proxy, **direct, HOME=str(tmp_path), ASKMILL_API="assistants"
    )
    user.write("q.csv", "question", "What is 1 + 1?")
    user.write("notes.txt", "a file for the tools")
    user.write(".env", f"OPENAI_BASE_URL={PLANTED}")
    return user


def assert_refused(done: "subprocess.CompletedProcess[str]", server: RecordingServer) -> None:
    """Exit code 2 with a message that names the file, the address and the option; nothing was sent."""
    output = done.stderr + done.stdout
    assert done.returncode == 2, output
    for part in (".env", PLANTED, "--trust-env-file", "OPENAI_API_KEY"):
        assert part in output
    assert KEY not in output
    assert server.request_lines == []


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_key_of_the_environment_does_not_go_to_an_address_of_a_planted_file(
    user: CommandLine, server: RecordingServer, arguments: tuple[str, ...]
) -> None:
    """Every command that would send it refuses, naming the file, the address and the option."""
    assert_refused(user.askmill(*arguments, stdin="Hello?\n"), server)


def test_a_worker_refuses_however_it_is_started(user: CommandLine, server: RecordingServer) -> None:
    """A batch of that address waits; `python -m askmill.worker` and Celery's command line refuse too."""
    submit_batch = user.with_settings(OPENAI_BASE_URL=PLANTED).askmill("submit", "q.csv")
    assert submit_batch.returncode == 0, submit_batch.stderr
    celery = ["-m", "celery", "-A", "askmill.worker.celery.celery_app", "worker"]
    redis = {"ASKMILL_REDIS_URL": "redis://127.0.0.1:9/0"}
    for arguments, settings in ((["-P", "-m", "askmill.worker"], {}), (celery, redis)):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=user.folder,
            env=user.with_settings(**settings).env(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode != 0
        assert "--trust-env-file" in done.stderr
        assert KEY not in done.stderr + done.stdout
    assert server.request_lines == []


def test_a_trusted_worker_sends_the_key_and_names_the_address(
    user: CommandLine, server: RecordingServer
) -> None:
    """With the option, `submit` and `worker` name the address, and the worker sends the key there."""
    submit_batch = user.askmill("submit", "q.csv", "--trust-env-file")
    assert submit_batch.returncode == 0, submit_batch.stderr
    line = f"Asks {PLANTED} (OPENAI_BASE_URL in .env of this folder)."
    assert line in submit_batch.stderr
    worker = user.start("worker", "--trust-env-file")
    try:
        wait_until(lambda: server.headers("authorization"), "the worker has sent a request", timeout_s=30)
    finally:
        worker.terminate()
        _, stderr = worker.communicate(timeout=LIMIT_S)
    assert line in stderr
    assert server.headers("authorization") == {f"Bearer {KEY}"}


@pytest.mark.parametrize("arguments", SENDING.values(), ids=SENDING)
def test_with_the_option_the_key_is_sent(
    user: CommandLine, server: RecordingServer, arguments: tuple[str, ...]
) -> None:
    """The user has agreed: all credentials are sent."""
    done = user.askmill(*arguments, "--trust-env-file", stdin="Hello?\n")

    assert done.returncode == 3, done.stderr + done.stdout
    assert server.headers("authorization") == {f"Bearer {KEY}"}
    assert server.headers("openai-organization") == {"org-environment"}
    assert server.headers("x-gateway") == {"gateway-environment"}
    if arguments[0] in {"run", "submit"}:
        assert f"Asks {PLANTED} (OPENAI_BASE_URL in .env of this folder)." in done.stderr


@pytest.mark.parametrize("arguments", SENDING.values(), ids=SENDING)
def test_a_loopback_address_of_a_planted_file_gets_no_key(
    user: CommandLine, server: RecordingServer, arguments: tuple[str, ...]
) -> None:
    """Requests are sent without the environment's key, organization, project, headers and .netrc."""
    user.write(".env", f"OPENAI_BASE_URL={server.base_url}")

    done = user.askmill(*arguments, stdin="Hello?\n")

    assert done.returncode == 3, done.stderr + done.stdout
    assert server.request_lines
    assert server.headers("authorization") == set()
    assert not server.received("environment")
    if arguments[0] in {"run", "submit"}:
        assert f"Asks {server.base_url} (OPENAI_BASE_URL in .env of this folder), without" in done.stderr


@pytest.mark.parametrize("arguments", [COMMANDS["run"], COMMANDS["doctor"]], ids=["run", "doctor"])
def test_a_file_may_have_a_key_for_its_own_address(
    user: CommandLine, server: RecordingServer, arguments: tuple[str, ...]
) -> None:
    """Key and address are from one source: that key is sent, and nothing of the environment."""
    user.write(".env", f"OPENAI_BASE_URL={PLANTED}", "OPENAI_API_KEY=sk-of-the-file-0123456789")

    done = user.with_settings(OPENAI_API_KEY="").askmill(*arguments, stdin="Hello?\n")

    assert done.returncode == 3, done.stderr + done.stdout
    assert server.headers("authorization") == {"Bearer sk-of-the-file-0123456789"}
    assert not server.received("environment")


def test_an_address_of_the_environment_gets_the_key(user: CommandLine, server: RecordingServer) -> None:
    """It overrides the address of `.env`, and a message names it."""
    done = user.with_settings(OPENAI_BASE_URL=server.base_url).askmill("run", "q.csv")

    assert done.returncode == 3, done.stderr
    assert f"Asks {server.base_url} (OPENAI_BASE_URL of the environment)." in done.stderr
    assert server.headers("authorization") == {f"Bearer {KEY}"}


def test_offline_names_no_address(user: CommandLine, server: RecordingServer) -> None:
    """The emulator answers, whatever address `.env` has."""
    done = user.askmill("run", "q.csv", "--offline")

    assert done.returncode == 0, done.stderr
    assert "Asks" not in done.stderr
    assert server.request_lines == []


@pytest.mark.parametrize("answer", ["y", "n"])
def test_on_a_terminal_the_user_is_asked(user: CommandLine, server: RecordingServer, answer: str) -> None:
    """The question names file and address; yes sends the key, no exits with 2 and sends nothing."""
    code, shown = on_a_terminal(user, answer, "run", "q.csv")

    assert f"{user.folder}/.env names {PLANTED}. Send OPENAI_API_KEY" in shown
    assert code == (3 if answer == "y" else 2), shown
    assert server.headers("authorization") == ({f"Bearer {KEY}"} if answer == "y" else set())
    assert bool(server.request_lines) == (answer == "y")
    assert KEY not in shown


def on_a_terminal(user: CommandLine, answer: str, *arguments: str) -> tuple[int, str]:
    """Run the command on a terminal and answer its question; returns the exit code and the output."""
    parent_side, child_side = pty.openpty()
    process = preloaded.Popen(
        user.script(*arguments),
        cwd=user.folder,
        env=user.env(),
        stdin=child_side,
        stdout=child_side,
        stderr=child_side,
    )
    os.close(child_side)
    shown = b""
    with suppress(OSError):  # raised by read() when the other end is closed
        while piece := os.read(parent_side, 4096):
            answered, shown = b"[y/N]" in shown, shown + piece
            if b"[y/N]" in shown and not answered:
                os.write(parent_side, f"{answer}\n".encode())
    os.close(parent_side)
    return process.wait(LIMIT_S), " ".join(shown.decode().split())


@pytest.mark.parametrize("trusted", [False, True])
def test_the_library_raises_without_trust_env_file(
    user: CommandLine, server: RecordingServer, trusted: bool
) -> None:
    """A program is never asked, even if it runs on a terminal."""
    program = user.write(
        "program.py", "import askmill", f"trusted = {trusted}", "askmill.run('q.csv', trust_env_file=trusted)"
    )
    done = preloaded.run(
        [sys.executable, program], cwd=user.folder, env=user.env(), text=True, timeout=LIMIT_S
    )

    assert done.returncode == 1
    assert f"askmill.errors.{'Unavailable' if trusted else 'UsageError'}: " in done.stderr
    assert ("trust_env_file=True" in done.stderr) == (not trusted)
    assert server.headers("authorization") == ({f"Bearer {KEY}"} if trusted else set())


def test_purge_refuses_before_it_deletes_anything(user: CommandLine, server: RecordingServer) -> None:
    """Only Redis lists the batch's objects at the API, so the batch stays until the user consents."""
    batch = user.with_settings(OPENAI_BASE_URL=PLANTED).askmill("submit", "q.csv").stdout.strip()
    assert user.askmill("cancel", batch).returncode == 0

    assert_refused(user.askmill("purge", batch), server)

    assert user.askmill("status", batch).returncode == 0
    purged = user.askmill("purge", batch, "--trust-env-file")
    assert purged.returncode == 0, purged.stderr


async def test_cancel_reports_runs_that_it_may_not_cancel(
    user: CommandLine, server: RecordingServer, store: Store, redis_url: str
) -> None:
    """The batch is cancelled, but the command cancels its runs at the API only with consent."""
    user = user.with_settings(ASKMILL_REDIS_URL=redis_url, ASKMILL_API="responses")
    batch = await submit_batch(store, 1, base_url=PLANTED, api="responses", **ACCOUNT)
    await store.heartbeat(replace(worker_info(), base_url=PLANTED, api="responses", **ACCOUNT))
    claim = await claim_row(store, (await store.dispatch(1))[0])
    await store.save(claim, orjson.dumps({"thread_id": "conv_1", "run_id": "resp_1"}), run_created=True)
    expire_worker(redis_url, "w1")

    refused = user.askmill("cancel", batch)

    assert_refused(refused, server)
    assert f"{batch} is cancelled, but 1 run may go on" in refused.stderr
    trusted = user.askmill("cancel", batch, "--trust-env-file")
    assert trusted.returncode == 3, trusted.stderr
    assert server.headers("authorization") == {f"Bearer {KEY}"}
