"""askmill against llama.cpp's Python server with a real model: what the emulator only imitates."""

import csv
import json
import signal

import pytest

from tests.real.conftest import RealServer
from tests.support import wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

COUNTRIES = ("France", "Italy", "Spain", "Japan", "Peru", "Kenya", "Egypt", "Chile")
SHORT = ("--max-completion-tokens", "24")


def _results(server: RealServer) -> list[dict[str, str]]:
    with (server.user.folder / "q.answers.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _ask(server: RealServer, *questions: str) -> None:
    server.user.write("q.csv", "question", *questions)


def _ended(server: RealServer) -> int:
    status = server.user.askmill("status", "--json")
    if status.returncode == 2:  # not stored yet
        return 0
    counts = json.loads(status.stdout)["counts"]
    return int(counts["completed"]) + int(counts["incomplete"])


def test_three_lines_and_answers_in_a_csv(real: RealServer) -> None:
    """The lines of the how-to: the API is found by asking, every row has its text, in order."""
    _ask(real, *(f"What is the capital of {country}?" for country in COUNTRIES))

    run = real.user.askmill("run", "q.csv", *SHORT, timeout_s=600)

    assert run.returncode in {0, 1}, run.stderr
    assert "offers chat completions" in run.stderr
    rows = _results(real)
    assert [row["row"] for row in rows] == [str(number) for number in range(1, len(COUNTRIES) + 1)]
    for row in rows:
        assert row["answer"].strip()
        assert row["status"] in {"completed", "incomplete"}
        assert not row["prompt_tokens"], "its streams carry no usage: unknown, not 0"


def test_a_killed_run_resumes_and_buys_no_answer_again(real: RealServer) -> None:
    """kill -9 of `run` with some rows answered: they keep their answers, the rest is asked."""
    _ask(real, *(f"Say something about {country}." for country in COUNTRIES))
    first = real.user.start("run", "q.csv", *SHORT)
    wait_until(lambda: _ended(real) >= 2, "two rows have ended", 300)
    first.send_signal(signal.SIGKILL)
    first.communicate()

    run = real.user.askmill("run", "q.csv", *SHORT, timeout_s=600)
    status = json.loads(real.user.askmill("status", "--json").stdout)

    assert run.returncode in {0, 1}, run.stderr
    assert len(_results(real)) == len(COUNTRIES)
    assert status["runs"] <= len(COUNTRIES) + status["unknown_creates"]


def test_a_server_that_dies_in_mid_stream_and_comes_back(real: RealServer) -> None:
    """The rows wait for it; every row ends with an answer."""
    _ask(real, *(f"Tell a story about {country}." for country in COUNTRIES[:4]))
    run = real.user.start("run", "q.csv", "--max-completion-tokens", "60")
    wait_until(lambda: _ended(real) >= 1, "one row has ended", 300)
    real.server.child.kill()
    real.server.start()

    _, errors = run.communicate(timeout=600)

    assert run.returncode in {0, 1}, errors
    assert all(row["answer"].strip() for row in _results(real))


def test_a_question_longer_than_the_context_fails_alone(real: RealServer) -> None:
    """The server refuses it; its neighbours are answered."""
    _ask(real, "What is the capital of France?", "word " * 3000, "What is the capital of Peru?")

    run = real.user.askmill("run", "q.csv", *SHORT, timeout_s=600)
    good, long, other = _results(real)

    assert run.returncode == 1, run.stderr
    assert long["status"] == "failed"
    assert long["error"]
    assert good["answer"].strip()
    assert other["answer"].strip()


def test_a_schema_that_the_server_refuses_by_name_is_left_out_and_checked_here(real: RealServer) -> None:
    """It answers 500, `Input should be 'text' or 'json_object'`: the rows are asked without, and fail as `schema`."""
    _ask(real, "Is Paris in France?", "Is Rome in Spain?")

    run = real.user.askmill("run", "q.csv", "--response-schema", "fits: yes|no", *SHORT, timeout_s=600)

    assert run.returncode in {0, 1}, run.stderr
    for row in _results(real):
        assert row["answer"].strip()
        assert row["answer.fits"] in {"yes", "no"} or row["error"].startswith(("schema", "max_"))


@pytest.mark.parametrize("real", [("--n_ctx", "1024")], indirect=True, ids=["interrupts"])
def test_a_server_that_interrupts_streams_still_ends_every_row(real: RealServer) -> None:
    """Its default: each call ends the stream of the one before. A cut answer is lost, counted, and asked for again."""
    _ask(real, *(f"Name a city in {country}." for country in COUNTRIES[:3]))

    limits = ("--max-completion-tokens", "12", "--attempts", "4")
    run = real.user.askmill("run", "q.csv", *limits, "--concurrency", "2", timeout_s=800)
    rows = _results(real)
    status = json.loads(real.user.askmill("status", "--json").stdout)

    assert run.returncode in {0, 1}, run.stderr
    assert len(rows) == 3
    for row in rows:
        assert row["status"] in {"completed", "incomplete", "failed"}
        assert row["answer"].strip() if row["status"] != "failed" else row["error"]
    again = sum(int(row["attempts"]) - 1 for row in rows)
    assert 1 <= again <= status["unknown_creates"]
