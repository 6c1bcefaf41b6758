"""`import askmill`: answers in a program or a notebook, and everything that is the user's own left alone."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args, get_type_hints

import click
import psutil
import pytest

import askmill
from askmill.jobs.cli.root import askmill as command_line
from askmill.jobs.model import models
from askmill.jobs.results.columns import FIELDS
from askmill.options import FLAGS, Options, words_of
from askmill.types import BatchState, RowStatus
from tests.helpers.command_line import Terminal, terminal
from tests.stack import Stack
from tests.support import wait_until

ROOT = Path(__file__).parents[2]
OWN = "WHOSE = 'the user'\n"
PROOF = "assert {config.WHOSE, jobs.WHOSE, worker.WHOSE} == {'the user'}"


@pytest.fixture
def user(tmp_path: Path) -> Terminal:
    """A folder with modules that are called like our packages."""
    made = terminal(tmp_path)
    for name in ("config", "jobs", "worker"):
        (made.folder / f"{name}.py").write_text(OWN)
    return made


def _program(user: Terminal, text: str, name: str = "program.py") -> list[str]:
    (user.folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return [sys.executable, name]


def _printed(user: Terminal, text: str) -> str:
    """What the program prints; fails with its stderr when it does not end well."""
    command = _program(user, text)
    done = subprocess.run(
        command, cwd=user.folder, env=user.env(), capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("first", ["import config, jobs, worker", "import askmill"])
def test_modules_of_the_user_stay_the_users(user: Terminal, first: str) -> None:
    """Beside a `config.py`, whichever is imported first, within a running event loop, threads and all."""
    told = _printed(
        user,
        f"""
        {first}
        import askmill, asyncio

        async def cell():
            return askmill.run(["What is 6 * 7?"], offline=True)

        rows = asyncio.run(cell())
        import config, jobs, worker
        {PROOF}
        print(rows[0].answer, rows[0].steps[0].type, askmill.status().state)
        """,
    )

    assert told == "6*7 = 42. code_interpreter done\n"


def test_the_command_does_not_see_what_pythonpath_adds(user: Terminal) -> None:
    """As an editor sets it: command, worker, emulator and tutor are ours all the same."""
    user.write("q.csv", "question", "Solve 3x + 11 = 14")

    done = user.with_settings(PYTHONPATH=".").askmill(
        "run", "q.csv", "--offline", "-o", "-", "--columns", "answer"
    )

    assert done.returncode == 0, done.stderr
    assert "x = 1" in done.stdout


def test_celery_finds_the_application_in_a_folder_with_a_worker_of_its_own(user: Terminal) -> None:
    """`celery -A askmill.worker.celery.celery_app`; Celery looks into the working folder first."""
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


def test_a_file_is_submitted_looked_at_and_collected(tmp_path: Path, user: Terminal) -> None:
    """Where a worker is; what comes back is what the command line writes."""
    user.write(
        "q.csv", "id,question", "a,What is 2 + 2?", "b,What is 3 * 3? [emulate: failed(content_policy)]"
    )
    (tmp_path / "mill").mkdir()
    with Stack(tmp_path / "mill") as mill:
        mill.worker()
        asker = user.with_settings(
            ASKMILL_REDIS_URL=mill.redis_url, OPENAI_BASE_URL=mill.base_url, OPENAI_API_KEY="any"
        )
        told = _printed(
            asker,
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

    assert told.splitlines() == [
        "[(1, 'a', 'completed', 1), (2, 'b', 'failed', 1)]",
        "True 1 True",
        "True",
        "['content_policy']",
        "True",
    ]


def test_errors_are_those_of_the_command_line(user: Terminal) -> None:
    """By class and by word, with the faults of rows as data; secrets are masked."""
    told = _printed(
        user,
        """
        import os
        import askmill

        def fault(call, *given, **options):
            try:
                call(*given, **options)
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

    names = [line.split(" | ")[0] for line in told.splitlines()]
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
    assert "ASKMILL_CONCURRENCY" in told
    assert "row 1 cannot be written as JSON" in told


def test_a_batch_that_paused_itself_says_why(user: Terminal, mill: Stack) -> None:
    """No rows come back: an exception with the reason and what to do."""
    told = _printed(
        user.with_settings(OPENAI_BASE_URL=mill.base_url, OPENAI_API_KEY="any"),
        """
        import askmill
        questions = [f"What is {n} + {n}?" for n in range(40)]
        try:
            askmill.run(questions, budget_usd=0.0001, max_completion_tokens=500)
        except askmill.Unavailable as paused:
            print(paused)
        """,
    )

    assert "budget" in told
    assert "--budget" in told


def _at_work(user: Terminal) -> "subprocess.Popen[str]":
    """A program in the middle of a run that would take a minute."""
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
    going = subprocess.Popen(command, cwd=user.folder, env=user.env(), stdout=pipe, stderr=pipe, text=True)
    wait_until(
        lambda: '"running"' in user.askmill("list", "--state", "running", "--json").stdout, "it runs", 60
    )
    return going


def test_an_interrupt_ends_it_and_names_the_batch(user: Terminal) -> None:
    """One Ctrl-C; the worker hands over, and what was begun is stored."""
    going = _at_work(user)

    going.send_signal(signal.SIGINT)
    told, said = going.communicate(timeout=60)

    assert going.returncode == 0, said
    assert told.startswith("b_")
    assert told.endswith(" True\n")


def test_a_killed_program_leaves_nobody_at_work(user: Terminal) -> None:
    """kill -9 of a kernel: its command, and with it the worker, ends within seconds."""
    going = _at_work(user)
    started = psutil.Process(going.pid).children(recursive=True)

    going.kill()
    going.communicate(timeout=20)

    assert started
    wait_until(lambda: not any(_alive(process) for process in started), "all have ended", 30)


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_keywords_are_the_options_of_submit() -> None:
    """None is missing, none invented; a keyword is what the command line calls its parameter."""
    command = command_line.get_command(click.Context(command_line), "submit")
    assert command is not None
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}

    assert set(options) == set(get_type_hints(Options))
    for name, option in options.items():
        assert FLAGS.get(name, f"--{name.replace('_', '-')}") in option.opts


def test_values_become_words_of_the_command_line() -> None:
    """A list is repeated, a flag stands alone, what is not said is left out."""
    given: Options = {
        "files": ["a.txt", Path("b")],
        "new": True,
        "skip_bad_rows": False,
        "template": "-x {a}",
    }

    assert list(words_of(given)) == ["--file=a.txt", "--file=b", "--new", "--template=-x {a}"]


def test_the_types_are_those_of_the_json() -> None:
    """Rows have the fields of a result, statuses and states the values there are."""
    assert [field.name for field in dataclasses.fields(askmill.Row)] == ["row", "input", *FIELDS[1:], "steps"]
    assert set(get_args(RowStatus)) == set(models.JobStatus)
    assert set(get_args(BatchState)) == set(models.BatchState)


def test_every_public_name_says_what_it_is() -> None:
    """In a notebook `askmill.run?` is the documentation; what can be raised is told."""
    for name in askmill.__all__:
        assert getattr(askmill, name).__doc__, name
    for call in (askmill.run, askmill.submit, askmill.status, askmill.collect):
        assert "Raises:" in str(call.__doc__)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", ""),
        ('askmill.run(["1 + 1"], budget_usd="5")', "typeddict-item|arg-type"),
        ("askmill.run(3)", "arg-type"),
        ('askmill.status().counts["done"]', "index|typeddict|literal"),
        ("askmill.collect()[0].answr", "attr-defined"),
    ],
)
def test_mypy_strict_knows_the_types(tmp_path: Path, line: str, fault: str) -> None:
    """The example is right as it stands; a slip in it would be seen."""
    program = tmp_path / "program.py"
    program.write_text((ROOT / "examples/library.py").read_text(encoding="utf-8") + line + "\n")
    command = [sys.executable, "-P", "-m", "mypy", "--strict", "--config-file=", "--cache-dir"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}

    done = subprocess.run(
        [*command, str(tmp_path.parent / "mypy_cache"), str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode == 0) == (not fault), done.stdout
    assert not fault or any(f"[{code}]" in done.stdout for code in fault.split("|")), done.stdout
