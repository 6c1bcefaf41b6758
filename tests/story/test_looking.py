"""What people look at and are told: the report, the list, an estimate by pilot, reuse, and `--on-done`."""

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
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_report_is_one_page_that_fetches_nothing(user: CommandLine) -> None:
    """Counts, charts and errors are in it; markup of a question is text; no script, no address is loaded."""
    file = user.write(
        "mixed.csv",
        "question",
        "What is 1 + 1?",
        '"<script>alert(1)</script> [emulate: failed(content_policy)]"',
    )
    user.askmill("run", file, "--offline")

    told = user.askmill("report", "-o", "report.html")

    assert told.returncode == 0, told.stderr
    text = (user.folder / "report.html").read_text(encoding="utf-8")
    page = _Tags()
    page.feed(text)
    tags = [tag for tag, _ in page.seen]
    assert "script" not in tags
    assert not [attrs for _, attrs in page.seen if {"src", "href"} & set(attrs)]
    assert "&lt;script&gt;alert(1)" in text
    assert "1 of 2" in text
    assert "content_policy" in text
    assert tags.count("svg") >= 3
    assert user.askmill("report", "-o", "-").stdout == text


def test_list_shows_what_is_asked_for(user: CommandLine) -> None:
    """By state, by name, the newest N; with nothing found it says so on stderr."""
    for name in ("one", "two"):
        user.askmill(
            "run", user.write(f"{name}.csv", "question", f"What is {len(name)} + 1?", name), "--offline"
        )

    def named(*options: str) -> list[str]:
        lines = user.askmill("list", "--json", *options).stdout.splitlines()
        return [json.loads(line)["name"] for line in lines]

    assert named() == ["two.csv", "one.csv"]
    assert named("--name", "ONE") == ["one.csv"]
    assert named("--limit", "1") == ["two.csv"]
    assert named("--state", "done", "--state", "paused") == ["two.csv", "one.csv"]
    assert named("--state", "paused") == []
    assert "No batch matches; 2 are stored" in user.askmill("list", "--state", "paused").stderr


def test_on_done_hears_of_the_end_once(user: CommandLine) -> None:
    """The command gets the status as JSON and the batch's id; its failure changes no exit code."""
    file = user.write("sums.csv", "question", "What is 1 + 1?")

    done = user.askmill(
        "run", file, "--offline", "--on-done", "cat >> told; echo $ASKMILL_BATCH; exit 3", "-o", "-"
    )
    again = user.askmill("run", file, "--offline", "--on-done", "cat >> told", "-o", "-")

    assert done.returncode == again.returncode == 0
    assert "the command ended with 3" in done.stderr
    (told,) = (user.folder / "told").read_text().splitlines()
    status = json.loads(told)
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


def test_a_pilot_asks_few_rows_and_the_batch_takes_them_over(paying_user: CommandLine) -> None:
    """The estimate is for all rows, the pilot pays for 2, `--reuse-answers` asks only the other 4."""
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
    """Of 200 rows one is edited: one run; the others keep their answers and ids, cost 0, whatever their order."""
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
        kept = before[row["question"]]
        assert [row[name] for name in ("answer", "run_id", "thread_id")] == [
            kept[name] for name in ("answer", "run_id", "thread_id")
        ]
        assert (row["attempts"], float(row["cost_usd"]), row["status"]) == ("0", 0, "completed")


def test_the_truth_lies_in_a_pilots_range() -> None:
    """Of 200 pilots of 20 rows each, at least 17 of 20 ranges hold what all 1,000 rows took."""
    chance = random.Random(4)
    every = [RowUsage(100, max(1, round(chance.lognormvariate(5, 0.6))), None) for _ in range(1000)]
    total = sum(taken.completion for taken in every)

    held = 0
    for _ in range(200):
        found = extrapolate(1000, chance.sample(every, 20))
        held += found.completion_low <= total <= found.completion_high
        assert found.prompt_tokens == 100_000
        assert found.low_usd is None

    assert held >= 170


def test_an_empty_pilot_says_so() -> None:
    """No number is made up from no answer."""
    with pytest.raises(UsageError, match=re.escape("askmill show 1")):
        extrapolate(10, [])
