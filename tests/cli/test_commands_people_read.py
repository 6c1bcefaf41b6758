"""What people read on a terminal: `list`, what is missing, unused slots, questions, suggestions, pipes."""

import os
import re
import subprocess
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from askmill.jobs.display.batch_table import batch_table, format_age
from askmill.jobs.display.compare_view import fitting_lines
from askmill.jobs.display.idle_slots import idle_line
from askmill.jobs.display.progress import has_live_terminal, panel
from askmill.jobs.display.status_text import log_line, missing_line, status_lines
from askmill.jobs.model.expected import Accuracy, Expectation
from askmill.jobs.model.models import BatchState, InputSpec
from askmill.jobs.run.watch import watch
from askmill.jobs.store import Store
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.records import NewRow
from askmill.jobs.store.views import Counts, StatusView, WorkerInfo
from askmill.jobs.store.waits import RunLimit, run_limit_of
from tests.helpers.batches import make_result, submit_batch
from tests.helpers.command_line import CommandLine, terminal
from tests.helpers.pty_terminal import on_terminal
from tests.helpers.views import status_view


@pytest.fixture
def user(tmp_path: Path) -> CommandLine:
    return terminal(tmp_path)


@pytest.fixture
def waiting_user(user: CommandLine) -> CommandLine:
    """A user whose batches wait, since nothing listens where they would be asked."""
    return user.with_settings(
        OPENAI_API_KEY="any", OPENAI_BASE_URL="http://127.0.0.1:9/v1", ASKMILL_API="responses"
    )


def _table(views: list[StatusView], width: int | None) -> list[str]:
    return batch_table(views, width).splitlines()


def _views() -> list[StatusView]:
    running = status_view({"c": 1680, "f": 3, "q": 1317}, model="gpt-5-mini")
    running = replace(
        running,
        now_ms=3 * 3600_000,
        counts=Counts(running.counts.rows_by_byte, {"cost_nano": 1_230_000_000}),
        accuracy=Accuracy(1000, 931),
    )
    done = status_view({"c": 4}, BatchState.DONE, model="gpt-5-mini")
    return [
        running,
        replace(done, batch=replace(done.batch, id="b_000002", name="a long name of a batch" * 3)),
    ]


def test_the_list_is_a_table() -> None:
    """17.6: headed and aligned: id, name, state, rows done of rows, failed, model, cost, accuracy, age."""
    header, first, second = _table(_views(), None)

    assert header.split() == ["id", "name", "state", "rows", "failed", "model", "cost", "accuracy", "age"]
    assert re.split(r" {2,}", first) == [
        "b_000001",
        "sums",
        "running",
        "1,683 of 3,000",
        "3",
        "gpt-5-mini",
        "$1.23",
        "93.1 %",
        "3 h",
    ]
    assert header.index("state") == first.index("running") == second.index("done")
    assert [format_age(s) for s in (5, 90, 7200, 3 * 86400)] == ["now", "1 min", "2 h", "3 d"]


@pytest.mark.parametrize("width", [30, 50, 60, 80, 100, 140])
def test_the_list_fits_its_terminal(width: int) -> None:
    """In a narrow one names are cut, then columns left out; id, name, state and the rows always stand."""
    lines = _table(_views(), width)

    assert max(map(len, lines)) <= max(width, 50)
    assert lines[1].startswith("b_000001  sums")
    assert "1,683 of 3,000" in lines[1]
    assert ("gpt-5-mini" in lines[1]) == (width >= 100)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ({"c": 1680, "q": 1320}, "1,680 of 3,000 rows have ended; the rest is queued."),
        ({"c": 10, "r": 1, "p": 2, "w": 1}, "10 of 14 rows have ended; 1 is running, 3 are queued."),
        ({"r": 1}, "0 of 1 row has ended; the rest is running."),
        ({"c": 2, "f": 1}, ""),
    ],
)
def test_collect_says_what_is_missing(rows: dict[str, int], line: str) -> None:
    """17.6: of a batch that is not over, and nothing of one that is."""
    assert missing_line(status_view(rows)) == line


WORKER = WorkerInfo("w", "host", 1, 20, "assistants", "http://api")


@pytest.mark.parametrize(
    ("rows", "limit", "claimed", "reason"),
    [
        ({"q": 100, "r": 8}, RunLimit(8, from_api=False), 8, "ASKMILL_MAX_RUNS allows 8 runs at a time"),
        ({"q": 100, "r": 1}, RunLimit(1, from_api=True), 1, "after the API's rate limit 1 run may be"),
        ({"w": 30, "r": 2}, None, 2, "30 rows wait for the time at which they are due again"),
        ({"h": 1, "r": 2}, None, 2, "1 row waits for an earlier row of the same conversation"),
        ({"q": 100, "r": 20}, RunLimit(8, from_api=True), 20, ""),
        ({"q": 100, "r": 19}, None, 19, ""),
        ({"r": 2}, RunLimit(2, from_api=False), 2, ""),
    ],
)
def test_status_says_why_slots_are_unused(
    rows: dict[str, int], limit: RunLimit | None, claimed: int, reason: str
) -> None:
    """17.6: the limits, the times of next attempts, conversations. Nothing while all slots are used."""
    view = replace(status_view(rows), workers=(WORKER,), run_limit=limit, claimed=claimed)

    line = idle_line(view)

    assert reason in line
    assert line.startswith(f"{20 - claimed} of 20 slots are unused: ") if reason else not line


def test_the_limit_of_runs_is_the_one_that_dispatch_keeps() -> None:
    """The users' limit, or the API's, which grows by 5 % a second; the lower one counts."""
    throttle = {b"max_runs": b"10", b"halved_at": b"1000"}

    assert run_limit_of({}, {}, 0) is None
    assert run_limit_of({b"max_runs": b"8"}, {}, 0) == RunLimit(8, from_api=False)
    assert run_limit_of({}, throttle, 1000) == RunLimit(10, from_api=True)
    assert run_limit_of({}, throttle, 11_000) == RunLimit(16, from_api=True)
    assert run_limit_of({b"max_runs": b"12"}, throttle, 11_000) == RunLimit(12, from_api=False)
    assert run_limit_of({}, throttle, 10**12) is not None


async def test_the_accuracy_is_measured_while_a_batch_is_watched(store: Store) -> None:
    """17.6: in the panel, in `--watch` and in its JSON, by a pass over the rows beside the watching."""
    rows = [
        NewRow([f"question {row}", "42" if row % 4 else "43"], reused_result=pack_result(make_result(row)))
        for row in range(1, 9)
    ]
    spec = InputSpec(("question", "wanted"), "question")
    batch = await submit_batch(store, [*rows, NewRow(["?", "1"])], spec=spec, expected=Expectation("wanted"))

    async with aclosing(watch(store, batch)) as views:
        async for view in views:
            if view.accuracy is not None:
                break

    assert view.accuracy == Accuracy(8, 6)
    assert "accuracy 75.0 %" in "".join(status_lines(view))
    assert "accuracy 75.0 %" in log_line(view)
    assert "accuracy 75.0 %" in "".join(line.plain for line in panel(view, 80, None).renderables)
    assert view.to_json()["accuracy"]["correct"] == 6


def test_ci_and_dumb_terminals_get_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that cannot redraw lines gets no panel, also where CI gives its jobs a terminal."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert has_live_terminal()
    monkeypatch.setenv("CI", "true")
    assert not has_live_terminal()
    monkeypatch.delenv("CI")
    monkeypatch.setenv("TERM", "dumb")
    assert not has_live_terminal()


def test_a_terminal_is_asked_before_the_newest_batch_is_ended(waiting_user: CommandLine) -> None:
    """`pause` and `cancel` without BATCH ask on a terminal; a script has to name what it cancels."""
    user = waiting_user
    batch = user.askmill("submit", user.write("q.csv", "question", "Why?")).stdout.strip()

    def state() -> str:
        return re.search(r'"state":"(\w+)"', user.askmill("status", "--json").stdout)[1]

    with on_terminal(user, "pause") as pause:
        assert pause.expect(f"Pause the newest batch ({batch}, q.csv, queued, 0 of 1 row ended)? [y/N]")
        pause.type("n")
        assert pause.end() == 2
    assert state() == "queued"
    with on_terminal(user, "pause") as pause:
        assert pause.expect("[y/N]")
        pause.type("y")
        assert pause.end() == 0
    assert state() == "paused"
    refused = user.askmill("cancel")
    assert refused.returncode == 2
    assert "askmill list" in refused.stderr
    with on_terminal(user, "list", NO_COLOR="1") as listed:
        assert listed.end() == 0
        assert f"{batch}  q.csv  paused  0 of 1" in listed.output
    with on_terminal(user, "cancel") as cancel:
        assert cancel.expect("Cancel the newest batch")
        cancel.type("y")
        assert cancel.end() == 0
    assert state() == "cancelled"
    assert user.askmill("pause").returncode == 0


def test_collect_of_a_waiting_batch(waiting_user: CommandLine) -> None:
    """It says that the rows are queued; with --quiet it says nothing."""
    user = waiting_user
    user.askmill("submit", user.write("q.csv", "question", "Why?", "How?"))

    assert "0 of 2 rows have ended; the rest is queued." in user.askmill("collect").stderr
    assert user.askmill("collect", "--quiet").stderr == ""


def test_chat_survives_ctrl_c_and_knows_its_commands(user: CommandLine) -> None:
    """17.6: an answer is stopped, a line dropped; /show, /new, a typo and /exit."""
    with on_terminal(user, "chat", "--offline") as chat:
        assert chat.expect("> ")
        chat.type("Hello [emulate: completed after=600]")
        while not chat.expect("(stopped)", 0.5):
            chat.interrupt()
        chat.type("/shwo")
        assert chat.expect("did you mean '/show'?")
        chat.type("/show")
        assert chat.expect("Thread: ")
        chat.type("/new")
        assert chat.expect("A new thread.")
        chat.type("What is 6 * 7?")
        assert chat.expect("42")
        chat.type("/exit")
        assert chat.end() == 0
    assert "Traceback" not in chat.output


@pytest.mark.parametrize(
    ("arguments", "suggested"),
    [
        (["colect"], "Did you mean collect?"),
        (["run", "q.csv", "--modle", "m"], "'--model'"),
        (["run", "q.cvs"], "did you mean 'q.csv'?"),
        (["run", "q.csv", "--profile", "p.toml"], "did you mean 'model'?"),
        (["run", "q.csv", "--question-column", "qestion"], "did you mean 'question'?"),
        (["run", "q.csv", "--template", "{qestion}"], "did you mean 'question'?"),
        (["run", "q.csv", "--override", "modle"], "did you mean 'model'?"),
        (["run", "q.csv", "--columns", "anwser"], "did you mean 'answer'?"),
        (["run", "q.csv", "--expected", "qestion"], "did you mean 'question'?"),
        (["run", "q.csv", "--expected", "question", "--match", "exat"], "did you mean 'exact'?"),
        (["collect", "--status", "faild"], "did you mean 'failed'?"),
        (["estimate", "q.csv", "--model", "gpt5-mini"], "did you mean 'gpt-5-mini'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_typos_get_suggestions(user: CommandLine, arguments: list[str], suggested: str) -> None:
    """17.6: commands, options, files, profile keys, columns, statuses, models."""
    user.write("q.csv", "question", "Why?")
    user.write("p.toml", 'modle = "m"')
    offline = ["--offline"] if arguments[0] == "run" else []

    done = user.askmill(*arguments, *offline)

    assert suggested in done.stderr + done.stdout
    assert done.returncode == (0 if arguments[0] == "estimate" else 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["list"],
        ["collect", "-o", "-"],
        ["collect", "--format", "xlsx", "-o", "-"],
        ["report", "-o", "-"],
    ],
    ids=" ".join,
)
def test_b10_a_reader_that_went_away(waiting_user: CommandLine, arguments: list[str]) -> None:
    """Case B10: `| true` behind any command: exit code 141, and not a word."""
    user = waiting_user
    if arguments[0] in {"list", "collect", "report"}:
        user.askmill("submit", user.write("q.csv", "question", "Why?"))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(  # a fresh process: Python ignores SIGPIPE when it starts
            user.script(*arguments),
            cwd=user.folder,
            env=user.env(),
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_comparison_fits_a_narrow_terminal() -> None:
    """A line per figure where a line per batch would be wider than the terminal."""
    rows = [
        ("batch", "", "completed", "cost"),
        ("large", "b_aaaaaa", "3 of 4", "$0.01"),
        ("small", "b_bbbbbb", "4 of 4", "$0.02"),
    ]

    assert len(fitting_lines(rows, None)) == len(fitting_lines(rows, 80)) == 3
    narrow = fitting_lines(rows, 32)
    assert narrow[2].split() == ["completed", "3", "of", "4", "4", "of", "4"]
    assert max(map(len, narrow)) <= 32
