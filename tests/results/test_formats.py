"""The formats of results beside plain CSV, typed columns, and what `-o` is checked for before anything is asked."""

import csv
import gzip
import os
import shutil
import zipfile
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from xml.etree import ElementTree as ET

import duckdb
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from askmill.jobs.intake import check
from askmill.jobs.model.answer_fields import fields_of
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import InputSpec, JobStatus, Result
from askmill.jobs.model.schema_fields import parse_fields
from askmill.jobs.results import Contents, ResultOptions, plan_results, write_results
from askmill.jobs.results import parquet_writer as parquet_module
from askmill.jobs.results.columns import Additions
from askmill.jobs.results.xlsx_writer import MAX_CHARACTERS, MAX_ROWS, cell_text
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.views import RowView
from tests.results.test_results import SPEC, read_csv, view, write

MOODS = Additions(fields_of(parse_fields("mood: good|bad, score: float, sure: bool, n: int, topics: [str]")))
ANSWERS = [
    Result(
        1, JobStatus.COMPLETED, answer='{"mood":"good","score":1e-7,"sure":true,"n":3,"topics":["a","b"]}'
    ),
    Result(2, JobStatus.FAILED, answer='{"mood":"so-so"}', error="schema: mood: 'so-so' is not one of …"),
    Result(3, JobStatus.COMPLETED, answer="", error="refusal"),
]


async def write_cells(path, columns, rows, additions=None, *, arrow_schema="", results=()):
    """Write rows of input cells, each with a result if there is one."""

    async def chunks():
        for number, cells in enumerate(rows, 1):
            result = results[number - 1] if results else None
            status = result.status if result else JobStatus.QUEUED
            yield [RowView(number, list(cells), status, pack_result(result) if result else None)]

    spec = InputSpec(tuple(columns), columns[0], arrow_schema=arrow_schema)
    contents = Contents(additions=additions or Additions())
    return await write_results(chunks(), plan_results(str(path), spec, ResultOptions(), None, contents))


def sheet(path):
    """The cells of a workbook's sheet as (type, text), row by row, and the sheet's XML."""
    with zipfile.ZipFile(path) as book:
        xml = book.read("xl/worksheets/sheet1.xml").decode()
    space = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    rows = []
    for row in ET.fromstring(xml).iterfind(".//m:row", space):
        cells = {}
        for cell in row.iterfind("m:c", space):
            text = "".join(part.text or "" for part in cell.iter() if part.tag.endswith(("}t", "}v")))
            cells["".join(filter(str.isalpha, cell.get("r")))] = (cell.get("t", "n"), text)
        rows.append(cells)
    return rows, xml


# --- typed columns of a response schema --------------------------------------------------------------------


async def test_the_fields_of_answers_are_columns_of_each_format(tmp_path):
    """`answer.NAME` stands behind `answer`; typed in Parquet, JSON native in JSONL, empty where it misses."""
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        await write_cells(tmp_path / name, ["question"], [["q"]] * 3, MOODS, results=ANSWERS)

    header, *rows = read_csv(tmp_path / "a.csv")
    names = ["answer.mood", "answer.score", "answer.sure", "answer.n", "answer.topics"]
    at = header.index("answer") + 1
    assert header[at : at + 6] == [*names, "error"]
    assert rows[0][at : at + 5] == ["good", "0.0000001", "true", "3", '["a","b"]']
    assert [row[at : at + 5] for row in rows[1:]] == [[""] * 5] * 2
    assert rows[1][at - 1] == '{"mood":"so-so"}'

    lines = [orjson.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    assert [lines[0][name] for name in names] == ["good", 1e-7, True, 3, ["a", "b"]]
    assert [lines[1][name] for name in names] == [None] * 5

    table = pq.read_table(tmp_path / "a.parquet")
    assert [table.schema.field(name).type for name in names] == [
        *(pa.string(), pa.float64(), pa.bool_(), pa.int64(), pa.string()),
    ]
    assert table.select(names).to_pylist()[0] == dict(
        zip(names, ["good", 1e-7, True, 3, '["a","b"]'], strict=True)
    )
    assert duckdb.sql(f"select sum(\"answer.score\") from '{tmp_path / 'a.parquet'}'").fetchall() == [(1e-7,)]
    assert pd.read_csv(tmp_path / "a.csv")["answer.sure"].tolist()[0] is True


async def test_a_column_that_the_input_has_keeps_its_name(tmp_path):
    """An input column `answer.mood` stays; ours gets the prefix, and in JSONL none is needed."""
    await write_cells(
        tmp_path / "a.csv", ["question", "answer.mood"], [["q", "mine"]], MOODS, results=ANSWERS
    )
    first = next(csv.DictReader((tmp_path / "a.csv").open(newline="", encoding="utf-8")))
    assert (first["answer.mood"], first["askmill_answer.mood"]) == ("mine", "good")


# --- types of input columns --------------------------------------------------------------------------------


async def test_parquet_keeps_the_types_of_a_parquet_input(tmp_path):
    """Case B8: numbers, dates, times, decimals, lists and structs come back typed, value by value.

    Bytes come back as text, because the store holds JSON.
    """
    table = pa.table(
        {
            "question": pa.array(["a", "b"], pa.large_string()),
            "i8": pa.array([-128, None], pa.int8()),
            "u64": pa.array([2**64 - 1, 0], pa.uint64()),
            "f32": pa.array([0.1, float("inf")], pa.float32()),
            "flag": pa.array([True, None]),
            "day": pa.array([date(2024, 2, 29), None]),
            "ns": pa.array([1, None], pa.timestamp("ns")),
            "zoned": pa.array(
                [datetime(2024, 7, 1, 10, tzinfo=UTC), None], pa.timestamp("us", "Europe/Berlin")
            ),
            "took": pa.array([timedelta(days=1), None], pa.duration("us")),
            "price": pa.array([Decimal("1.10"), None], pa.decimal128(10, 2)),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "list": pa.array([[1, 2], []], pa.list_(pa.int64())),
            "struct": pa.array([{"a": 1, "b": ["x"]}, None]),
            "days": pa.array([[date(2024, 1, 1)], []], pa.list_(pa.date32())),
            "raw": pa.array([b"\xff", b"ok"]),
            "none": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    with check(str(tmp_path / "in.parquet")) as intake:
        rows = [row.cells for row in intake.rows_iter()]
        await write_cells(
            tmp_path / "out.parquet", list(intake.spec.columns), rows, arrow_schema=intake.spec.arrow_schema
        )

    out = pq.read_table(tmp_path / "out.parquet")
    as_text = ["days", "raw", "none"]
    for name in set(table.column_names) - {*as_text, "kind"}:
        assert out.schema.field(name).type == table.schema.field(name).type, name
        assert out[name].to_pylist() == table[name].to_pylist(), name
    assert out["kind"].to_pylist() == ["x", "y"]
    assert [out[name].to_pylist() for name in as_text] == [
        ['["2024-01-01"]', "[]"],
        ["/w==", "ok"],
        [None, None],
    ]


@pytest.mark.parametrize(
    ("values", "arrow_type", "written"),
    [
        ([1, None, 2], pa.int64(), [1, None, 2]),
        ([None, 1, 2.5], pa.float64(), [None, 1.0, 2.5]),
        ([1, 2**64 - 1], pa.uint64(), [1, 2**64 - 1]),
        ([True, None], pa.bool_(), [True, None]),
        ([1, 2, "x"], pa.string(), ["1", "2", "x"]),
        ([2**60, 0.5], pa.string(), [str(2**60), "0.5"]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([0.5, [1]], pa.string(), ["0.5", "[1]"]),
        ([None, None], pa.string(), [None, None]),
        (["a", {"b": 1}], pa.string(), ["a", '{"b":1}']),
    ],
)
@pytest.mark.parametrize("group_rows", [1, 100])
async def test_parquet_finds_the_types_of_json_values(
    tmp_path, monkeypatch, values, arrow_type, written, group_rows
):
    """Case B8: a type that later values do not fit is widened, also in the groups that were written already."""
    monkeypatch.setattr(parquet_module, "MAX_GROUP_ROWS", group_rows)
    await write_cells(tmp_path / "a.parquet", ["value"], [[value] for value in values])
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.field("value").type == arrow_type
    assert table["value"].to_pylist() == written
    assert table["row"].to_pylist() == list(range(1, len(values) + 1))


# --- Excel -------------------------------------------------------------------------------------------------


async def test_xlsx_has_typed_cells_and_no_formula(tmp_path):
    """Numbers are numbers, text is text whatever it begins with; the header is frozen and filtered."""
    cells = ["=HYPERLINK(1)", "http://x.org", 7, 2.5, True, None, 2**60, [1], "x" * 40_000, "\ud800\x01"]
    names = [f"c{number}" for number in range(len(cells))]
    written = await write_cells(tmp_path / "a.xlsx", names, [cells], MOODS, results=ANSWERS[:1])

    (header, row), xml = sheet(tmp_path / "a.xlsx")
    assert header["A"][1] == "c0"
    text = "inlineStr"
    assert [row.get(letter) for letter in "ABCDEFGH"] == [
        *((text, "=HYPERLINK(1)"), (text, "http://x.org"), ("n", "7"), ("n", "2.5"), ("b", "1"), None),
        *((text, str(2**60)), (text, "[1]")),
    ]
    assert row["I"][1].endswith("… [cut: 40,000 characters in all]")
    assert len(row["I"][1]) == MAX_CHARACTERS
    assert "<f>" not in xml
    assert "<hyperlink" not in xml
    assert 'state="frozen"' in xml
    assert "<autoFilter" in xml
    assert [row[letter] for letter in "NOPQ"] == [(text, "good"), ("n", "1E-07"), ("b", "1"), ("n", "3")]
    assert written.steps is not None
    assert written.steps.name == "a.steps.jsonl"


def test_a_cut_cell_fits_excel_in_its_own_units():
    """Excel counts UTF-16 units: an emoji is two."""
    cut = cell_text("😀" * 30_000)
    assert len(cut.encode("utf-16-le")) // 2 <= MAX_CHARACTERS
    assert cut.endswith("… [cut: 30,000 characters in all]")
    assert cell_text("é" * MAX_CHARACTERS) == "é" * MAX_CHARACTERS


def test_more_rows_than_a_sheet_holds_are_refused_before_asking(tmp_path):
    """Exit 2 names the limit and the formats that have none."""
    out = str(tmp_path / "a.xlsx")
    plan_results(out, SPEC, ResultOptions(), None, Contents(rows=MAX_ROWS))
    with pytest.raises(UsageError, match=r"1,048,575 rows .* choose \.csv or \.parquet"):
        plan_results(out, SPEC, ResultOptions(), None, Contents(rows=MAX_ROWS + 1))


# --- TSV, compression, BOM ---------------------------------------------------------------------------------


async def test_tsv_bom_and_compressed_text(tmp_path):
    """The same rows in each dress; compressed results have uncompressed companions without its suffix."""
    for name in ("a.csv", "b.tsv", "c.csv.gz", "d.jsonl.zst", "e.jsonl", "f.csv"):
        await write(tmp_path / name, [view()], bom=name == "f.csv")
    plain = (tmp_path / "a.csv").read_bytes()
    assert (tmp_path / "b.tsv").read_bytes().startswith(b"id\tquestion\trow\t")
    assert gzip.decompress((tmp_path / "c.csv.gz").read_bytes()) == plain
    with zstandard.open(tmp_path / "d.jsonl.zst", "rb") as file:
        assert file.read() == (tmp_path / "e.jsonl").read_bytes()
    assert (tmp_path / "f.csv").read_bytes() == b"\xef\xbb\xbf" + plain
    assert (tmp_path / "c.steps.jsonl").exists()
    with pytest.raises(UsageError, match="--bom is for CSV"):
        plan_results(str(tmp_path / "g.jsonl"), SPEC, ResultOptions(bom=True))


# --- what -o is checked for --------------------------------------------------------------------------------


def test_names_are_measured_in_bytes_before_anything_is_asked(tmp_path):
    """Case B12: a name that the file system does not take, and one whose companions it does not take."""
    # 260 bytes; 250 and 251, and more with the suffixes of their companions.
    for name in ("ü" * 130, "é" * 123 + ".csv", "é" * 122 + ".jsonl"):
        with pytest.raises(UsageError, match="bytes, more than the file system takes; choose a shorter -o"):
            plan_results(str(tmp_path / name), SPEC, ResultOptions())


async def test_a_name_near_the_limit_is_written(tmp_path):
    """Case B12: the temporary file of a long name counts bytes too."""
    out = tmp_path / ("😀" * 60 + ".csv")
    assert (await write(out, [view()])).path == out
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    """Exit 2 before anything is asked."""
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="permission denied"):
        plan_results(str(tmp_path / "a.csv"), SPEC, ResultOptions())


def test_a_folder_that_takes_no_file_is_refused():
    """Case B12: permissions do not tell that /proc takes no file, creating one does; nothing is asked."""
    with pytest.raises(UsageError, match="/proc"):
        plan_results("/proc/a.csv", SPEC, ResultOptions())


def test_a_disk_without_room_is_refused(tmp_path):
    """Case B12: the results of so many rows cannot fit, whatever the answers are."""
    free = shutil.disk_usage(tmp_path).free
    out = str(tmp_path / "a.csv")
    with pytest.raises(UsageError, match="make room or choose another -o"):
        plan_results(out, SPEC, ResultOptions(), None, Contents(rows=1000, input_bytes=2 * free))
    plan_results(out, SPEC, ResultOptions(), None, Contents(rows=1000, input_bytes=1000))
