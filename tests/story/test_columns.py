"""Structured answers, expected answers and compared batches through the commands, on a real worker and emulator."""

import csv
import json
import subprocess
from collections.abc import Iterator

import pytest

from askmill.jobs.model.expected import Match, is_correct
from tests.helpers.faulty_batch import gsm8k_table
from tests.helpers.requests import StackUser
from tests.helpers.screens import ROOT
from tests.stack import Stack

FIELDS = "topic: billing|delivery|technical|praise, urgency: int, angry: bool"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUser]:
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder, api="responses") as stack:
        stack.worker()
        yield StackUser.of(stack, folder / "work")


def read_csv(user: StackUser, name: str) -> list[dict[str, str]]:
    with (user.cli.folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ok(done: "subprocess.CompletedProcess[str]", code: int = 0) -> str:
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_mails_become_columns_with_accuracy_and_two_batches_are_compared(user: StackUser) -> None:
    """`run`, `status`, `collect` and `compare` tell the same accuracy; what misses the schema is counted by field."""
    mails = list(csv.DictReader((ROOT / "examples" / "mails.csv").open(newline="", encoding="utf-8")))[:9]
    rows = [[mail["mail"], mail["topic"]] for mail in mails]
    file = user.table(
        "mails.csv", ("question", "topic"), *rows, ("Odd. [emulate: completed(bad_json)]", "praise")
    )
    options = ("--response-schema", FIELDS, "--expected", "topic", "--attempts", "1")
    said = ok(user.cli.askmill("run", file, *options, "--instructions", "Read.", "-o", "one.csv"), code=1)

    one = read_csv(user, "one.csv")
    verdicts = [row["correct"] for row in one]
    right = verdicts.count("true")
    assert verdicts == [str(row["topic"] == row["answer.topic"]).lower() for row in one[:9]] + [""]
    assert {row["answer.angry"] for row in one[:9]} <= {"true", "false"}
    assert (one[9]["answer.topic"], one[9]["error"].split(":")[0]) == ("", "schema")
    assert f"{100 * right / 9:.1f} % (95 %:" in said

    status = json.loads(ok(user.cli.askmill("status", "--json")))
    assert (status["accuracy"]["judged"], status["accuracy"]["correct"]) == (9, right)
    assert status["schema_misses"] == {"angry": 1, "topic": 1, "urgency": 1, "(answer)": 1}
    assert "schema missed: (answer) 1, angry 1, topic 1, urgency 1" in ok(user.cli.askmill("status"))
    assert "9 judged" in ok(user.cli.askmill("collect", "-o", "again.jsonl"))
    first = json.loads((user.cli.folder / "again.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert (first["answer.topic"], first["correct"]) == (one[0]["answer.topic"], verdicts[0] == "true")

    # The expectation is no part of the identity: another one changes the same batch, and nothing is asked.
    changed = ok(
        user.cli.askmill(
            "run",
            file,
            *options[:2],
            "--attempts",
            "1",
            "--instructions",
            "Read.",
            "--expected",
            "topic",
            "--match",
            "contains",
            "-o",
            "one.csv",
        ),
        code=1,
    )
    assert "was already done" in changed

    ok(
        user.cli.askmill(
            "run", file, *options, "--instructions", "Read again.", "--name", "two", "-o", "two.xlsx"
        ),
        code=1,
    )
    two = json.loads(ok(user.cli.askmill("status", "--json")))["batch"]
    assert two != status["batch"]
    compared = ok(
        user.cli.askmill("compare", status["batch"], two, "--name", "a", "--name", "b", "-o", "both.csv")
    )
    assert "0 of 10 rows differ" in compared
    assert "a: expected answers down, given answers across" in compared
    assert [row["b.correct"] for row in read_csv(user, "both.csv")] == verdicts
    ok(user.cli.askmill("compare", status["batch"], two, "-o", "both.html"))
    ok(user.cli.askmill("report", status["batch"], "-o", "report.html"))
    assert "id=search" in (user.cli.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.shared
def test_gsm8k_is_judged_by_its_last_number(user: StackUser) -> None:
    """GSM8K with `--expected answer --match number`: each verdict is that of its answer and the last number."""
    rows = [(row["question"], row["answer"]) for row in gsm8k_table(8)]
    rows.append(("What is 6 * 7?", "6 * 7 = <<6*7=42>>42\n#### 42"))
    file = user.table("gsm8k.csv", ("question", "answer"), *rows)
    said = ok(
        user.cli.askmill("run", file, "--expected", "answer", "--match", "number", "-o", "gsm8k.out.csv")
    )

    answers = read_csv(user, "gsm8k.out.csv")
    assert [row["correct"] for row in answers] == [
        str(is_correct(Match.NUMBER, row["answer"], row["askmill_answer"])).lower() for row in answers
    ]
    assert answers[-1]["correct"] == "true"
    assert "9 judged" in said


def test_what_cannot_be_written_or_compared_is_refused_before_asking(user: StackUser) -> None:
    """Exit 2 with the place and the way out: a type, a column, two models, `--match` alone, a name too long."""
    file = user.table("q.csv", ("question", "label"), ("What is 1 + 1?", "2"))
    before = user.requests("POST /responses")
    for options, words in (
        (("--response-schema", "label: strr"), "character 8, 'strr': there is no such type"),
        (("--expected", "lable"), "did you mean 'label'?"),
        (("--match", "number"), "name the column"),
        (("--expected", "label", "--match", "fuzzy"), "choose exact, number"),
        (("--model", "a", "--model", "b"), "askmill compare BATCH BATCH"),
        (("-o", "ü" * 130), "choose a shorter -o"),
        (("-o", "a.csv.bz2"), ".gz or .zst"),
    ):
        done = user.cli.askmill("run", file, *options)
        assert done.returncode == 2, (options, done.stderr)
        assert words in done.stderr.replace("\n", " "), (options, done.stderr)
    assert user.requests("POST /responses") == before
