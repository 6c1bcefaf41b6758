"""`import askmill` in this process: questions of every kind, results as tables and pages, coroutines."""

import asyncio
import dataclasses
import inspect
import json
import logging
import os
import signal
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

import askmill
from askmill.jobs.cli.query import collect_command
from askmill.jobs.model.models import InputSpec, JobStatus
from askmill.jobs.model.models import Result as StoredResult
from askmill.jobs.model.profile import Profile
from askmill.jobs.store import Store
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.records import NewRow
from askmill.jobs.store.views import RowView
from askmill.questions import question_file
from askmill.results import Results
from tests.helpers.batches import make_result, submit_batch

CALLS = ("run", "submit", "status", "collect", "compare", "cancel", "retry", "estimate")


@pytest.fixture
def configured(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, a Redis and the address of a server that nobody asks, not even for its API."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "ASKMILL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ASKMILL_REDIS_URL", redis_url)
    monkeypatch.setenv("ASKMILL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("ASKMILL_API", "assistants")
    return tmp_path


def _lines(questions: Any) -> list[str]:
    with question_file(questions) as file:
        return Path(file).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "questions",
    [
        [{"text": "a", "n": 1}, {"text": "ü", "n": None}],
        pa.table({"text": ["a", "ü"], "n": [1, None]}),
        pl.DataFrame({"text": ["a", "ü"], "n": [1, None]}),
        pd.DataFrame({"text": ["a", "ü"], "n": pd.array([1, None], dtype="Int64")}, index=[7, 3]),
        pa.table({"text": ["a", "ü"], "n": [1, None]}).to_batches()[0],
    ],
    ids=["mappings", "arrow", "polars", "pandas with an index", "record batch"],
)
def test_tables_are_rows(questions: Any) -> None:
    """C4: a table of any library with the Arrow interface gives the same rows, so the same batch."""
    assert _lines(questions) == ['{"text": "a", "n": 1}', '{"text": "ü", "n": null}']


@pytest.mark.parametrize(
    "questions", [["a", "b"], ("a", "b"), iter(["a", "b"]), pd.Series(["a", "b"]), pl.Series(["a", "b"])]
)
def test_texts_are_questions(questions: Any) -> None:
    """A list, a generator, or a column of a table."""
    assert _lines(questions) == ['{"question": "a"}', '{"question": "b"}']


def test_values_without_a_json_form_are_texts_or_refused() -> None:
    """Dates and decimals as a database returns them become text; what has no plain form is named with its row."""
    row = {"question": "a", "on": date(2026, 11, 28), "price": Decimal("1.10")}
    assert _lines([row]) == ['{"question": "a", "on": "2026-11-28", "price": "1.10"}']
    for value in (float("nan"), b"bytes", object()):
        with pytest.raises(askmill.UsageError, match="row 2 cannot be written as JSON"):
            _lines(["a", {"question": value}])


@pytest.mark.parametrize("questions", [3, None, b"q.csv", {"question": "a"}, [3], [["a"]], object()])
def test_what_is_not_understood_is_a_type_error(questions: Any) -> None:
    """C4: the message lists what is understood; nothing was asked."""
    with pytest.raises(TypeError, match="mappings"):
        askmill.run(questions, offline=True)


def test_calls_start_no_process_and_leave_the_program_as_it_is(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submit, status, collect, retry, cancel, estimate: no child process, no signal handler, no log handler."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    handlers = list(logging.getLogger().handlers)
    questions = pd.DataFrame({"question": ["1 + 1", "2 + 2"]})

    batch = askmill.submit(questions, model="m", name="mine")

    assert askmill.submit(["1 + 1", "2 + 2"], model="m") == batch, "texts are the same rows"
    assert (askmill.status(batch).state, askmill.status().name) == ("queued", "mine")
    assert [row.input["question"] for row in askmill.collect(batch)] == ["1 + 1", "2 + 2"]
    assert askmill.retry(batch).counts["queued"] == 2
    assert askmill.cancel(batch).counts["cancelled"] == 2
    assert askmill.retry(batch, statuses=["cancelled"]).counts["queued"] == 2
    assert askmill.estimate(questions, model="gpt-5-mini").rows == 2
    assert {number: signal.getsignal(number) for number in before} == before
    assert logging.getLogger().handlers == handlers


def test_a_call_works_in_a_running_event_loop(configured: Path) -> None:
    """As in a notebook; and the coroutine of the same name does not block the loop."""

    async def cell() -> tuple[str, int, str]:
        batch = askmill.submit(["1 + 1"], model="m")
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        again = await askmill.aio.submit(["1 + 1"], model="m")
        ticking.cancel()
        return batch, ticks, again

    batch, ticks, again = asyncio.run(cell())

    assert again == batch
    assert ticks > 1


def test_every_call_has_an_async_twin() -> None:
    """Same parameters; a coroutine function."""
    for name in CALLS:
        twin, call = getattr(askmill.aio, name), getattr(askmill, name)
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(call)


async def test_a_cancelled_task_ends_the_call(configured: Path, store: Store) -> None:
    """The task that waits is cancelled, and nothing of the call is left running; the batch stays."""
    batch = await submit_batch(store, 1)
    waiting = asyncio.create_task(askmill.aio.collect(batch, wait=True))
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert (await askmill.aio.status(batch)).rows == 1


def test_mistakes_have_the_sentences_of_the_command_line(configured: Path) -> None:
    """Keywords are checked by the parser of the commands; unknown ones are named."""
    with pytest.raises(askmill.UsageError, match="must be a number above 0"):
        askmill.submit(["a"], deadline_s=-1)
    with pytest.raises(askmill.UsageError, match="--modle"):
        askmill.submit(["a"], modle="m")  # type: ignore[call-arg]
    with pytest.raises(askmill.InputFaults, match="the rows: line 2"):
        askmill.submit(["a", ""])
    with pytest.raises(askmill.UsageError, match="not a status"):
        askmill.collect(statuses=["don"])  # type: ignore[list-item]
    with pytest.raises(askmill.UsageError, match="pydantic model"):
        askmill.submit(["a"], response_schema=dict)  # type: ignore[arg-type]


@pytest.mark.usefixtures("configured")
def test_a_misspelt_setting_and_skipped_lines_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """As the commands say them: a notebook sets `os.environ` by hand."""
    monkeypatch.setenv("ASKMILL_MODLE", "gpt-6-luna")
    (tmp_path / "q.csv").write_text("question,x\nWhy?,1\n,\nHow?,2\n")

    with caplog.at_level(logging.INFO, "askmill"):
        askmill.submit(str(tmp_path / "q.csv"))

    messages = [record.message for record in caplog.records]
    assert messages.count("ASKMILL_MODLE is no setting; did you mean ASKMILL_MODEL?") == 1
    assert "1 blank line is skipped. 2 rows to ask." in messages


def test_a_withheld_key_stays_in_the_programs_environment(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is not sent to a loopback address of `.env`, but the program's own code still has it."""
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    (configured / ".env").write_text("OPENAI_BASE_URL=http://127.0.0.1:9/v1\n")

    askmill.submit(["1 + 1"], model="m")

    assert os.environ["OPENAI_API_KEY"] == "sk-mine"


class Mood(BaseModel):
    mood: str
    score: float


TOOLS = '''
def double(number: float) -> float:
    """Double a number."""
    return 2 * number

def hidden(number: float) -> float:
    """Not offered."""
    return number
'''


async def test_objects_as_profile_schema_and_functions(
    configured: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mappings and objects are stored as the files and options that they stand for."""
    (configured / "our_tools.py").write_text(TOOLS)
    monkeypatch.syspath_prepend(configured)
    import our_tools  # type: ignore[import-not-found]  # noqa: PLC0415

    batch = await askmill.aio.submit(
        ["1 + 1"],
        profile={"name": "Tutor", "model": "m", "temperature": 0.5},
        temperature=0.1,
        response_schema=Mood,
        functions=[our_tools.double],
    )

    profile = (await store.batch(batch)).profile
    assert (profile.name, profile.model, profile.temperature) == ("Tutor", "m", 0.1)
    assert profile.response_schema == Mood.model_json_schema()
    assert profile.functions is not None
    assert profile.functions.module == "our_tools.py"
    assert [tool.name for tool in profile.functions.tools] == ["double"]
    assert (
        await askmill.aio.submit(
            ["1 + 1"],
            profile={"name": "Tutor", "model": "m", "temperature": 0.1},
            response_schema=Mood.model_json_schema(),
            functions=(our_tools.double,),
        )
        == batch
    )


def test_function_objects_are_called_by_the_worker_of_run(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """17.7, end to end: the model asks for a function of an importable module; its output is in the steps."""
    (configured / "our_tools.py").write_text(TOOLS)
    monkeypatch.syspath_prepend(configured)
    sys.modules.pop("our_tools", None)
    import our_tools  # noqa: PLC0415

    (row,) = askmill.run(
        ['Double 21. [emulate: requires_action(double, {"number": 21}), completed]'],
        functions=[our_tools.double],
        offline=True,
        progress=False,
    )

    assert (row.status, row.error) == ("completed", None)
    (call,) = [step for step in row.steps if step.type == "function"]
    assert "42" in str(call.details)


async def test_compare_puts_batches_side_by_side(configured: Path, store: Store) -> None:
    """17.7: ids or results; rows as mappings and tables, a summary, a file and a page, and its text and HTML."""
    spec = InputSpec(("question", "wanted"), "question")

    def rows(*answers: str) -> list[NewRow]:
        return [
            NewRow([f"q{row}", "1"], reused_result=pack_result(make_result(row, answer=answer)))
            for row, answer in enumerate(answers, 1)
        ]

    first = await submit_batch(store, rows("1", "2"), spec=spec, profile=Profile(model="a"))
    second = await submit_batch(
        store, rows("1", "1"), spec=spec, profile=Profile(model="b"), identity="1" * 64
    )
    results = await askmill.aio.collect(second)

    both = await askmill.aio.compare(first, results, names=["old", "new"], expected="wanted")

    assert (len(both), both.differing) == (2, 1)
    assert both[1]["old.answer"] == "2"
    assert [row["differs"] for row in both[1:]] == [True]
    assert [(side.name, side.batch, side.completed) for side in both.summary] == [
        ("old", first, 2),
        ("new", second, 2),
    ]
    assert [side.accuracy["correct"] for side in both.summary if side.accuracy] == [1, 2]
    assert list(both.to_pandas()["new.correct"]) == [True, True]
    assert both.to_polars()["old.answer"].to_list() == ["1", "2"]
    both.save("both.csv")
    assert "old.answer" in (configured / "both.csv").read_text(encoding="utf-8").splitlines()[0]
    both.save("both.html")
    assert "Answers side by side" in (configured / "both.html").read_text(encoding="utf-8")
    assert "1 of 2 rows differ" in repr(both)
    assert "<table>" in both._repr_html_()
    with pytest.raises(askmill.UsageError, match=r"two batches or more.*`askmill list`"):
        await askmill.aio.compare(first)


@pytest.mark.long
def test_the_notebook_runs(configured: Path) -> None:
    """17.7: every cell of examples/notebook.ipynb, with a kernel; results are tables of the notebook."""
    example = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
    notebook = configured / "notebook.ipynb"  # cells write where the notebook is
    notebook.write_bytes(example.read_bytes())
    command = "from nbclient.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", command, f"--output={configured / 'out.ipynb'}", notebook],
        cwd=configured,
        check=True,
        capture_output=True,
        timeout=240,
    )
    cells = json.loads((configured / "out.ipynb").read_bytes())["cells"]
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    outputs = [{kind: "".join(text) for kind, text in data.items()} for data in shown]
    assert len(outputs) == len([cell for cell in cells if cell["cell_type"] == "code"]), (
        "one each, none on stderr"
    )
    assert "3 rows of b_" in outputs[0]["text/html"]
    assert "12*(3 + 4) = 84." in outputs[0]["text/plain"], "Rich does not display it by itself"
    assert "Review(tone=" in outputs[2]["text/plain"]
    assert "rows differ" in outputs[3]["text/html"]


def test_functions_that_workers_cannot_import_are_refused(configured: Path) -> None:
    """Of a notebook, nested, or renamed: before anything is stored."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("def cell(n: int) -> int:\n    return n\n", namespace)

    def nested(n: int) -> int:
        return n

    for function in (namespace["cell"], nested):
        with pytest.raises(askmill.UsageError, match="workers cannot import"):
            askmill.submit(["a"], functions=[function])


@pytest.fixture
def results() -> Results:
    """Twelve rows: an answer that satisfies the schema, one with markup, one that failed, nine queued."""
    answers = ['{"mood": "good", "score": 1}', "<script>alert(1)</script> \x1b[31mred", None]
    views = []
    for row, answer in enumerate(answers, 1):
        status = JobStatus.COMPLETED if answer else JobStatus.FAILED
        result = StoredResult(row, status, answer or "", None if answer else "server_error: <b>no</b>")
        views.append(RowView(row, [f"Question <i>{row}</i>"], status, pack_result(result)))
    views += [RowView(row, ["later"], JobStatus.QUEUED, None) for row in range(4, 13)]
    schema = Mood.model_json_schema()
    return Results(_batch(Profile(model="m", response_schema=schema)), views, Mood.model_validate_json)


def _batch(profile: Profile) -> Any:
    spec = InputSpec(columns=("question",), question_column="question")
    fields = {"id": "b_1", "spec": spec, "profile": profile, "file": "questions.csv", "expected": None}
    return dataclasses.make_dataclass("Batch", fields)(**fields)


def test_results_are_a_sequence_of_rows(results: Results) -> None:
    """Length, index, slice, iteration; `parsed` is an instance of the model where the answer satisfies it."""
    assert (len(results), results.batch) == (12, "b_1")
    assert results[-1].row == 12
    assert [row.row for row in results[1:3]] == [2, 3]
    assert results[0].parsed == Mood(mood="good", score=1)
    assert [row.parsed for row in results[1:]] == [None] * 11
    assert (results[2].answer, results[2].error) == ("", "server_error: <b>no</b>")
    plain = Results(results._batch, results._views)
    assert plain[0].parsed == {"mood": "good", "score": 1}


def test_results_are_shown_as_a_table(results: Results) -> None:
    """The repr fits a terminal; a notebook's table has no markup of questions and answers, no control codes."""
    text, page = repr(results), results._repr_html_()

    assert text.splitlines()[0] == "12 rows of b_1: 9 queued · 2 completed · 1 failed"
    assert text.splitlines()[-1] == "… and 2 more"
    assert all(len(line) <= 100 for line in text.splitlines())
    assert "completed" in text
    assert "(server_error" in text
    for shown in (text, page):
        assert "\x1b" not in shown
    for markup in ("<script>", "<i>", "<b>"):
        assert markup not in page
    assert "&lt;script&gt;alert(1)" in page


def test_results_as_tables_have_typed_columns(results: Results) -> None:
    """Arrow, pandas and polars: the columns of the Parquet output; the program's memory pool stays."""
    pool = pa.default_memory_pool().backend_name
    table = results.to_arrow()

    assert table.num_rows == 12
    assert table.schema.field("row").type == pa.int64()
    assert table.column("status").to_pylist()[:4] == ["completed", "completed", "failed", "queued"]
    assert list(results.to_pandas().columns) == list(results.to_polars().columns) == table.column_names
    assert pa.default_memory_pool().backend_name == pool


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_saved_results_are_the_commands_file(configured: Path, name: str) -> None:
    """`save` writes what `askmill collect -o` writes, the columns of a schema and the sidecars included."""
    batch = askmill.submit(["1 + 1", "2 + 2"], model="m", response_schema="score: float")
    rows = askmill.collect(batch)
    (configured / "ours").mkdir()

    rows.save(configured / "ours" / name)

    CliRunner().invoke(collect_command, [batch, "-o", name])
    written = sorted(path.name for path in (configured / "ours").iterdir())
    assert written == sorted(path.name for path in configured.iterdir() if path.is_file())
    for each in written:
        assert (configured / "ours" / each).read_bytes() == (configured / each).read_bytes(), each
    with pytest.raises(askmill.UsageError, match="no folder"):
        rows.save(configured / "nowhere" / name)
