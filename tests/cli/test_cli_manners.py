"""Small things that annoyed (docs/decisions/annoyances.md), each asked of the real command."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.command_line import Terminal, terminal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def user(tmp_path: Path) -> Terminal:
    return terminal(tmp_path)


def test_when_every_row_is_bad_none_can_be_skipped(user: Terminal) -> None:
    """`--skip-bad-rows` was heard: that nothing is left to ask is the fault."""
    user.write("bad.csv", "question,id", ",1", ",2")

    done = user.askmill("run", "bad.csv", "--offline", "--skip-bad-rows")

    assert done.returncode == 2
    assert "every row is bad, so --skip-bad-rows leaves none" in done.stderr
    assert "line 2" in done.stderr


def test_an_unknown_ending_is_refused_before_anything_is_asked(user: Terminal) -> None:
    """Unless --format says what it shall be; no ending at all is a CSV."""
    user.write("q.csv", "question", "What is 6 * 7?")

    refused = user.askmill("run", "q.csv", "--offline", "-o", "out.xyz")

    assert refused.returncode == 2
    assert ".csv, .jsonl, .parquet" in refused.stderr
    assert "no batch" in user.askmill("list").stderr
    assert user.askmill("run", "q.csv", "--offline", "-o", "out.xyz", "--format", "jsonl").returncode == 0
    assert json.loads((user.folder / "out.xyz").read_text())["answer"] == "6*7 = 42."
    collected = user.askmill("collect", "-o", "out")
    assert collected.returncode == 0
    assert "1 row →" in collected.stderr
    assert (user.folder / "out").read_text().startswith("question,row")


def test_what_made_nothing_leaves_nothing(user: Terminal) -> None:
    """`purge` of a batch that was never asked, without a key for its address."""
    user.write("q.csv", "question", "What is 6 * 7?")
    asker = user.with_settings(OPENAI_API_KEY="any", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    batch = asker.askmill("submit", "q.csv").stdout.strip()
    cancelled = user.with_settings(PYTHONPROFILEIMPORTTIME="1").askmill("cancel", batch).stderr
    assert re.search(r"\| *redis\b", cancelled)
    assert not re.search(r"\| *(openai|celery)\b", cancelled), "nothing is to be told: it returns at once"

    done = user.askmill("purge", batch)

    assert done.returncode == 0, done.stderr
    assert done.stderr == f"{batch} is deleted here; at http://127.0.0.1:9/v1 there is nothing of it.\n"


def test_who_retries_offline_is_told_what_goes_on(user: Terminal) -> None:
    """A worker would need a key; nobody works, so no time is promised."""
    user.write("q.csv", "question", "Hm [emulate: failed(content_policy)]")
    user.askmill("run", "q.csv", "--offline")

    told = user.askmill("retry").stderr

    assert "the same `askmill run` as before goes on" in told
    assert "askmill worker" not in told
    assert "left" not in user.askmill("status").stdout


def test_an_assistant_that_is_not_there_is_what_is_said(user: Terminal) -> None:
    """In a run and in a chat: one full stop, and the option that was wrong."""
    user.write("q.csv", "question", "What is 6 * 7?")

    run = user.askmill("run", "q.csv", "--offline", "--assistant-id", "asst_nope")
    chat = user.askmill("chat", "--offline", "--assistant-id", "asst_nope", given="Hello\n")

    assert run.returncode == 3
    for told in (run.stderr, chat.stderr):
        assert "asst_nope" in told
        assert "--assistant-id" in told
        assert ".." not in told


def test_an_example_is_not_masked(user: Terminal) -> None:
    """A good value can be copied; `***` could not."""
    done = user.with_settings(ASKMILL_REDIS_URL="http://redis").askmill("status")

    assert done.returncode == 2
    assert "rediss://" in done.stderr
    assert "***" not in done.stderr


def test_an_estimate_is_near_what_is_then_taken(user: Terminal) -> None:
    """Prompt tokens of the example file, asked with its tool: within a third."""
    file, profile = str(ROOT / "examples/questions.csv"), str(ROOT / "examples/tutor.toml")

    told = json.loads(user.askmill("estimate", file, "--profile", profile, "--json").stdout)
    done = user.askmill("run", file, "--offline", "--profile", profile)

    taken = int(re.search(r"([\d,]+) tokens in", done.stderr)[1].replace(",", ""))
    assert 2 / 3 < told["prompt_tokens"] / taken < 4 / 3
