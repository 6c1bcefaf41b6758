"""`import askmill`: answers in a program or a notebook, without disturbing the user's own modules."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import get_args

import click
import psutil
import pytest

import askmill
from askmill.jobs.cli.root import askmill as command_line
from askmill.jobs.model import models
from askmill.jobs.results.columns import FIELDS
from askmill.options import FLAGS, Options, to_argv
from askmill.types import BatchState, RowStatus
from tests.helpers import preloaded
from tests.helpers.command_line import CommandLine, terminal
from tests.helpers.views import status_view
from tests.stack import Stack
from tests.support import wait_until

ROOT = Path(__file__).parents[2]
USER_MODULE = "OWNER = 'the user'\n"
OWNER_CHECK = "assert {config.OWNER, jobs.OWNER, worker.OWNER} == {'the user'}"


@pytest.fixture
def user(tmp_path: Path) -> CommandLine:
    """A folder with modules named like the top folders of askmill's repository."""
    user = terminal(tmp_path)
    for name in ("config", "jobs", "worker"):
        (user.folder / f"{name}.py").write_text(USER_MODULE)
    return user


def _program(user: CommandLine, text: str, name: str = "program.py") -> list[str]:
    (user.folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return [sys.executable, name]


def _stdout_of(user: CommandLine, text: str) -> str:
    """Run the program and return its stdout; fails with its stderr if it fails."""
    done = preloaded.run(
        _program(user, text), cwd=user.folder, env=user.env(), text=True, timeout=90, fresh=user.fresh
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("first", ["import config, jobs, worker", "import askmill"])
def test_the_users_modules_are_imported_unchanged(user: CommandLine, first: str) -> None:
    """Beside a user's `config.py`, whichever is imported first, also in a running event loop."""
    output = _stdout_of(
        replace(user, fresh=True),
        f"""
        {first}
        import askmill, asyncio

        async def cell():
            return askmill.run(["What is 6 * 7?"], offline=True)

        rows = asyncio.run(cell())
        import config, jobs, worker
        {OWNER_CHECK}
        print(rows[0].answer, rows[0].steps[0].type, askmill.status().state)
        """,
    )

    assert output == "6*7 = 42. code_interpreter done\n"


def test_the_command_ignores_modules_on_pythonpath(user: CommandLine) -> None:
    """An editor may set PYTHONPATH; command, worker, emulator and tutor import their own modules."""
    user.write("q.csv", "question", "Solve 3x + 11 = 14")

    done = user.with_settings(PYTHONPATH=".").askmill(
        "run", "q.csv", "--offline", "-o", "-", "--columns", "answer"
    )

    assert done.returncode == 0, done.stderr
    assert "x = 1" in done.stdout


def test_celery_finds_the_application_in_a_folder_with_a_worker_of_its_own(user: CommandLine) -> None:
    """`celery -A askmill.worker.celery.celery_app`: Celery searches the working folder first."""
    command = [
        str(Path(sys.executable).with_name("celery")),
        "-A",
        "askmill.worker.celery.celery_app",
        "report",
    ]
    settings = {"ASKMILL_REDIS_URL": "redis://127.0.0.1:1/0", "OPENAI_API_KEY": "any"}

    done = subprocess.run(
        command, cwd=user.folder, env={**user.env(), **settings}, capture_output=True, text=True, check=False
    )

    assert "askmill.worker.celery.greenlet_pool:TaskPool" in done.stdout, done.stderr


def test_submit_status_and_collect(tmp_path: Path, user: CommandLine) -> None:
    """With a worker, the functions return what the command line writes."""
    user.write(
        "q.csv", "id,question", "a,What is 2 + 2?", "b,What is 3 * 3? [emulate: failed(content_policy)]"
    )
    (tmp_path / "stack").mkdir()
    with Stack(tmp_path / "stack") as stack:
        stack.worker()
        configured = user.with_settings(
            ASKMILL_REDIS_URL=stack.redis_url, OPENAI_BASE_URL=stack.base_url, OPENAI_API_KEY="any"
        )
        output = _stdout_of(
            configured,
            """
            import askmill
            batch = askmill.submit("q.csv", id_column="id", tools=["code_interpreter"])
            rows = askmill.collect(batch, wait=True)
            status = askmill.status(batch)
            print([(row.row, row.input["id"], row.status, row.attempts) for row in rows])
            print(status.batch == batch, status.counts["failed"], status.tokens.prompt > 0)
            print(status.submitted_at < status.finished_at)
            print([row.error[:14] for row in askmill.collect(batch, statuses=["failed"])])
            print(askmill.submit("q.csv", id_column="id", tools=["code_interpreter"]) == batch)
            """,
        )

    assert output.splitlines() == [
        "[(1, 'a', 'completed', 1), (2, 'b', 'failed', 1)]",
        "True 1 True",
        "True",
        "['content_policy']",
        "True",
    ]


def test_errors_are_those_of_the_command_line(user: CommandLine) -> None:
    """The same classes and messages, with the faults of rows as data and without secrets."""
    output = _stdout_of(
        user,
        """
        import os
        import askmill

        def fault(call, *arguments, **options):
            try:
                call(*arguments, **options)
            except askmill.AskmillError as error:
                print(type(error).__name__, "|", str(error).splitlines()[0][:60], "|", error.exit_code)
                return error

        wrong = fault(askmill.run, [{"question": "1 + 1"}, {"question": ""}], offline=True)
        print(wrong.faults[0].line, wrong.total)
        fault(askmill.run, "nowhere.csv", offline=True)
        fault(askmill.run, ["1 + 1"], offline=True, deadline_s=-1)
        fault(askmill.run, [{"question": float("nan")}], offline=True)
        fault(askmill.run, ["1 + 1"], offline=True, temperature=9)
        fault(askmill.status, "b_nowhere")
        os.environ["ASKMILL_REDIS_URL"] = "redis://:secret@127.0.0.1:1/0"
        assert "secret" not in str(fault(askmill.collect))
        os.environ["ASKMILL_CONCURRENCY"] = "many"
        fault(askmill.status)
        """,
    )

    names = [line.split(" | ")[0] for line in output.splitlines()]
    assert names == [
        "InputFaults",
        "2 1",
        "UsageError",
        "UsageError",
        "UsageError",
        "ProfileError",
        "NotFound",
        "RedisUnavailable",
        "UsageError",
    ]
    assert "ASKMILL_CONCURRENCY" in output
    assert "row 1 cannot be written as JSON" in output


def test_a_paused_batch_raises_unavailable_with_the_reason(user: CommandLine, stack: Stack) -> None:
    """No rows are returned; the message has the reason and what to do."""
    output = _stdout_of(
        user.with_settings(OPENAI_BASE_URL=stack.base_url, OPENAI_API_KEY="any"),
        """
        import askmill
        questions = [f"What is {n} + {n}?" for n in range(40)]
        try:
            askmill.run(questions, budget_usd=0.0001, max_completion_tokens=500)
        except askmill.Unavailable as paused:
            print(paused)
        """,
    )

    assert "budget" in output
    assert "--budget" in output


def _start_long_run(user: CommandLine, *, fresh: bool = False) -> "subprocess.Popen[str]":
    """Start a program whose run takes a minute, and wait until the run is in flight."""
    command = _program(
        user,
        """
        import askmill
        try:
            askmill.run(["What is 2 + 2? [emulate: completed after=60]"], offline=True)
        except askmill.Interrupted as ended:
            print(ended.batch, askmill.status().batch == ended.batch)
        """,
    )
    pipe = subprocess.PIPE
    process = preloaded.Popen(
        command, cwd=user.folder, env=user.env(), stdout=pipe, stderr=pipe, text=True, fresh=fresh
    )
    wait_until(
        lambda: '"running"' in user.askmill("list", "--state", "running", "--json").stdout, "it runs", 60
    )
    return process


def test_an_interrupt_raises_interrupted_with_the_batch(user: CommandLine) -> None:
    """One Ctrl-C: the worker hands over, and what was started is stored."""
    process = _start_long_run(user)

    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == 0, stderr
    assert stdout.startswith("b_")
    assert stdout.endswith(" True\n")


def test_a_killed_program_leaves_nobody_running(user: CommandLine) -> None:
    """kill -9 of a notebook kernel: the command and its worker end within seconds."""
    process = _start_long_run(user, fresh=True)  # so that the command is its child
    started = psutil.Process(process.pid).children(recursive=True)

    process.kill()
    process.communicate(timeout=20)

    assert started
    wait_until(lambda: not any(_alive(process) for process in started), "all have ended", 30)


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_keywords_are_the_options_of_submit() -> None:
    """Both have the same names, and each keyword maps to a flag of its option."""
    command = command_line.get_command(click.Context(command_line), "submit")
    assert command is not None
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}

    assert set(options) - {"quiet"} == set(Options.__annotations__), "quiet is `progress=False`"
    for name, option in options.items():
        assert FLAGS.get(name, f"--{name.replace('_', '-')}") in option.opts


def test_options_become_arguments_of_the_command_line() -> None:
    """A list repeats the flag, True is the flag alone, None and False are omitted."""
    options = {"files": ["a.txt", Path("b")], "new": True, "skip_bad_rows": False, "template": "-x {a}"}

    assert list(to_argv(options)) == ["--file=a.txt", "--file=b", "--new", "--template=-x {a}"]


def test_the_types_are_those_of_the_json() -> None:
    """Rows have the fields of a result, Status those of `status --json`; statuses have all values of their enums."""
    assert [field.name for field in dataclasses.fields(askmill.Row)] == [
        "row",
        "input",
        *FIELDS[1:],
        "steps",
        "parsed",
    ]
    assert [field.name for field in dataclasses.fields(askmill.Status)] == list(status_view({}).to_json())
    assert set(get_args(RowStatus)) == set(models.JobStatus)
    assert set(get_args(BatchState)) == set(models.BatchState)


def test_every_public_name_has_a_docstring() -> None:
    """In a notebook `askmill.run?` is the documentation; functions list what they raise."""
    for name in askmill.__all__:
        assert getattr(askmill, name).__doc__, name
    calls = (askmill.run, askmill.submit, askmill.status, askmill.collect, askmill.cancel, askmill.retry)
    for call in (*calls, askmill.estimate):
        assert "Raises:" in str(call.__doc__)


MISTAKES = {
    'askmill.run(["1 + 1"], budget_usd="5")': {"typeddict-item", "arg-type"},
    "askmill.run(3)": {"arg-type"},
    'askmill.status().counts["done"]': {"index", "typeddict", "literal"},
    "askmill.collect()[0].answr": {"attr-defined"},
}
"""Line → the codes by which mypy may report it."""


@pytest.mark.checks
def test_mypy_strict_knows_the_types(tmp_path: Path) -> None:
    """The example passes; each mistake added at its end is reported, and nothing else is."""
    example = (ROOT / "examples/library.py").read_text(encoding="utf-8")
    program = tmp_path / "program.py"
    program.write_text(example + "".join(f"{line}\n" for line in MISTAKES))
    # As for an installed package: only mistakes of the program itself are reported.
    command = [sys.executable, "-P", "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent"]
    command += [
        "--no-error-summary",
        "--hide-error-context",
        "--cache-dir",
        str(tmp_path / "cache"),
        str(program),
    ]

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    reported = [
        (int(number), code)
        for number, code in re.findall(
            r"^program\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE
        )
    ]
    first = len(example.splitlines()) + 1
    assert [number for number, _ in reported] == list(range(first, first + len(MISTAKES))), done.stdout
    for (_, code), codes in zip(reported, MISTAKES.values(), strict=True):
        assert code in codes, done.stdout
