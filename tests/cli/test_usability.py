"""Usability defects that were fixed (docs/decisions/annoyances.md), each checked with the real command."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine, terminal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def user(tmp_path: Path) -> CommandLine:
    return terminal(tmp_path)


def test_when_every_row_is_bad_none_can_be_skipped(user: CommandLine) -> None:
    """`--skip-bad-rows` was understood: the fault is that no row is left."""
    user.write("bad.csv", "question,id", ",1", ",2")

    done = user.askmill("run", "bad.csv", "--offline", "--skip-bad-rows")

    assert done.returncode == 2
    assert "every row has a fault, so --skip-bad-rows leaves no row" in done.stderr
    assert "line 2" in done.stderr


def test_an_unknown_extension_is_refused_before_any_request(user: CommandLine) -> None:
    """Unless --format names the format. A file without an extension is a CSV."""
    user.write("q.csv", "question", "What is 6 * 7?")

    refused = user.askmill("run", "q.csv", "--offline", "-o", "out.xyz")

    assert refused.returncode == 2
    assert ".csv, .tsv, .jsonl, .parquet, .xlsx" in refused.stderr
    assert "no batch" in user.askmill("list").stderr
    assert user.askmill("run", "q.csv", "--offline", "-o", "out.xyz", "--format", "jsonl").returncode == 0
    assert json.loads((user.folder / "out.xyz").read_text())["answer"] == "6*7 = 42."
    collected = user.askmill("collect", "-o", "out")
    assert collected.returncode == 0
    assert "1 row →" in collected.stderr
    assert (user.folder / "out").read_text().startswith("question,row")


def test_purge_of_a_batch_without_runs_needs_no_key(user: CommandLine) -> None:
    """The batch created nothing at the API, so `cancel` and `purge` send no request."""
    user.write("q.csv", "question", "What is 6 * 7?")
    configured = user.with_settings(
        OPENAI_API_KEY="any", OPENAI_BASE_URL="http://127.0.0.1:9/v1", ASKMILL_API="responses"
    )
    batch = configured.askmill("submit", "q.csv").stdout.strip()
    cancelled = user.with_settings(PYTHONPROFILEIMPORTTIME="1").askmill("cancel", batch).stderr
    assert re.search(r"\| *redis\b", cancelled)
    assert not re.search(r"\| *(openai|celery)\b", cancelled), "no run is in flight: it returns at once"

    done = user.askmill("purge", batch)

    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{batch} is deleted here; at http://127.0.0.1:9/v1 there is nothing of it.\n"


def test_retry_of_an_offline_batch_names_run(user: CommandLine) -> None:
    """A worker of the user's own would need a key; without a worker there is no time left."""
    user.write("q.csv", "question", "Hm [emulate: failed(content_policy)]")
    user.askmill("run", "q.csv", "--offline")

    stderr = user.askmill("retry").stderr

    assert "run the same `askmill run` again to resume" in stderr
    assert "askmill worker" not in stderr
    assert "left" not in user.askmill("status").stdout


def test_an_unknown_assistant_is_named(user: CommandLine) -> None:
    """By `run` and by `chat`: with one full stop, and with the option that was wrong."""
    user.write("q.csv", "question", "What is 6 * 7?")

    run = user.askmill("run", "q.csv", "--offline", "--assistant-id", "asst_nope")
    chat = user.askmill("chat", "--offline", "--assistant-id", "asst_nope", stdin="Hello\n")

    assert run.returncode == 3
    for stderr in (run.stderr, chat.stderr):
        assert "asst_nope" in stderr
        assert "--assistant-id" in stderr
        assert ".." not in stderr


def test_rows_that_are_not_asked_are_counted(user: CommandLine) -> None:
    """By `submit` and by `run`, once, before anything is asked; a batch that is found again has no new rows."""
    user.write("q.csv", "question,id", "", "What is 6 * 7?,1", ",", ",2")
    line = "2 blank lines are skipped; 1 of 2 rows has a fault and is not asked (status rejected). 1 row to ask.\n"

    run = user.askmill("run", "q.csv", "--offline", "--skip-bad-rows")
    again = user.askmill("run", "q.csv", "--offline", "--skip-bad-rows")
    submitted = user.with_settings(
        OPENAI_API_KEY="any", OPENAI_BASE_URL="http://127.0.0.1:9/v1", ASKMILL_API="responses"
    ).askmill("submit", "q.csv", "--skip-bad-rows")

    assert run.stderr.count(line) == 1, run.stderr
    assert "skipped" not in again.stderr
    assert submitted.stderr.count(line) == 1


def test_an_example_is_not_masked(user: CommandLine) -> None:
    """A good value in a message can be copied; `***` could not."""
    done = user.with_settings(ASKMILL_REDIS_URL="http://redis").askmill("status")

    assert done.returncode == 2
    assert "rediss://" in done.stderr
    assert "***" not in done.stderr


def test_an_estimate_is_close_to_the_usage(user: CommandLine) -> None:
    """Input tokens of the example file with its tool: within a third."""
    file, profile = str(ROOT / "examples/questions.csv"), str(ROOT / "examples/tutor.toml")

    estimated = json.loads(user.askmill("estimate", file, "--profile", profile, "--json").stdout)
    done = user.askmill("run", file, "--offline", "--profile", profile)

    used = int(re.search(r"([\d,]+) tokens in", done.stderr)[1].replace(",", ""))
    assert 2 / 3 < estimated["prompt_tokens"] / used < 4 / 3
