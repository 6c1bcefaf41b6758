"""Writing result files: every rule of CONTRACT, "Results"."""

import csv
import errno
import gc
import io
import os
import stat
import sys
import tracemalloc
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from askmill.jobs.model.errors import UsageError, WriteFault
from askmill.jobs.model.models import Attempt, InputSpec, JobStatus, Result, Step, Usage
from askmill.jobs.results import FIELDS, Format, ResultOptions, plan_results, write_results
from askmill.jobs.results.destination import atomic_write
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.views import RowView

SPEC = InputSpec(columns=("id", "question"), question_column="question")
DONE = Result(
    row=1,
    status=JobStatus.COMPLETED,
    answer='4, "four",\nor IV',
    attempts=(
        Attempt(1, "t1", "r1", "failed"),
        Attempt(2, "t2", "r2", "completed", usage=Usage(120, 30, 90, None, 20), cost_usd=0.5, tier="flex"),
    ),
    thread_id="t2",
    run_id="r2",
    model="gpt-x",
    usage=Usage(120, 30),
    cost_usd=0.0000125,
    duration_s=1.5,
    citations=({"n": 1, "url": "https://x.org"},),
    steps=(
        Step("r2", 2, "message", "completed", 10.0, 11.5, Usage(120, 30), {"text": "4"}),
        Step("r1", 1, "reasoning", "failed"),
    ),
)


def view(result=DONE, *, row=1, cells=("q1", "What is 2 + 2?"), status=None):
    packed = None if result is None else pack_result(result)
    return RowView(row, list(cells), status or result.status, packed)


async def stream(views):
    for each in views:
        yield [each]


async def write(out, views, spec=SPEC, fetch=None, **options):
    plan = plan_results(str(out), spec, ResultOptions(**options))
    return await write_results(stream(views), plan, fetch)


def read_csv(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, strict=True))


def json_lines(path):
    return [orjson.loads(line) for line in Path(path).read_bytes().splitlines()]


# --- rows and columns --------------------------------------------------------------------------------------


async def test_csv_bytes(tmp_path):
    """UTF-8 without BOM, comma, CRLF; the input's columns first, unchanged, then the result columns."""
    await write(tmp_path / "a.csv", [view(cells=("é", " a,\tb "))])
    assert (tmp_path / "a.csv").read_bytes() == (
        "id,question,row,status,answer,error,attempts,thread_id,run_id,model,prompt_tokens,completion_tokens,"
        "cost_usd,duration_s,citations,files\r\n"
        'é," a,\tb ",1,completed,"4, ""four"",\nor IV",,2,t2,r2,gpt-x,120,30,0.0000125,1.5,'
        '"[{""n"":1,""url"":""https://x.org""}]",[]\r\n'
    ).replace('" a,\tb "', '" a,\tb "').encode()


async def test_every_row_once_in_order(tmp_path):
    """All rows are written in the order of the stream; none is lost or repeated."""
    written = await write(tmp_path / "a.csv", [view(row=n, cells=(str(n), "q")) for n in range(1, 1001)])
    assert [row[0] for row in read_csv(tmp_path / "a.csv")[1:]] == [str(n) for n in range(1, 1001)]
    assert written.rows == 1000


async def test_no_rows(tmp_path):
    """An empty selection gives a file with only the header."""
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        await write(tmp_path / name, [])
    assert read_csv(tmp_path / "a.csv") == [["id", "question", *FIELDS]]
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0


async def test_unknown_numbers_are_empty(tmp_path):
    """Unknown numbers are empty, never 0; a known 0 is 0."""
    unknown = Result(row=1, status=JobStatus.FAILED, error="server_error: x", attempts_made=0)
    reused = Result(
        row=2, status=JobStatus.COMPLETED, answer="a", attempts_made=0, cost_usd=0.0, duration_s=0.0
    )
    await write(tmp_path / "a.csv", [view(unknown), view(reused, row=2)])
    header, *rows = read_csv(tmp_path / "a.csv")
    first, second = (dict(zip(header, row, strict=True)) for row in rows)
    assert [first[name] for name in ("prompt_tokens", "completion_tokens", "cost_usd", "duration_s")] == [
        ""
    ] * 4
    assert (first["attempts"], second["attempts"], second["cost_usd"], second["duration_s"]) == (
        "0",
        "0",
        "0",
        "0",
    )


async def test_unfinished_rows(tmp_path):
    """A queued or running row has its status and an empty answer; citations and files are empty lists."""
    await write(
        tmp_path / "a.csv", [view(None, status=JobStatus.QUEUED), view(None, row=2, status=JobStatus.RUNNING)]
    )
    rows = read_csv(tmp_path / "a.csv")[1:]
    assert [row[2:] for row in rows] == [
        [str(n), status, *[""] * 10, "[]", "[]"] for n, status in ((1, "queued"), (2, "running"))
    ]


async def test_a_retried_row_shows_its_previous_answer(tmp_path):
    """Until the retry ends, the row is queued and shows its previous result."""
    await write(tmp_path / "a.csv", [view(status=JobStatus.QUEUED)])
    assert read_csv(tmp_path / "a.csv")[1][3:5] == ["queued", DONE.answer]


async def test_result_columns_never_hide_input_columns(tmp_path):
    """A result column is prefixed until its name is not an input column's."""
    spec = InputSpec(columns=("question", "answer", "askmill_answer", "status"), question_column="question")
    await write(tmp_path / "a.csv", [view(cells=("q", "mine", "mine too", "x"))], spec)
    header, row = read_csv(tmp_path / "a.csv")
    assert header[:8] == [
        *spec.columns,
        "row",
        "askmill_status",
        "askmill_askmill_answer",
        "error",
    ]
    assert row[:4] == ["q", "mine", "mine too", "x"]
    assert row[6] == DONE.answer


async def test_typed_cells_become_json_text(tmp_path):
    """Nested values of .jsonl and .parquet are JSON text in a CSV; null is empty."""
    await write(tmp_path / "a.csv", [view(cells=({"a": [1, None]}, None)), view(cells=(1.5, True), row=2)])
    assert [row[:2] for row in read_csv(tmp_path / "a.csv")[1:]] == [['{"a":[1,null]}', ""], ["1.5", "true"]]


async def test_columns_are_chosen_and_ordered(tmp_path):
    """--columns selects and orders input and result columns in every format."""
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        await write(tmp_path / name, [view()], columns=("answer", "id"))
    assert read_csv(tmp_path / "a.csv") == [["answer", "id"], [DONE.answer, "q1"]]
    assert json_lines(tmp_path / "a.jsonl") == [{"answer": DONE.answer, "id": "q1"}]
    assert pq.read_table(tmp_path / "a.parquet").to_pydict() == {"answer": [DONE.answer], "id": ["q1"]}


def test_unknown_columns_are_listed():
    """An unknown or repeated name is refused before submit."""
    with pytest.raises(UsageError, match=r"id, question, row, .* did you mean 'answer'"):
        plan_results("a.csv", SPEC, ResultOptions(columns=("anser",)))
    with pytest.raises(UsageError, match="twice"):
        plan_results("a.csv", SPEC, ResultOptions(columns=("id", "id")))


async def test_selecting_every_column_gives_the_same_bytes(tmp_path):
    """The fast path (stored CSV cells) and the path for --columns write the same bytes."""
    rows = [
        view(),
        view(None, row=2, status=JobStatus.QUEUED),
        view(Result(row=3, status=JobStatus.FAILED, error='a, "b"', answer="\r", attempts_made=0), row=3),
        view(with_files("é.png"), row=4, cells=('"', {"x": [1, None]})),
        view(cells=("short",), row=5),
        RowView(6, ["q", "r"], JobStatus.FAILED, b"!previous_turn\n" + pack_result(DONE)),
    ]
    for fetch in (None, fetch_blob):
        await write(tmp_path / "a.csv", rows, fetch=fetch)
        copied = (tmp_path / "a.csv").read_bytes()
        await write(tmp_path / "a.csv", rows, fetch=fetch, columns=(*SPEC.columns, *FIELDS))
        assert (tmp_path / "a.csv").read_bytes() == copied


async def test_steps_are_the_same_in_every_format(tmp_path):
    """The steps file, .jsonl and .parquet have the same steps, also for a result with a script's marker."""
    marked = RowView(2, ["q2", "q"], JobStatus.FAILED, b"!previous_turn\n" + pack_result(DONE))
    rows = [view(), marked, view(None, row=3, status=JobStatus.RUNNING)]
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        await write(tmp_path / name, rows)
    beside = [line["steps"] for line in json_lines(tmp_path / "a.steps.jsonl")]
    assert [len(steps) for steps in beside] == [2, 2, 0]
    assert [line["steps"] for line in json_lines(tmp_path / "a.jsonl")] == beside
    read = pq.read_table(tmp_path / "a.parquet").to_pydict()
    assert [orjson.loads(steps) for steps in read["steps"]] == beside
    assert (read["status"], read["error"][1], read["answer"][1]) == (
        ["completed", "failed", "running"],
        "previous_turn",
        "",
    )


async def test_spreadsheet_safe(tmp_path):
    """Case B9: every cell that a spreadsheet would run as a formula gets a leading quote; numbers are none."""
    starts = [
        "=1",
        "+a",
        "-5+3",
        "@a",
        "\ta",
        "\ra",
        "\na",
        "\uff1d1",
        "1=",
        " =1",
        "-1",
        "+1.5e3",
        "-1,234.5",
        "-",
    ]
    safe = [f"'{text}" for text in starts[:8]] + starts[8:-1] + ["'-"]
    rows = [
        view(Result(row=1, status=JobStatus.COMPLETED, answer=text), cells=(text, "q")) for text in starts
    ]
    spec = InputSpec(columns=("=id", "question"), question_column="question")
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        await write(tmp_path / name, rows, spec, spreadsheet_safe=True)
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            header, *got = csv.reader(file, delimiter=delimiter, strict=True)
        assert header[0] == "'=id"
        assert [row[4] for row in got] == [row[0] for row in got] == safe
    with pytest.raises(UsageError, match="CSV"):
        plan_results("a.jsonl", SPEC, ResultOptions(spreadsheet_safe=True))


# --- steps, formats ----------------------------------------------------------------------------------------


RUN_FIELDS = (
    "run_id",
    "attempt",
    "status",
    "model",
    "tier",
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_usd",
)


async def test_steps_file_next_to_a_csv(tmp_path):
    """x.answers.csv has x.answers.steps.jsonl: one line per row, the same keys in each step and each run."""
    written = await write(tmp_path / "x.answers.csv", [view(), view(None, row=2, status=JobStatus.QUEUED)])
    assert written.steps == tmp_path / "x.answers.steps.jsonl"
    first, second = json_lines(written.steps)
    assert second == {"row": 2, "steps": [], "runs": []}
    assert first == {
        "row": 1,
        "steps": [
            {
                "run_id": "r2",
                "attempt": 2,
                "type": "message",
                "status": "completed",
                "started_at": 10.0,
                "finished_at": 11.5,
                "prompt_tokens": 120,
                "completion_tokens": 30,
                "details": {"text": "4"},
            },
            {
                "run_id": "r1",
                "attempt": 1,
                "type": "reasoning",
                "status": "failed",
                "started_at": None,
                "finished_at": None,
                "prompt_tokens": None,
                "completion_tokens": None,
                "details": {},
            },
        ],
        "runs": [
            {**dict.fromkeys(RUN_FIELDS), "run_id": "r1", "attempt": 1, "status": "failed"},
            {
                "run_id": "r2",
                "attempt": 2,
                "status": "completed",
                "model": None,
                "tier": "flex",
                "prompt_tokens": 120,
                "cached_tokens": 90,
                "cache_write_tokens": None,
                "completion_tokens": 30,
                "reasoning_tokens": 20,
                "cost_usd": 0.5,
            },
        ],
    }


async def test_jsonl(tmp_path):
    """A line has the row number, the input's typed values, the result's fields and the steps."""
    written = await write(tmp_path / "a.jsonl", [view(cells=({"x": 1}, "q"))])
    [line] = json_lines(tmp_path / "a.jsonl")
    assert list(line) == ["row", "input", *FIELDS[1:], "steps"]
    assert line["input"] == {"id": {"x": 1}, "question": "q"}
    assert (line["status"], line["attempts"], line["cost_usd"], line["error"]) == (
        "completed",
        2,
        0.0000125,
        None,
    )
    assert len(line["steps"]) == 2
    assert written.steps is None
    assert list(tmp_path.iterdir()) == [tmp_path / "a.jsonl"]


async def test_parquet(tmp_path):
    """Flat columns: numbers typed, unknown ones null, lists and steps as JSON text."""
    await write(
        tmp_path / "a.parquet", [view(cells=("q1", {"x": 1})), view(None, row=2, status=JobStatus.RUNNING)]
    )
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["id", "question", *FIELDS, "steps"]
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["row"], types["prompt_tokens"], types["cost_usd"], types["question"]) == (
        "int64",
        "int64",
        "double",
        "string",
    )
    first, second = table.to_pylist()
    assert (first["question"], first["completion_tokens"], first["duration_s"]) == ('{"x":1}', 30, 1.5)
    assert orjson.loads(first["steps"])[0]["type"] == "message"
    assert (second["answer"], second["prompt_tokens"], second["steps"]) == (None, None, "[]")


@pytest.mark.parametrize(
    ("out", "format_option", "expected"),
    [
        ("a.csv", None, Format.CSV),
        ("a.JSONL", None, Format.JSONL),
        ("a.parquet", None, Format.PARQUET),
        ("results", None, Format.CSV),
        ("-", None, Format.CSV),
        ("a.csv", Format.JSONL, Format.JSONL),
    ],
)
def test_extension_picks_the_format(tmp_path, monkeypatch, out, format_option, expected):
    """--format decides, else OUT's extension; a name without one is CSV."""
    monkeypatch.chdir(tmp_path)
    assert plan_results(out, SPEC, ResultOptions(format=format_option)).output.format is expected


@pytest.mark.parametrize(
    "out", ["a.xls", "a.json", "a.parquet.gz", "a.csv.bz2", "none/a.csv", ".", "a\0.csv"]
)
def test_out_that_cannot_be_written(tmp_path, monkeypatch, out):
    """An unsupported format, a missing folder, or a folder as OUT is refused before submit."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        plan_results(out, SPEC, ResultOptions())


async def test_stdout_without_sidecars(tmp_path, monkeypatch):
    """`-` writes the same bytes to stdout and no other file."""
    monkeypatch.chdir(tmp_path)
    await write("a.csv", [view()])
    header = read_csv("a.csv")[0]
    captured = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(captured))
    written = await write("-", [view()])
    assert written.path is None
    assert captured.getvalue().decode().split("\r\n")[0] == ",".join(header)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.steps.jsonl"]


async def test_parquet_to_stdout(tmp_path, monkeypatch):
    """Parquet can be written to stdout."""
    captured = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(captured))
    await write("-", [view()], format=Format.PARQUET)
    assert pq.read_table(io.BytesIO(captured.getvalue())).num_rows == 1


# --- generated files ---------------------------------------------------------------------------------------


def with_files(*names, **more):
    return Result(row=1, status=JobStatus.COMPLETED, files=tuple({"name": name, **more} for name in names))


async def fetch_blob(row, file):
    return f"{row}:{file['name']}".encode()


async def test_generated_files(tmp_path):
    """Generated files are written to OUT.files/ROW/NAME; `files` has their paths."""
    await write(tmp_path / "a.csv", [view(with_files("plot.png"), row=7)], fetch=fetch_blob)
    assert (tmp_path / "a.files" / "7" / "plot.png").read_bytes() == b"7:plot.png"
    [file] = orjson.loads(read_csv(tmp_path / "a.csv")[1][-1])
    assert file == {"name": "plot.png", "path": "a.files/7/plot.png"}


async def test_files_beyond_the_limit(tmp_path):
    """A file that was not stored has its reason and no path; nothing is written for it."""

    async def fetch_nothing(row, file):
        return None

    rows = [view(with_files("big.bin", reason="over 10 MB")), view(with_files("lost.bin"), row=2)]
    await write(tmp_path / "a.csv", rows, fetch=fetch_nothing)
    files = [orjson.loads(row[-1]) for row in read_csv(tmp_path / "a.csv")[1:]]
    assert files == [[{"name": "big.bin", "reason": "over 10 MB"}], [{"name": "lost.bin"}]]
    assert not (tmp_path / "a.files").exists()


async def test_names_never_leave_the_folder(tmp_path):
    """No name from the API escapes OUT.files/ROW/, and equal names do not overwrite each other."""
    names = [
        "../../x",
        "/etc/x",
        "..\\..\\x",
        "C:\\x",
        "..",
        ".",
        "nul.txt",
        ".hidden",
        "a\0b",
        "A/B/../../..",
        "é" * 300 + ".png",
    ]
    out = tmp_path / "deep" / "deeper"
    out.mkdir(parents=True)
    await write(out / "a.csv", [view(with_files(*names))], fetch=fetch_blob)
    folder = out / "a.files" / "1"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in files} == {out, folder}
    assert len(list(folder.iterdir())) == len(names)
    entries = orjson.loads(read_csv(out / "a.csv")[1][-1])
    assert all((out / each["path"]).read_bytes().decode() == f"1:{each['name']}" for each in entries)


# --- atomic writes ------------------------------------------------------------------------------------------


class Broken(Exception):
    """Ends a stream early."""


async def stream_that_breaks(views):
    for each in views:
        yield [each]
    raise Broken


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
async def test_a_failure_leaves_the_old_files(tmp_path, name):
    """If writing fails, OUT and its steps file stay as they were, and no other file is left."""
    out = tmp_path / name
    await write(out, [view()])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Broken):
        await write_results(stream_that_breaks([view()] * 500), plan_results(str(out), SPEC, ResultOptions()))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


async def test_out_is_never_seen_half_written(tmp_path):
    """While rows are written, OUT still has its old content."""
    out = tmp_path / "a.csv"
    out.write_text("old")
    seen = []

    async def watched():
        for n in range(1, 1001):
            seen.append(out.read_text())
            yield [view(row=n)]

    await write_results(watched(), plan_results(str(out), SPEC, ResultOptions()))
    assert set(seen) == {"old"}
    assert len(read_csv(out)) == 1001


async def test_modes(tmp_path):
    """A new file has the mode of the umask; a replaced file keeps its mode."""
    old = os.umask(0o027)
    try:
        await write(tmp_path / "a.csv", [])
    finally:
        os.umask(old)
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o640
    (tmp_path / "a.csv").chmod(0o600)
    await write(tmp_path / "a.csv", [])
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o600


async def test_links_stay_links(tmp_path):
    """If OUT is a link, its target is replaced and the link stays."""
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "a.csv").symlink_to(tmp_path / "real.csv")
    await write(tmp_path / "a.csv", [view()])
    assert (tmp_path / "a.csv").is_symlink()
    assert len(read_csv(tmp_path / "real.csv")) == 2


def is_device(path):
    return stat.S_ISCHR(Path(path).stat().st_mode)


async def test_devices_are_written_directly(tmp_path):
    """A device or a pipe is not replaced, and has no steps file."""
    written = await write("/dev/null", [view()])
    assert (written.rows, written.steps) == (1, None)
    assert is_device("/dev/null")


async def test_a_full_disk_is_a_write_fault(tmp_path):
    """The message names the cause and the command that writes the results again; exit code 3."""
    with pytest.raises(WriteFault, match=r"No space left.*collect") as full:
        await write("/dev/full", [view()])
    assert full.value.exit_code == 3, "rows were asked: not bad usage"


def _fill(out):
    with atomic_write(out) as stream:
        stream.write(b"new")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A write that fails halfway leaves the old file unchanged."""
    out = tmp_path / "a.csv"
    out.write_text("old")
    with pytest.raises(OSError, match="No space"):
        _fill(out)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert out.read_text() == "old"


def test_the_input_behind_a_link_is_never_overwritten(tmp_path):
    """OUT is refused if the input is a soft or hard link to it."""
    (tmp_path / "q.csv").write_text("x")
    (tmp_path / "soft.csv").symlink_to(tmp_path / "q.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "q.csv")
    for source in ("soft.csv", "hard.csv"):
        with pytest.raises(UsageError, match="overwrite"):
            plan_results(str(tmp_path / "q.csv"), SPEC, ResultOptions(), source=str(tmp_path / source))


def test_the_input_is_never_overwritten(tmp_path):
    """OUT, or its steps file, is refused if it is the input under any name."""
    for name, out in (("q.csv", "q.csv"), ("q.csv", "link.csv"), ("a.steps.jsonl", "a.csv")):
        (tmp_path / name).write_text("x")
        if out == "link.csv":
            (tmp_path / out).symlink_to(tmp_path / name)
        with pytest.raises(UsageError, match="overwrite"):
            plan_results(str(tmp_path / out), SPEC, ResultOptions(), source=str(tmp_path / name))


# --- memory ------------------------------------------------------------------------------------------------


async def _peak_bytes(out, count):
    packed = pack_result(DONE)

    async def rows():
        for n in range(1, count + 1):
            yield [RowView(n, [f"{n}", "q"], JobStatus.COMPLETED, packed)]

    gc.collect()
    tracemalloc.start()
    await write_results(rows(), plan_results(str(out), SPEC, ResultOptions()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


async def test_memory_is_flat(tmp_path):
    """More rows take no more memory: 60 bytes per row would fail."""
    small = await _peak_bytes(tmp_path / "a.csv", 2_000)
    assert await _peak_bytes(tmp_path / "b.csv", 10_000) < small + 8_000 * 60
