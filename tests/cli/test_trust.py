"""A key of the environment never goes to an address that a planted `.env` names, unless the person agrees.

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
from tests.helpers.batches import card, claimed, stop_heart, submitted
from tests.helpers.command_line import LIMIT_S, Terminal, terminal
from tests.helpers.sniffer import Eavesdropper, eavesdropper
from tests.support import wait_until

KEY = "sk-environment-0123456789"
PLANTED = "http://planted.example/v1"
SECRETS = {
    "OPENAI_API_KEY": KEY,
    "OPENAI_ORG_ID": "org-environment",
    "OPENAI_PROJECT_ID": "proj-environment",
    "OPENAI_CUSTOM_HEADERS": "X-Gateway: gateway-environment",
}
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
THAT_ASK = {name: words for name, words in COMMANDS.items() if name not in {"submit", "worker"}}


@pytest.fixture
def server() -> Iterator[Eavesdropper]:
    """Where every request arrives."""
    with eavesdropper() as made:
        yield made


@pytest.fixture
def user(tmp_path: Path, server: Eavesdropper) -> Terminal:
    """All of `SECRETS` in the environment, and an address in the folder's `.env`."""
    (tmp_path / ".netrc").write_text("default login me password netrc-environment\n", encoding="utf-8")
    (tmp_path / ".netrc").chmod(0o600)
    proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy"), server.proxy)
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), HOST)
    made = terminal(tmp_path).with_settings(**SECRETS, **proxy, **direct, HOME=str(tmp_path))
    made.write("q.csv", "question", "What is 1 + 1?")
    made.write("notes.txt", "a file for the tools")
    made.write(".env", f"OPENAI_BASE_URL={PLANTED}")
    return made


def assert_refused(done: "subprocess.CompletedProcess[str]", server: Eavesdropper) -> None:
    """Exit 2, and a sentence that names the file, the address and the option; nothing was sent."""
    said = done.stderr + done.stdout
    assert done.returncode == 2, said
    for part in (".env", PLANTED, "--trust-env-file", "OPENAI_API_KEY"):
        assert part in said
    assert KEY not in said
    assert server.asked == []


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_key_of_the_environment_does_not_go_to_an_address_of_a_planted_file(
    user: Terminal, server: Eavesdropper, words: tuple[str, ...]
) -> None:
    """Every command that would send it refuses, naming the file, the address and the option."""
    assert_refused(user.askmill(*words, given="Hello?\n"), server)


def test_a_worker_decides_for_itself_however_it_was_started(user: Terminal, server: Eavesdropper) -> None:
    """A batch of that address waits; `python -m askmill.worker` and Celery's own command line refuse as well."""
    submitted = user.with_settings(OPENAI_BASE_URL=PLANTED).askmill("submit", "q.csv")
    assert submitted.returncode == 0, submitted.stderr
    celery = ["-m", "celery", "-A", "askmill.worker.celery.celery_app", "worker"]
    redis = {"ASKMILL_REDIS_URL": "redis://127.0.0.1:9/0"}
    for words, settings in ((["-P", "-m", "askmill.worker"], {}), (celery, redis)):
        done = subprocess.run(
            [sys.executable, *words],
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
    assert server.asked == []


def test_a_worker_that_is_trusted_asks_and_names_the_address(user: Terminal, server: Eavesdropper) -> None:
    """`submit` and `worker` with the option; the worker sends the key to the address that it has named."""
    submitted = user.askmill("submit", "q.csv", "--trust-env-file")
    assert submitted.returncode == 0, submitted.stderr
    line = f"Asks {PLANTED} (OPENAI_BASE_URL in .env of this folder)."
    assert line in submitted.stderr
    worker = user.start("worker", "--trust-env-file")
    try:
        wait_until(lambda: server.sent("authorization"), "the worker has asked", timeout_s=30)
    finally:
        worker.terminate()
        _, said = worker.communicate(timeout=LIMIT_S)
    assert line in said
    assert server.sent("authorization") == {f"Bearer {KEY}"}


@pytest.mark.parametrize("words", THAT_ASK.values(), ids=THAT_ASK)
def test_with_the_option_the_key_goes(user: Terminal, server: Eavesdropper, words: tuple[str, ...]) -> None:
    """The person has agreed: everything is sent, as from a file that they wrote."""
    done = user.askmill(*words, "--trust-env-file", given="Hello?\n")

    assert done.returncode == 3, done.stderr + done.stdout
    assert server.sent("authorization") == {f"Bearer {KEY}"}
    assert server.sent("openai-organization") == {"org-environment"}
    assert server.sent("x-gateway") == {"gateway-environment"}
    if words[0] in {"run", "submit"}:
        assert f"Asks {PLANTED} (OPENAI_BASE_URL in .env of this folder)." in done.stderr


@pytest.mark.parametrize("words", THAT_ASK.values(), ids=THAT_ASK)
def test_a_loopback_address_of_a_planted_file_is_asked_without_the_key(
    user: Terminal, server: Eavesdropper, words: tuple[str, ...]
) -> None:
    """Asked, but nothing of the environment goes along: no key, organization, project, header or .netrc."""
    user.write(".env", f"OPENAI_BASE_URL={server.base_url}")

    done = user.askmill(*words, given="Hello?\n")

    assert done.returncode == 3, done.stderr + done.stdout
    assert server.asked
    assert server.sent("authorization") == set()
    assert not server.saw("environment")
    if words[0] in {"run", "submit"}:
        assert f"Asks {server.base_url} (OPENAI_BASE_URL in .env of this folder), without" in done.stderr


@pytest.mark.parametrize("words", [COMMANDS["run"], COMMANDS["doctor"]], ids=["run", "doctor"])
def test_a_file_may_have_a_key_for_its_own_address(
    user: Terminal, server: Eavesdropper, words: tuple[str, ...]
) -> None:
    """Key and address of one source: asked with that key, and with nothing of the environment."""
    user.write(".env", f"OPENAI_BASE_URL={PLANTED}", "OPENAI_API_KEY=sk-of-the-file-0123456789")

    done = user.with_settings(OPENAI_API_KEY="").askmill(*words, given="Hello?\n")

    assert done.returncode == 3, done.stderr + done.stdout
    assert server.sent("authorization") == {"Bearer sk-of-the-file-0123456789"}
    assert not server.saw("environment")


def test_an_address_of_the_environment_is_asked_with_the_key(user: Terminal, server: Eavesdropper) -> None:
    """It goes before that of `.env`, and is named."""
    done = user.with_settings(OPENAI_BASE_URL=server.base_url).askmill("run", "q.csv")

    assert done.returncode == 3, done.stderr
    assert f"Asks {server.base_url} (OPENAI_BASE_URL of the environment)." in done.stderr
    assert server.sent("authorization") == {f"Bearer {KEY}"}


def test_offline_names_no_address(user: Terminal, server: Eavesdropper) -> None:
    """The emulator answers, whatever `.env` names."""
    done = user.askmill("run", "q.csv", "--offline")

    assert done.returncode == 0, done.stderr
    assert "Asks" not in done.stderr
    assert server.asked == []


@pytest.mark.parametrize("answer", ["y", "n"])
def test_on_a_terminal_the_person_is_asked(user: Terminal, server: Eavesdropper, answer: str) -> None:
    """The question names file and address; yes sends the key, no is exit 2 and sends nothing."""
    code, shown = on_a_terminal(user, answer, "run", "q.csv")

    assert f"{user.folder}/.env names {PLANTED}. Send OPENAI_API_KEY" in shown
    assert code == (3 if answer == "y" else 2), shown
    assert server.sent("authorization") == ({f"Bearer {KEY}"} if answer == "y" else set())
    assert bool(server.asked) == (answer == "y")
    assert KEY not in shown


def on_a_terminal(user: Terminal, answer: str, *words: str) -> tuple[int, str]:
    """The command on a terminal of its own, its question answered: the exit code, and what was shown."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        user.script(*words), cwd=user.folder, env=user.env(), stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    shown = b""
    with suppress(OSError):  # what reading ends with, once nobody holds the other end
        while piece := os.read(ours, 4096):
            answered, shown = b"[y/N]" in shown, shown + piece
            if b"[y/N]" in shown and not answered:
                os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    return process.wait(LIMIT_S), " ".join(shown.decode().split())


@pytest.mark.parametrize("trusted", [False, True])
def test_the_library_raises_unless_told_to_trust(user: Terminal, server: Eavesdropper, trusted: bool) -> None:
    """A program has no terminal to be asked on, even when it runs on one."""
    program = f"import askmill\naskmill.run('q.csv', trust_env_file={trusted})\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=user.folder,
        env=user.env(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )

    assert done.returncode == 1
    assert f"askmill.errors.{'Unavailable' if trusted else 'UsageError'}: " in done.stderr
    assert ("trust_env_file=True" in done.stderr) == (not trusted)
    assert server.sent("authorization") == ({f"Bearer {KEY}"} if trusted else set())


def test_purge_refuses_before_it_deletes_anything(user: Terminal, server: Eavesdropper) -> None:
    """What the batch made at the API is listed here only: it stays, until the person says what may be asked."""
    batch = user.with_settings(OPENAI_BASE_URL=PLANTED).askmill("submit", "q.csv").stdout.strip()
    assert user.askmill("cancel", batch).returncode == 0

    assert_refused(user.askmill("purge", batch), server)

    assert user.askmill("status", batch).returncode == 0
    purged = user.askmill("purge", batch, "--trust-env-file")
    assert purged.returncode == 0, purged.stderr


async def test_cancel_says_which_runs_go_on(
    user: Terminal, server: Eavesdropper, store: Store, redis_url: str
) -> None:
    """The batch is cancelled all the same; its runs are ended by the command only with consent."""
    user = user.with_settings(ASKMILL_REDIS_URL=redis_url, ASKMILL_API="responses")
    batch = await submitted(store, 1, base_url=PLANTED, api="responses")
    await store.heartbeat(replace(card(), base_url=PLANTED, api="responses"))
    claim = await claimed(store, (await store.dispatch(1))[0])
    await store.save(claim, orjson.dumps({"thread_id": "conv_1", "run_id": "resp_1"}), run_made=True)
    stop_heart(redis_url, "w1")

    refused = user.askmill("cancel", batch)

    assert_refused(refused, server)
    assert f"{batch} is cancelled, but 1 run may go on" in refused.stderr
    asked = user.askmill("cancel", batch, "--trust-env-file")
    assert asked.returncode == 3, asked.stderr
    assert server.sent("authorization") == {f"Bearer {KEY}"}
