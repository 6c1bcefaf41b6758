"""Commands that show results: the report, the list, an estimate by pilot, reused answers, and `--on-done`."""

import csv
import io
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from askmill.jobs.model.errors import UsageError
from askmill.jobs.openai_client.pilot import RowUsage, extrapolate
from tests.helpers.command_line import CommandLine, terminal
from tests.stack import Stack


@pytest.fixture
def user(tmp_path: Path) -> CommandLine:
    return terminal(tmp_path)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_report_is_one_page_that_loads_nothing(user: CommandLine) -> None:
    """It has counts, charts and errors; markup in a question is escaped; no script and no address is loaded."""
    file = user.write(
        "mixed.csv",
        "question",
        "What is 1 + 1?",
        '"<script>alert(1)</script> [emulate: failed(content_policy)]"',
    )
    user.askmill("run", file, "--offline")

    report = user.askmill("report", "-o", "report.html")

    assert report.returncode == 0, report.stderr
    text = (user.folder / "report.html").read_text(encoding="utf-8")
    page = _Tags()
    page.feed(text)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1, "the page's own, named by its hash in the Content-Security-Policy"
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    assert "&lt;script&gt;alert(1)" in text
    assert "1 of 2" in text
    assert "content_policy" in text
    assert tags.count("svg") >= 3
    assert user.askmill("report", "-o", "-").stdout == text


def test_list_filters_by_state_name_and_number(user: CommandLine) -> None:
    """By state, by name, the newest N; if no batch matches, a message on stderr says so."""
    for name in ("one", "two"):
        user.askmill(
            "run", user.write(f"{name}.csv", "question", f"What is {len(name)} + 1?", name), "--offline"
        )

    def listed(*options: str) -> list[str]:
        lines = user.askmill("list", "--json", *options).stdout.splitlines()
        return [json.loads(line)["name"] for line in lines]

    assert listed() == ["two.csv", "one.csv"]
    assert listed("--name", "ONE") == ["one.csv"]
    assert listed("--limit", "1") == ["two.csv"]
    assert listed("--state", "done", "--state", "paused") == ["two.csv", "one.csv"]
    assert listed("--state", "paused") == []
    assert "No batch matches; 2 batches are stored" in user.askmill("list", "--state", "paused").stderr


def test_on_done_runs_whenever_the_batch_is_over(user: CommandLine) -> None:
    """At its end, and for a command that finds it over. It gets the status as JSON and the batch's id.

    Its failure does not change the exit code.
    """
    file = user.write("sums.csv", "question", "What is 1 + 1?")

    done = user.askmill(
        "run", file, "--offline", "--on-done", "cat > ended.json; echo $ASKMILL_BATCH; exit 3", "-o", "-"
    )
    again = user.askmill("run", file, "--offline", "--on-done", "echo again >> notified", "-o", "-")
    user.askmill("status", "--watch", "--on-done", "echo watched >> notified")
    user.askmill("collect", "--wait", "--on-done", "echo $ASKMILL_STATE >> notified", "-o", "-")

    assert done.returncode == again.returncode == 0
    assert "the command ended with 3" in done.stderr
    assert (user.folder / "notified").read_text().split() == ["again", "watched", "done"]
    status = json.loads((user.folder / "ended.json").read_text())
    assert status["state"] == "done"
    assert status["batch"] in done.stderr
    assert status["batch"] not in done.stdout
    assert user.askmill("collect", "--on-done", "true").returncode == 2


@pytest.fixture
def paying_user(user: CommandLine, stack: Stack) -> CommandLine:
    """A user whose answers have a price: the emulator is a server at a local address, not `--offline`."""
    return user.with_settings(
        OPENAI_BASE_URL=stack.base_url, OPENAI_API_KEY="any-key", ASKMILL_API="assistants"
    )


def test_a_pilot_runs_few_rows_and_the_batch_reuses_them(paying_user: CommandLine) -> None:
    """The estimate is for all rows, the pilot pays for 2, `--reuse-answers` runs only the other 4."""
    user = paying_user
    file = user.write("sums.csv", "question", *(f"What is {n} + {n}?" for n in range(1, 7)))

    piloted = user.askmill("estimate", file, "--pilot", "2", "--json")
    run = user.askmill("run", file, "--reuse-answers", "-o", "-")

    assert json.loads(piloted.stdout)["rows"] == 6
    status = json.loads(user.askmill("status", "--json").stdout)
    assert (status["rows"], status["runs"]) == (6, 4)
    rows = list(csv.DictReader(io.StringIO(run.stdout)))
    assert [row["attempts"] for row in rows] == ["0", "0", "1", "1", "1", "1"]
    assert [float(row["cost_usd"]) for row in rows[:2]] == [0, 0]


def test_an_edited_row_is_the_only_one_paid_for(paying_user: CommandLine) -> None:
    """One of 200 rows is edited: one run; the others keep answers and ids and cost 0, whatever their order."""
    user = paying_user
    questions = [f"What is {n} * 7?" for n in range(200)]
    first = user.askmill("run", user.write("first.csv", "question", *questions), "-o", "-")
    assert first.returncode == 0, first.stderr
    edited = ["What is 1000 * 7?", *reversed(questions[1:])]

    second = user.askmill("run", user.write("edited.csv", "question", *edited), "--reuse-answers", "-o", "-")

    before = {row["question"]: row for row in csv.DictReader(io.StringIO(first.stdout))}
    after = list(csv.DictReader(io.StringIO(second.stdout)))
    assert json.loads(user.askmill("status", "--json").stdout)["runs"] == 1
    assert [row["question"] for row in after] == edited
    assert after[0]["attempts"] == "1"
    for row in after[1:]:
        first_row = before[row["question"]]
        assert [row[name] for name in ("answer", "run_id", "thread_id")] == [
            first_row[name] for name in ("answer", "run_id", "thread_id")
        ]
        assert (row["attempts"], float(row["cost_usd"]), row["status"]) == ("0", 0, "completed")


def test_answers_that_exist_are_named_before_any_is_paid_again(paying_user: CommandLine) -> None:
    """B14: after a first try with `--limit 3`, the whole file; then a row more. `run` and `submit` say it."""
    user = paying_user
    questions = [f"What is {n} * 7?" for n in range(5)]
    file = user.write("sums.csv", "question", *questions)
    first = user.askmill("run", file, "--limit", "3", "-o", "-")
    batch = re.search(r"b_\w{6}", first.stderr)[0]

    submitted = user.askmill("submit", file)
    user.askmill("cancel", submitted.stdout.strip())
    run = user.askmill("run", user.write("more.csv", "question", *questions, "What is 9 * 7?"), "-o", "-")

    line = "3 of these {} rows are already answered in " + batch + ": --reuse-answers takes those answers"
    assert "already answered" not in first.stderr
    assert re.search(re.escape(line.format(5)) + r" and saves (about|under) \$0\.\d+\.", submitted.stderr)
    assert line.format(6) in run.stderr
    assert run.stderr.index("already answered") < run.stderr.index("6 completed")
    reused = user.askmill("run", file, "--new", "--reuse-answers", "-o", "-")
    assert "reused for 5 questions" in reused.stderr
    assert "already answered" not in user.askmill("run", file, "--new", "-o", "-").stderr


def test_the_actual_usage_is_in_a_pilots_range() -> None:
    """Of 200 pilots of 20 rows each, at least 170 ranges contain the usage of all 1,000 rows."""
    rng = random.Random(4)
    usages = [RowUsage(100, max(1, round(rng.lognormvariate(5, 0.6))), None) for _ in range(1000)]
    total = sum(usage.completion for usage in usages)

    in_range = 0
    for _ in range(200):
        estimate = extrapolate(1000, rng.sample(usages, 20))
        in_range += estimate.completion_low <= total <= estimate.completion_high
        assert estimate.prompt_tokens == 100_000
        assert estimate.low_usd is None

    assert in_range >= 170


def test_an_empty_pilot_says_so() -> None:
    """Without any answer there is no estimate; the error names the command that shows why."""
    with pytest.raises(UsageError, match=re.escape("askmill show 1")):
        extrapolate(10, [])
