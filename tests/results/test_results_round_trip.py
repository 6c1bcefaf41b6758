"""Properties: what goes through our files comes back unchanged, and no name of the API escapes its folder."""

import asyncio
import csv
import io
import ntpath
import sys
import tempfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askmill.jobs.intake import IntakeOptions, check
from askmill.jobs.model.models import InputSpec, JobStatus
from askmill.jobs.results import FIELDS, ResultOptions, plan_results, write_results
from askmill.jobs.results.columns import Entry, select_columns
from askmill.jobs.results.generated_files import MAX_NAME_BYTES, safe_name
from askmill.jobs.results.writers import CsvLines, CsvWriter
from askmill.jobs.store.views import RowView

# Text as any CSV cell may hold it: quotes, delimiters, line ends of each kind, no NUL.
pieces = st.sampled_from(
    ['"', '""', ",", ";", "\t", "|", "\r", "\n", "\r\n", "'", "=", " ", "\ufeff", "\u2028", "\x0b", "\x85"]
)
letters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
cells = st.lists(st.one_of(pieces, st.text(letters, max_size=4)), max_size=8).map("".join)
names = st.text(letters, min_size=1, max_size=8)


@given(texts=st.lists(cells, min_size=1, max_size=5))
@example(texts=[""])
def test_chosen_columns_are_read_back_unchanged(texts):
    """Python's strict reader reads any record back, also one of a single empty cell."""
    spec = InputSpec(columns=tuple(f"column {number}" for number in range(len(texts))), question_column=None)
    columns = select_columns(spec, spec.columns, with_steps=False)
    assert written_by_csv_writer(columns, [Entry(1, "queued", texts)]) == [list(spec.columns), texts]


any_text = cells | st.text(max_size=4) | st.sampled_from(["", "a", "a,b", "\r", "\n"])


@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(any_text, min_size=width, max_size=width), min_size=1, max_size=4)
    ),
    delimiter=st.sampled_from(",\t"),
)
@example(rows=[[""]], delimiter=",")
@example(rows=[["a,b", "c"], ["", ""]], delimiter=",")
@example(rows=[["a", "b\r"], ["c\n", "d"]], delimiter=",")
def test_lines_are_those_of_csv_writer(rows, delimiter):
    """Of any texts: the lines are those that Python's `csv.writer` writes."""
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    assert CsvLines(delimiter).lines(list(zip(*rows, strict=True))) == stream.getvalue()


def written_by_csv_writer(columns, entries):
    """Return the records that Python's strict reader finds."""
    stream = io.BytesIO()
    writer = CsvWriter(stream, columns, spreadsheet_safe=False)
    writer.add([columns.row(entry) for entry in entries])
    writer.close()
    return list(csv.reader(io.StringIO(stream.getvalue().decode(), newline=""), strict=True))


def through_results(spec, rows, folder, out="out.csv"):
    async def views():
        for number, row in enumerate(rows, 1):
            yield [RowView(number, row, JobStatus.QUEUED, None)]

    path = Path(folder) / out
    asyncio.run(write_results(views(), plan_results(str(path), spec, ResultOptions())))
    return path


@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
@example(rows=[("", "")])
@example(rows=[("\r", "a\rb")])
def test_cells_through_our_writer(rows):
    """Python's own reader finds every cell unchanged in our CSV."""
    columns = select_columns(
        InputSpec(columns=("question", "note"), question_column="question"), (), with_steps=False
    )
    entries = [Entry(number, "queued", list(row)) for number, row in enumerate(rows, 1)]
    assert [row[:2] for row in written_by_csv_writer(columns, entries)[1:]] == [list(row) for row in rows]


@given(
    rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=8), delimiter=st.sampled_from(",;\t|")
)
@settings(max_examples=60, deadline=None)
def test_cells_through_intake_and_results(rows, delimiter):
    """What another program wrote as CSV comes back from intake and results, cell by cell."""
    rows = [[first, f"q{second}", third] for first, second, third in rows]
    with tempfile.TemporaryDirectory() as folder:
        given_path = Path(folder) / "in.csv"
        with given_path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter).writerows([["a", "question", "b"], *rows])
        with check(str(given_path), IntakeOptions(delimiter=delimiter, quoting="csv")) as intake:
            taken = [row.cells for row in intake.rows_iter()]
            path = through_results(intake.spec, taken, folder)
        with check(str(path)) as again:
            assert [row.cells[:3] for row in again.rows_iter()] == rows
    assert taken == rows


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(letters),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(letters, max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(values=st.lists(json_values, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_values_through_jsonl(values):
    """Values of .jsonl come back from .jsonl results as they went in."""
    with tempfile.TemporaryDirectory() as folder:
        given_path = Path(folder) / "in.jsonl"
        lines = [orjson.dumps({"question": "q", "value": value}) for value in values]
        given_path.write_bytes(b"\n".join(lines))
        with check(str(given_path)) as intake:
            path = through_results(
                intake.spec, [row.cells for row in intake.rows_iter()], folder, "out.jsonl"
            )
        back = [orjson.loads(line)["input"]["value"] for line in path.read_bytes().splitlines()]
    assert back == values


@given(
    given_names=st.lists(
        st.one_of(names, st.sampled_from([*FIELDS, "askmill_row", "askmill_askmill_row"])),
        unique=True,
        min_size=1,
    )
)
def test_no_column_is_hidden(given_names):
    """All columns have different names, the input's keep theirs, ours end in what they are called."""
    columns = select_columns(InputSpec(tuple(given_names), None), (), with_steps=True).names
    assert len(set(columns)) == len(columns)
    assert list(columns[: len(given_names)]) == given_names
    ours = columns[len(given_names) :]
    assert all(name.endswith(field) for name, field in zip(ours, (*FIELDS, "steps"), strict=True))


def is_reserved(name: str) -> bool:
    """Whether Windows takes the name for a device, or refuses it."""
    if sys.version_info >= (3, 13):
        return ntpath.isreserved(name)
    return PureWindowsPath(name).is_reserved()


@given(
    name=st.one_of(
        st.text(), st.lists(st.sampled_from(["..", "/", "\\", ".", "con", "\0", " ", "a", ":"])).map("".join)
    )
)
@example(name="CON.txt")
@example(name="con .txt")
@example(name="CONIN$")
@example(name="..\\..\\a")
@example(name="x" * 500 + ".png")
@example(name=". .")
def test_safe_names(name):
    """A name from the API becomes one plain part of a path, on any system."""
    safe = safe_name(name)
    assert safe not in {"", ".", ".."}
    assert not safe.startswith(".")
    assert PurePosixPath(safe).parts == (safe,)
    assert PureWindowsPath(safe).parts == (safe,)
    assert not is_reserved(safe)
    assert len(safe.encode()) <= MAX_NAME_BYTES
