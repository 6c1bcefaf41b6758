"""`askmill run` with real processes and no configuration, also when it is killed and started again."""

import csv
import io
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.helpers.command_line import CommandLine, terminal
from tests.support import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def user(tmp_path: Path) -> CommandLine:
    return terminal(tmp_path, offline=True)


def _service_processes(user: CommandLine) -> list[str]:
    """Command lines of processes that use this user's data directory."""
    data = user.settings["ASKMILL_DATA_DIR"]
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if any(data in word for word in words):
            found.append(" ".join(words))
    return found


def _rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))


def _status(user: CommandLine) -> dict[str, object]:
    """`status --json`; empty while there is no batch."""
    return dict(json.loads(user.askmill("status", "--json").stdout or "{}"))


def test_run_answers_the_examples_with_nothing_configured(user: CommandLine) -> None:
    """Without settings: right answers, one line that names the emulator, and no process is left."""
    done = user.askmill("run", str(EXAMPLES / "questions.csv"))

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    rows = _rows(user.folder / "questions.answers.csv")
    questions = _rows(EXAMPLES / "questions.csv")
    assert [row["question"] for row in rows] == [row["question"] for row in questions]
    assert {row["status"] for row in rows} == {"completed"}
    answers = {row["question"]: row["answer"] for row in rows}
    assert "84" in answers["What is 12 * (3 + 4)?"]
    assert "x = 1" in answers["I need to solve the equation `3x + 11 = 14`. Can you help me?"]
    assert "sqrt(217)" in answers["solve(4*x**2 - 5*x - 12, x)"]
    notes = [line for line in done.stderr.splitlines() if "emulator" in line]
    assert len(notes) == 1
    assert "OPENAI_API_KEY" in notes[0]
    steps = (user.folder / "questions.answers.steps.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(steps) == len(rows)
    assert "code_interpreter" in {step["type"] for line in steps for step in json.loads(line)["steps"]}
    wait_until(lambda: not _service_processes(user), "all processes have ended")


def test_the_same_file_again_starts_no_run(user: CommandLine) -> None:
    """The results of a finished batch are written again, and `--new` is named; no row is left that `retry` would ask."""
    file = user.write("sums.csv", "question", "What is 1 + 1?", "What is 2 + 2?")
    first = user.askmill("run", file, "-o", "-")
    runs = _status(user)["runs"]

    again = user.askmill("run", file, "-o", "-")

    assert again.stdout == first.stdout
    assert _status(user)["runs"] == runs == 2
    assert "was already done; no run was started. --new creates a new batch." in again.stderr
    assert "retry" not in again.stderr
    assert again.returncode == 0
    assert not list(user.folder.glob("*.steps.jsonl")), "stdout has no sidecar file"


def test_failed_rows_give_exit_code_1(user: CommandLine) -> None:
    """All rows are in the results, and the exit code is 1."""
    file = user.write("two.csv", "question", "What is 1 + 1?", '"Hm [emulate: failed(invalid_prompt)]"')

    done = user.askmill("run", file, "-o", "-")

    assert done.returncode == 1, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["status"] for row in rows] == ["completed", "failed"]
    assert rows[1]["error"].startswith("invalid_prompt")
    again = user.askmill("run", file, "-o", "-")
    assert f"`askmill retry {_status(user)['batch']}` retries the rows that did not complete" in again.stderr


def test_ctrl_c_keeps_the_run_and_the_same_command_resumes_it(user: CommandLine) -> None:
    """Exit code 130 and no results; the message names the batch and the command to resume, without --new."""
    file = user.write("slow.csv", "question", "What is 5 + 5? [emulate: completed after=15]")
    process = user.start("run", file, "--new")
    wait_until(lambda: _status(user).get("runs") == 1, "the run is created", timeout_s=60)

    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130, stderr
    assert f"{_status(user)['batch']} is stored" in stderr
    assert stderr.endswith("To resume: askmill run --offline slow.csv\n")
    assert not (user.folder / "slow.answers.csv").exists()
    done = user.askmill("run", file)
    assert done.returncode == 0, done.stderr
    assert _status(user)["runs"] == 1
    assert "10" in (user.folder / "slow.answers.csv").read_text(encoding="utf-8")


def test_sigterm_stops_the_services_and_the_worker(user: CommandLine) -> None:
    """SIGTERM: the command stops its services and its worker, and complete results stay complete."""
    (user.folder / "slow.answers.csv").write_text("complete", encoding="utf-8")
    file = user.write("slow.csv", "question", "What is 5 + 5? [emulate: completed after=60]")
    process = user.start("run", file)
    wait_until(lambda: "running" in user.askmill("list").stdout, "the batch runs", timeout_s=60)

    process.terminate()
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130, stderr
    assert (user.folder / "slow.answers.csv").read_text(encoding="utf-8") == "complete"
    wait_until(lambda: not _service_processes(user), "all processes have ended")


def test_a_killed_worker_is_replaced(user: CommandLine) -> None:
    """kill -9 of the worker that `run` started: another one follows the same run."""
    user = replace(user, fresh=True)  # so that the worker is its child
    file = user.write("slow.csv", "question", "What is 6 + 6? [emulate: completed after=6]")
    process = user.start("run", file, "-o", "-")
    wait_until(lambda: _status(user).get("runs") == 1, "the run is created", timeout_s=60)

    workers = [
        child
        for child in psutil.Process(process.pid).children()
        if "--one-batch" in " ".join(child.cmdline())
    ]
    assert len(workers) == 1
    workers[0].kill()
    stdout, stderr = process.communicate(timeout=80)

    assert process.returncode == 0, stderr
    assert "12" in stdout
    assert _status(user)["runs"] == 1


def test_an_output_file_equal_to_the_input_is_refused(user: CommandLine) -> None:
    """The results never overwrite the questions; nothing is submitted."""
    file = user.write("in.csv", "question", "What is 1 + 1?")

    refused = user.askmill("run", file, "-o", str(user.folder / "in.csv"))

    assert refused.returncode == 2
    assert "in.csv" in refused.stderr
    assert (user.folder / "in.csv").read_text(encoding="utf-8").startswith("question")
    assert user.askmill("list", "--json").stdout == ""


def test_a_bad_file_is_refused_with_its_lines(user: CommandLine) -> None:
    """Exit code 2, the faults with their lines, no traceback, nothing stored."""
    file = user.write("bad.csv", "id,question", "1,What is 1 + 1?", "2", "3,")

    refused = user.askmill("run", file)

    assert refused.returncode == 2
    assert refused.stderr.startswith("Error: ")
    assert "line 3" in refused.stderr
    assert "line 4" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert user.askmill("list", "--json").stdout == ""


def test_modules_in_the_working_folder_are_not_imported(user: CommandLine) -> None:
    """A user's config.py, jobs.py, worker.py or celery.py does not replace a module of askmill."""
    user = replace(user, fresh=True)  # so that it has imported nothing before it is in this folder
    for name in ("config", "jobs", "worker", "celery", "redis", "openai"):
        user.write(f"{name}.py", "raise SystemExit('the wrong module')")
    file = user.write("in.csv", "question", "What is 3 + 4?")

    done = user.askmill("run", file, "-o", "-")

    assert done.returncode == 0, done.stderr
    assert "7" in done.stdout


def test_questions_are_read_from_stdin(user: CommandLine) -> None:
    """`-` is stdin."""
    done = user.askmill("run", "-", "-o", "-", stdin="question\nWhat is 8 - 5?\n")

    assert done.returncode == 0, done.stderr
    assert "3" in next(csv.DictReader(io.StringIO(done.stdout)))["answer"]


def test_the_assistants_api_at_openai_is_refused(user: CommandLine) -> None:
    """Before a row is stored; the message has the date and the setting to use."""
    file = user.write("in.csv", "question", "What is 1 + 1?")
    openai = user.with_settings(OPENAI_API_KEY="sk-not-a-key-0123456789", ASKMILL_API="assistants")

    for command in ("run", "submit"):
        refused = openai.askmill(command, file)

        assert refused.returncode == 2
        assert "2026-08-26" in refused.stderr
        assert "ASKMILL_API=responses" in refused.stderr
    assert user.askmill("list", "--json").stdout == ""


def test_files_and_functions_are_used_by_the_run(user: CommandLine) -> None:
    """A file is searched and cited, a function is called, and purge deletes the objects at the API."""
    user.write("notes.txt", "In Bergen it rains on 230 days of the year.")
    user.write(
        "skies.py", "def weather(town: str) -> str:", '    """The sky."""', "    return town + ': grey'"
    )
    direction = '[emulate: requires_action(weather, {""town"": ""Bergen""})]'
    file = user.write("in.csv", "question", f'"How is Bergen? {direction}"')
    tools = ("--tool", "file_search", "--file", "notes.txt", "--functions", "skies.py")

    done = user.askmill("run", file, "-o", "-", *tools)

    assert done.returncode == 0, done.stderr
    assert "Uploading notes.txt" in done.stderr
    row = next(csv.DictReader(io.StringIO(done.stdout)))
    assert "Bergen: grey" in row["answer"]
    assert json.loads(row["citations"])[0]["filename"] == "notes.txt"
    again = user.askmill("run", file, "-o", "-", "--new", *tools)
    assert "Uploading" not in again.stderr, "it is found by its content"
    first, second = user.batches()
    assert "1 object" in user.askmill("purge", first).stderr, "its thread; the other batch uses the rest"
    assert "4 objects" in user.askmill("purge", second).stderr, "also the file, vector store and assistant"


def test_answers_of_equal_rows_are_reused(user: CommandLine) -> None:
    """Edit one row of three and pay only for that row; the others keep their run ids and cost nothing."""
    user.write("sums.csv", "question", "What is 1 + 1?", "What is 2 + 2?", "What is 3 + 3?")
    first = list(csv.DictReader(io.StringIO(user.askmill("run", "sums.csv", "-o", "-").stdout)))
    user.write("sums.csv", "question", "What is 1 + 1?", "What is 2 + 9?", "What is 3 + 3?")

    done = user.askmill("run", "sums.csv", "-o", "-", "--reuse-answers")

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["status"] for row in rows] == ["completed"] * 3, done.stderr
    assert [row["attempts"] for row in rows] == ["0", "1", "0"]
    assert [rows[0]["run_id"], rows[2]["run_id"]] == [first[0]["run_id"], first[2]["run_id"]]
    assert {row["cost_usd"] for row in rows} == {""}, "the emulator costs nothing"
    assert _status(user)["runs"] == 1
    again = user.askmill("run", "sums.csv", "-o", "-", "--reuse-answers", "--new")
    assert _status(user)["runs"] == 0
    assert [row["answer"] for row in csv.DictReader(io.StringIO(again.stdout))] == [
        row["answer"] for row in rows
    ]


def test_a_closed_pipe_is_no_error(user: CommandLine) -> None:
    """`collect -o - | head -1`: no traceback."""
    rows = [f"What is {n} + 1?" for n in range(3000)]
    file = user.write("many.csv", "question", *rows)
    user.with_settings(OPENAI_API_KEY="any").askmill("submit", file)
    shell = f"{Path(sys.executable).with_name('askmill')} collect -o - | head -1"

    piped = subprocess.run(
        ["sh", "-c", shell], cwd=user.folder, env=user.env(), capture_output=True, text=True, check=False
    )

    assert piped.stdout.startswith("question,row,status")
    assert piped.stderr == ""


def test_an_unusable_data_directory_is_an_error_message(user: CommandLine) -> None:
    """No traceback: the message names the setting that fixes it."""
    (user.folder / "taken").write_text("a file", encoding="utf-8")
    file = user.write("in.csv", "question", "What is 1 + 1?")

    refused = user.with_settings(ASKMILL_DATA_DIR=str(user.folder / "taken")).askmill("run", file)

    assert refused.returncode in {2, 3}
    assert "ASKMILL_DATA_DIR" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_budget_refuses_rows_whose_models_price_is_unknown(user: CommandLine) -> None:
    """`--override model`: each such row is a fault with its line and exit code 2, or is skipped."""
    file = user.write(
        "own.csv",
        "question,model",
        "What is 1 + 1?,",
        "What is 2 + 2?,gpt-unheard-of",
        "What is 3 + 3?,gpt-5",
    )
    options = (file, "--override", "model", "--budget", "1")

    for command in ("run", "submit", "estimate"):
        refused = user.with_settings(OPENAI_API_KEY="any").askmill(command, *options)
        assert refused.returncode == 2, refused.stderr
        assert "line 3: model 'gpt-unheard-of' has no known price" in refused.stderr
        assert "line 4" not in refused.stderr
    skipped = user.askmill("estimate", *options, "--skip-bad-rows")
    assert skipped.returncode == 0, skipped.stderr
    assert "\n2 rows for" in skipped.stdout
