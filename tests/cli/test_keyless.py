"""Without a key: requests to a local server have no Authorization header, other servers get no request.

The emulator answers only with `--offline`, and its rows say so.
"""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.model.models import Api
from tests.helpers import preloaded
from tests.helpers.command_line import CommandLine, terminal
from tests.helpers.local_commands import processes_in
from tests.helpers.recording_server import RecordingServer
from tests.stack import Stack

AMBIENT = {
    "OPENAI_ADMIN_KEY": "sk-admin-0123456789",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer sk-custom-0123456789",
}
"""Credentials that the SDK would send by itself."""
REMEDIES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "--offline")
ELSEWHERE = "https://gpu.example.com/v1"
PYTHON = [sys.executable, "-P"]
CALL = "import askmill\ntry:\n    askmill.{}(['What is 6 * 7?'])\nexcept askmill.UsageError as error:\n    "
CALL += "print(error, file=__import__('sys').stderr)\n    raise SystemExit(error.exit_code)\n"
COMMANDS = {
    "run": ["askmill", "run", "q.csv"],
    "run to stdout": ["askmill", "run", "q.csv", "-o", "-", "--yes"],
    "submit": ["askmill", "submit", "q.csv"],
    "submit with an upload": ["askmill", "submit", "q.csv", "--tool", "file_search", "--file", "notes.txt"],
    "pilot": ["askmill", "estimate", "q.csv", "--pilot", "1"],
    "chat": ["askmill", "chat"],
    "worker": ["askmill", "worker"],
    "worker module": [*PYTHON, "-m", "askmill.worker"],
    "library run": [sys.executable, "call_run.py"],
    "library submit": [sys.executable, "call_submit.py"],
}


@pytest.fixture
def user(tmp_path: Path) -> CommandLine:
    user = terminal(tmp_path)
    user.write("q.csv", "question", "What is 6 * 7?", "What is 1 + 1?")
    user.write("notes.txt", "Iron is a metal.")
    for name in ("run", "submit"):
        user.write(f"call_{name}.py", CALL.format(name))
    return user


def _run_program(user: CommandLine, argv: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a program as the user, to its end."""
    if argv[0] == "askmill":
        return user.askmill(*argv[1:], stdin="What is 2 + 3?\n")
    return preloaded.run(argv, cwd=user.folder, env=user.env(), text=True, timeout=60)


@pytest.mark.parametrize("name", COMMANDS)
def test_without_key_address_or_offline_no_request_is_sent(
    user: CommandLine, tmp_path: Path, redis_url: str, name: str
) -> None:
    """Exit code 2 with the three remedies; no process is started, no file written, nothing stored in Redis."""
    before = sorted(user.folder.iterdir())

    bare = _run_program(user, COMMANDS[name])
    configured = _run_program(
        user.with_settings(OPENAI_BASE_URL=ELSEWHERE, ASKMILL_REDIS_URL=redis_url, ASKMILL_API="responses"),
        COMMANDS[name],
    )

    for refused in (bare, configured):
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert refused.stdout == ""
        assert [word for word in REMEDIES if word not in refused.stderr] == []
    assert "https://api.openai.com/v1" in bare.stderr
    assert ELSEWHERE in configured.stderr
    assert sorted(user.folder.iterdir()) == before
    assert not (tmp_path / "data").exists()
    assert processes_in(tmp_path) == []
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_celery_starts_no_worker_without_a_key(user: CommandLine) -> None:
    """`celery -A askmill.worker.celery.celery_app worker` refuses with the same message."""
    command = [
        str(Path(sys.executable).with_name("celery")),
        "-A",
        "askmill.worker.celery.celery_app",
        "worker",
    ]
    without_redis = user.with_settings(ASKMILL_REDIS_URL=f"redis://{HOST}:{free_port()}/0")

    refused = _run_program(without_redis, command)

    assert refused.returncode != 0
    assert [word for word in REMEDIES if word not in refused.stderr] == []


def test_commands_without_requests_need_no_key(user: CommandLine) -> None:
    """`estimate` prices the default model, `list` and `status` work, `doctor` names the fault."""
    estimate = user.askmill("estimate", "q.csv")
    listed = user.askmill("list")
    status = user.askmill("status")
    doctor = user.askmill("doctor")

    assert estimate.returncode == 0, estimate.stderr
    assert "gpt-6-luna" in estimate.stdout
    assert "$" in estimate.stdout
    assert listed.returncode == 0, listed.stderr
    assert "OPENAI_API_KEY" not in listed.stderr + status.stderr
    assert doctor.returncode == 2
    assert [word for word in REMEDIES if word not in doctor.stdout] == []


def test_offline_the_emulator_answers_though_a_key_is_set(user: CommandLine) -> None:
    """`model` is `askmill-emulator` in every row, whatever the options name, and no cost is shown anywhere.

    The configured address gets no request, and the batch is the same whatever model is named.
    """
    file = user.write("own.csv", "question,model", "What is 6 * 7?,gpt-5", "What is 1 + 1?,")
    with_key = user.with_settings(
        OPENAI_API_KEY="any", OPENAI_BASE_URL=f"http://{HOST}:{free_port()}/v1", ASKMILL_MODEL="gpt-6-sol"
    )
    paid = ("--model", "gpt-6-sol", "--override", "model", "--budget", "0.000001")

    done = with_key.askmill("run", file, "--offline", *paid, "-o", "-")

    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["status"] for row in rows] == ["completed"] * 2
    assert [row["model"] for row in rows] == ["gpt-5", ""], "the input is unchanged"
    assert {row["askmill_model"] for row in rows} == {"askmill-emulator"}
    assert {row["cost_usd"] for row in rows} == {""}
    notes = [line for line in done.stderr.splitlines() if "ignored" in line]
    assert len(notes) == 1
    assert [word for word in ("--model", "--override model", "--budget") if word not in notes[0]] == []
    assert "The offline emulator answered" in done.stderr
    assert "$" not in done.stderr
    status = json.loads(user.askmill("status", "--json").stdout)
    assert status["cost_usd"] is None
    report = user.askmill("report", "-o", "-").stdout
    shown = user.askmill("status").stdout + user.askmill("list").stdout + user.askmill("show", "1").stdout
    assert "$" not in shown + re.sub("<script>.*?</script>", "", report, flags=re.DOTALL)
    assert "price" not in shown + report
    again = user.askmill("run", file, "--offline", "--override", "model", "-o", "-")
    assert again.stdout == done.stdout, "an ignored model is not part of the batch's identity"
    assert "ignored" in again.stderr


def test_the_library_says_that_the_emulator_answered(user: CommandLine) -> None:
    """`Row.model`, `Row.cost_usd` and `Status.cost_usd`, also with a key, a model and a budget."""
    program = """
        import askmill
        row = askmill.run(["What is 6 * 7?"], offline=True, model="gpt-6-sol", budget_usd=1e-6)[0]
        print(row.answer, row.model, row.cost_usd, askmill.status().cost_usd)
    """
    argv = [sys.executable, user.write("program.py", *(line.strip() for line in program.splitlines()))]

    done = _run_program(user.with_settings(OPENAI_API_KEY="any"), argv)

    assert done.stdout == "6*7 = 42. askmill-emulator None None\n", done.stderr


def test_chat_offline_names_the_emulator(user: CommandLine) -> None:
    """Even if a key is set; a message says that --model is ignored."""
    with_key = user.with_settings(OPENAI_API_KEY="any")

    done = with_key.askmill("chat", "--offline", "--model", "gpt-6-sol", stdin="What is 2 + 3?\n")

    assert done.returncode == 0, done.stderr
    assert "5" in done.stdout
    assert "offline emulator" in done.stderr
    assert "--model is ignored" in done.stderr


def test_a_key_sent_in_plain_text_over_a_network_gives_a_warning(user: CommandLine) -> None:
    """One line on stderr; none for this machine, for an encrypted connection or without a key."""
    warning, address = "without encryption", "http://192.168.178.20:8000/v1"

    def warnings(base_url: str, key: str = "any") -> list[str]:
        settings = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": key, "ASKMILL_API": "responses"}
        done = user.with_settings(**settings).askmill("submit", "q.csv")
        assert done.returncode == 0, done.stderr
        return [line for line in done.stderr.splitlines() if warning in line]

    assert len(warnings(address)) == 1
    assert address in warnings(address)[0]
    assert warnings(address, key="") == []
    assert warnings("http://localhost:8000/v1") == []
    assert warnings("https://gpu.example.com/v1") == []


@pytest.mark.parametrize("api", ["assistants", "responses"])
def test_a_local_server_without_a_key_gets_no_authorization(
    user: CommandLine, tmp_path: Path, api: Api
) -> None:
    """None of the uploads, creates, polls, lists and deletions of `run`, `chat` and `purge` has the header.

    The requests name the model of the settings, and so do the rows.
    """
    (tmp_path / "stack").mkdir()
    with Stack(tmp_path / "stack", api=api) as stack, RecordingServer(upstream=stack.base_url) as server:
        settings = {"OPENAI_BASE_URL": server.base_url, "ASKMILL_API": api, **AMBIENT}
        keyless = user.with_settings(ASKMILL_REDIS_URL=stack.redis_url, **settings)

        done = keyless.askmill("run", "q.csv", "--tool", "file_search", "--file", "notes.txt", "-o", "-")
        chat = keyless.askmill("chat", stdin="What is 2 + 3?\nexit\n")
        batch = json.loads(keyless.askmill("status", "--json").stdout)["batch"]
        purge = keyless.askmill("purge", batch)

    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["status"], row["model"]) for row in rows] == [("completed", "gpt-6-luna")] * 2
    assert all(float(row["cost_usd"]) > 0 for row in rows)
    assert chat.returncode == 0, chat.stderr
    assert purge.returncode == 0, purge.stderr
    methods = {line.split()[0] for line in server.request_lines}
    assert methods == {"GET", "POST", "DELETE"}
    assert server.headers("authorization") == set()
