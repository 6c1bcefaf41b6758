"""Properties of intake: no bytes bring it down, lines are counted as an editor counts, ids as a set does."""

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askmill.jobs.intake import IntakeOptions, check
from askmill.jobs.intake.base import Chunk
from askmill.jobs.intake.csv_reader import open_quote_line
from askmill.jobs.intake.duplicate_ids import FIRST_CAPACITY, BloomPass, ExactPass
from askmill.jobs.intake.render import questions_of
from askmill.jobs.model.errors import InputFaults, UsageError
from askmill.jobs.model.models import InputSpec

# Bytes that look like something: headers, quotes, marks of other formats, broken encodings.
shreds = st.sampled_from(
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
        b"PK\x03\x04",
        b" ",
    ]
)
files = st.lists(st.one_of(shreds, st.binary(max_size=5)), max_size=30).map(b"".join)
names = st.sampled_from(["q.csv", "q.tsv", "q.jsonl", "q.parquet", "q", "q.xlsx"])
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
    limit=st.sampled_from([None, 1, 3]),
    skip_bad_rows=st.booleans(),
)


@given(content=files, name=names, asked=options)
@settings(max_examples=400, deadline=None)
@example(
    content=b'{"question":"a","x":"\\ud800","y":1' + b"0" * 20 + b"}", name="q.jsonl", asked=IntakeOptions()
)
@example(content=b"[" * 200_000, name="q.jsonl", asked=IntakeOptions())
@example(
    content=b"question\n\xff\xfe", name="q.csv", asked=IntakeOptions(encoding="utf-16", skip_bad_rows=True)
)
def test_any_bytes(content, name, asked):
    """Whatever the file holds: rows that can be stored, or an error that speaks to the person."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            with check(str(path), asked) as intake:
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
    """Every bad row is reported on the line where it starts; blank lines and line breaks in cells count."""
    text, expected = "id,question" + end, []
    for entry in entries:
        if entry is None:
            text += end
            continue
        if not entry[1].strip():
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
    if all(entry is None for entry in entries):
        expected = [None]
    assert found == expected[:20]


def _opened_by_reader(lines):
    """The line of the row at which Python's own reader stops, and whether it stops."""
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
    """The quote that is named lies in the row at which the strict reader stops, and on a line with a quote."""
    lines = text.splitlines(keepends=True)
    stopped = _opened_by_reader(lines)
    if stopped is None:
        return
    first, last = stopped
    line = open_quote_line(iter(lines[first - 1 : last]), ",", first)
    assert line is not None
    assert first <= line <= last
    assert '"' in lines[line - 1]


@given(ids=st.lists(st.text(max_size=2), max_size=200), chunk=st.integers(1, 50))
def test_duplicate_ids(ids, chunk):
    """The two looks find exactly what a dictionary finds; blank ids are none."""
    first_look = BloomPass()
    for at in range(0, len(ids), chunk):
        first_look.note(ids[at : at + chunk])
    second = ExactPass(first_look.suspects)
    firsts: dict[str, int] = {}
    for place, own_id in enumerate(ids, 1):
        if own_id:
            assert second.first_place(own_id, place) == firsts.setdefault(own_id, place)


def test_many_ids():
    """Filters grow with the file: nothing is forgotten, and false alarms stay rare."""
    look = BloomPass()
    count = 4 * FIRST_CAPACITY
    for at in range(0, count, 256):
        look.note([f"id-{n}" for n in range(at, at + 256)])
    assert len(look.suspects) <= 3
    look.note(["id-0", f"id-{count - 1}"])
    assert {"id-0", f"id-{count - 1}"} <= look.suspects


@given(
    template=st.sampled_from(["{a}", "{a}{b}", "x {{a}} {b}", "{c}: {a} {a}"]),
    row=st.lists(
        st.one_of(st.text(max_size=4), st.none(), st.integers(-(2**63), 2**64 - 1), st.just({"x": 1})),
        min_size=3,
        max_size=3,
    ),
)
def test_questions_at_once(template, row):
    """The quick way to the questions gives what InputSpec gives."""
    spec = InputSpec(("a", "b", "c"), None, template=template)
    render = questions_of(spec, typed=True)
    assert render is not None
    assert render([row]) in ([spec.question(row)], [""])
    plain = InputSpec(("a", "b", "c"), "b")
    pick = questions_of(plain, typed=True)
    assert pick is not None
    assert pick([row]) == [plain.question(row)]


def test_part_of_a_chunk_knows_its_lines():
    """The first rows of a chunk have the lines that they had in the whole."""
    raw = [["a"], [], ["b\nc"], ["d"]]
    whole = Chunk([["a"], ["b\nc"], ["d"]], 5, raw, broken={0: "x", 2: "y"})
    assert whole.places() == [5, 7, 9]
    assert whole.upto(2).places() == [5, 7]
    assert whole.upto(2).broken == {0: "x"}


def test_unknown_template_gives_no_questions():
    """A template that names no column of the file renders nothing."""
    assert questions_of(InputSpec(("a",), None, template="{b}"), typed=False) is None
    with pytest.raises(UsageError):
        check("/dev/null")
