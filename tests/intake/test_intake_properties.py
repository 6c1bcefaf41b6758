"""Property tests of intake: any bytes, line numbers, duplicate ids, question rendering."""

import csv
import gzip
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askmill.jobs.intake import IntakeOptions, check
from askmill.jobs.intake.base import Chunk
from askmill.jobs.intake.csv_reader import open_quote_line
from askmill.jobs.intake.duplicate_ids import FIRST_CAPACITY, BloomPass, ExactPass
from askmill.jobs.intake.render import question_renderer
from askmill.jobs.model.errors import InputFaults, UsageError
from askmill.jobs.model.models import InputSpec

# Fragments with a meaning: headers, quotes, signatures of other formats, broken encodings.
fragments = st.sampled_from(
    [
        b"question",
        b"id",
        b",",
        b";",
        b"\t",
        b"|",
        b'"',
        b'""',
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xe9",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"\xff\xfe\x00\x00",
        b'{"question":"a"}',
        b'{"question":',
        b"1e9999",
        b"\\ud800",
        b"\\u0000",
        b"[" * 50,
        b"PAR1",
        b"sep=;\n",
        b'" ,',
        b'\\"',
        b'[{"question":"a"},',
        b'["a"]',
        b'{"question":"a","question":"b"}\n',
        b"\x1f\x8b\x08",
        b"BZh91AY&SY",
        b"\xfd7zXZ\x00",
        b"\x28\xb5\x2f\xfd",
        b"%PDF-",
        b"<html>",
        b"PK\x03\x04",
        b" ",
    ]
)
files = st.lists(st.one_of(fragments, st.binary(max_size=5)), max_size=30).map(b"".join)
names = st.sampled_from(
    [
        "q.csv",
        "q.tsv",
        "q.jsonl",
        "q.json",
        "q.txt",
        "q.parquet",
        "q",
        "q.xlsx",
        "q.csv.gz",
        "q.json.zst",
    ]
)
options = st.builds(
    IntakeOptions,
    question_column=st.sampled_from([None, "question", "id"]),
    template=st.sampled_from([None, "{question}", "{x"]),
    id_column=st.sampled_from([None, "id"]),
    conversation_column=st.sampled_from([None, "id"]),
    overrides=st.sampled_from([(), ("image",), ("question",), ("temperature",)]),
    delimiter=st.sampled_from([None, ",", "tab", "q", "\r"]),
    encoding=st.sampled_from(
        [None, "utf-8", "latin-1", "utf-16", "utf-16-le", "utf-7", "shift_jis", "idna", "undefined"]
    ),
    quoting=st.sampled_from([None, "csv", "none", "backslash"]),
    sheet=st.sampled_from([None, None, None, "A"]),
    limit=st.sampled_from([None, 1, 3]),
    skip_bad_rows=st.booleans(),
)


@given(content=files, name=names, intake_options=options)
@settings(max_examples=400, deadline=None)
@example(
    content=b'{"question":"a","x":"\\ud800","y":1' + b"0" * 20 + b"}",
    name="q.jsonl",
    intake_options=IntakeOptions(),
)
@example(content=b"[" * 200_000, name="q.jsonl", intake_options=IntakeOptions())
@example(
    content=b"question\n\xff\xfe",
    name="q.csv",
    intake_options=IntakeOptions(encoding="utf-16", skip_bad_rows=True),
)
def test_any_bytes(content, name, intake_options):
    """Any file gives either rows that can be stored or a UsageError."""
    _read_or_refuse(content, name, intake_options)


@pytest.mark.long
@given(
    content=files,
    name=names,
    intake_options=options,
    compress=st.sampled_from([bytes, gzip.compress, zstandard.compress]),
)
@settings(max_examples=20_000)
def test_any_bytes_compressed(content, name, intake_options, compress):
    """As test_any_bytes, many more, also compressed."""
    _read_or_refuse(compress(content), name, intake_options)


def _read_or_refuse(content, name, intake_options):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            with check(str(path), intake_options) as intake:
                rows = list(intake.rows_iter())
        except UsageError:
            return
    width = len(intake.spec.columns)
    assert len(rows) == intake.rows
    assert all(len(row.cells) == width for row in rows)
    assert sum(row.reject is not None for row in rows) == intake.rejected < intake.rows
    assert all(row.reject or intake.spec.question(row.cells).strip() for row in rows)
    "".join(cell for row in rows for cell in row.cells if isinstance(cell, str)).encode()


line_ends = st.sampled_from(["\n", "\r\n"])
cells = st.sampled_from(["a", "b,c", 'd"e', "f\ng", "h\r\ni\n", "", " "])


@given(
    entries=st.lists(st.one_of(st.none(), st.tuples(cells, cells)), min_size=1, max_size=40), end=line_ends
)
@settings(max_examples=100, deadline=None)
def test_lines(entries, end):
    """Every fault has the line where its row starts; blank lines and line breaks in cells count."""
    text, expected = "id,question" + end, []
    for entry in entries:
        if entry is None:
            text += end
            continue
        if not entry[1].strip() and entry[0].strip():  # a row of nothing but delimiters is a blank line
            expected.append(text.count("\n") + 1)
        text += ",".join('"' + cell.replace('"', '""') + '"' for cell in entry) + end
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "q.csv"
        path.write_bytes(text.encode())
        try:
            check(str(path)).close()
        except InputFaults as refusal:
            found = [fault.line for fault in refusal.faults]
    if all(entry is None or not "".join(entry).strip() for entry in entries):
        expected = [None]
    assert found == expected[:20]


def _row_at_error(lines):
    """The first and last line of the row at which csv.reader stops; None if it does not stop."""
    reader = csv.reader(iter(lines), strict=True)
    start = 1
    try:
        while True:
            next(reader)
            start = reader.line_num + 1
    except StopIteration:
        return None
    except csv.Error as error:
        return None if "new-line" in str(error) else (start, reader.line_num)


@given(text=st.text(alphabet=',"ab\n', max_size=40))
@settings(max_examples=500)
@example(text='a,"b\nc","d\n')
@example(text='"a""\n",b\n"')
def test_open_quote(text):
    """The reported line has a quote and lies in the row at which the strict reader stops."""
    lines = text.splitlines(keepends=True)
    row_lines = _row_at_error(lines)
    if row_lines is None:
        return
    first, last = row_lines
    line = open_quote_line(iter(lines[first - 1 : last]), ",", first)
    assert line is not None
    assert first <= line <= last
    assert '"' in lines[line - 1]


@given(ids=st.lists(st.text(max_size=2), max_size=200), chunk=st.integers(1, 50))
def test_duplicate_ids(ids, chunk):
    """The two passes find exactly the duplicates that a dictionary finds; blank ids are ignored."""
    bloom_pass = BloomPass()
    for at in range(0, len(ids), chunk):
        bloom_pass.add(ids[at : at + chunk])
    exact_pass = ExactPass(bloom_pass.candidates)
    firsts: dict[str, int] = {}
    for place, own_id in enumerate(ids, 1):
        if own_id:
            assert exact_pass.first_position(own_id, place) == firsts.setdefault(own_id, place)


def test_many_ids():
    """Filters grow with the file: no id is lost, and false positives stay rare."""
    bloom_pass = BloomPass()
    count = 4 * FIRST_CAPACITY
    for at in range(0, count, 256):
        bloom_pass.add([f"id-{n}" for n in range(at, at + 256)])
    assert len(bloom_pass.candidates) <= 3
    bloom_pass.add(["id-0", f"id-{count - 1}"])
    assert {"id-0", f"id-{count - 1}"} <= bloom_pass.candidates


@given(
    template=st.sampled_from(["{a}", "{a}{b}", "x {{a}} {b}", "{c}: {a} {a}"]),
    row=st.lists(
        st.one_of(st.text(max_size=4), st.none(), st.integers(-(2**63), 2**64 - 1), st.just({"x": 1})),
        min_size=3,
        max_size=3,
    ),
)
def test_question_renderer_equals_input_spec(template, row):
    """question_renderer renders the same text as InputSpec.question."""
    spec = InputSpec(("a", "b", "c"), None, template=template)
    render = question_renderer(spec, typed=True)
    assert render is not None
    assert render([row]) in ([spec.question(row)], [""])
    column_spec = InputSpec(("a", "b", "c"), "b")
    render_column = question_renderer(column_spec, typed=True)
    assert render_column is not None
    assert render_column([row]) == [column_spec.question(row)]


def test_head_of_a_chunk_keeps_its_lines():
    """The first rows of a chunk keep their positions."""
    records = [["a"], [], ["b\nc"], ["d"]]
    chunk = Chunk([["a"], ["b\nc"], ["d"]], 5, records, unreadable={0: "x", 2: "y"})
    assert chunk.positions() == [5, 7, 9]
    assert chunk.head(2).positions() == [5, 7]
    assert chunk.head(2).unreadable == {0: "x"}


def test_unknown_template_gives_no_questions():
    """A template that names no column of the file has no renderer."""
    assert question_renderer(InputSpec(("a",), None, template="{b}"), typed=False) is None
    with pytest.raises(UsageError):
        check("/dev/null")
