"""Reading input files: every rule of CONTRACT, "Input", and the input options."""

import io
import os
import sys
import tracemalloc
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from askmill.jobs.intake import IntakeOptions, check
from askmill.jobs.model.errors import InputFaults, UsageError
from askmill.jobs.store.records import NewRow

GOOD = "id,question\n1,What is 2 + 2?\n2,What is 3 + 3?\n"


@pytest.fixture
def put(tmp_path):
    """A function that writes an input file (text as UTF-8) and returns its path."""

    def write(content, name="questions.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def rows_of(path, **options):
    with check(path, IntakeOptions(**options)) as intake:
        rows = list(intake.rows_iter())
        assert len(rows) == intake.rows
        assert sum(row.reject is not None for row in rows) == intake.rejected
        return rows


def cells_of(path, **options):
    return [row.cells for row in rows_of(path, **options)]


def refusal(path, **options):
    with pytest.raises(UsageError) as caught:
        check(path, IntakeOptions(**options))
    return str(caught.value)


def fault_lines(path, **options):
    with pytest.raises(InputFaults) as caught:
        check(path, IntakeOptions(**options))
    return [fault.line for fault in caught.value.faults]


# --- encodings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "option"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("cp1252", "cp1252"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-32", "utf-32"),
    ],
)
def test_encodings(put, encoding, option):
    """UTF-8 with or without BOM and UTF-16 with BOM are read as they are; others with --encoding."""
    path = put("id,question\r\n1,Größe und Zähler?\r\n".encode(encoding))
    with check(path, IntakeOptions(encoding=option)) as intake:
        assert intake.spec.columns == ("id", "question")
        assert [row.cells for row in intake.rows_iter()] == [["1", "Größe und Zähler?"]]


def test_bom_beside_a_named_encoding(put):
    """A BOM is not part of the first column name, even where the named encoding does not remove it."""
    with check(put("\ufeffquestion\na\n".encode("utf-16-le")), IntakeOptions(encoding="utf-16-le")) as intake:
        assert intake.spec.columns == ("question",)


def test_utf16_big_endian_with_bom(put):
    """UTF-16 is read in either byte order."""
    assert cells_of(put(b"\xfe\xff" + "question\na\n".encode("utf-16-be"))) == [["a"]]


def test_undecodable_bytes_name_line_byte_and_option(put):
    """Bytes that are not UTF-8 are refused with their line and value, and --encoding is named."""
    path = put("id,question\n1,fine\n2,Größe?\n".encode("cp1252"))
    assert fault_lines(path) == [3]
    assert "0xF6" in refusal(path)
    assert "--encoding" in refusal(path)


def test_unknown_encoding(put):
    """An unknown --encoding, or a codec that is not for text, is refused with examples."""
    assert "cp1252" in refusal(put(GOOD), encoding="cp-12-52")
    assert "--encoding" in refusal(put(GOOD), encoding="base64")


# --- delimiters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_detected(put, delimiter):
    """Comma, semicolon, tab and bar are detected, whatever quoted cells contain."""
    header = delimiter.join(["id", "question", "note"])
    row = delimiter.join(["1", '"a, b; c | d\te"', "x, y" if delimiter != "," else "x; y"])
    assert cells_of(put(f"{header}\n{row}\n")) == [
        ["1", "a, b; c | d\te", "x, y" if delimiter != "," else "x; y"]
    ]


def test_tsv_is_tabs(put):
    """A .tsv is read with tabs even if its header contains commas."""
    assert cells_of(put("a,b\tquestion\n1,2\tx\n", "q.tsv")) == [["1,2", "x"]]


def test_one_column_with_quoted_commas(put):
    """A file with one column needs no delimiter; quoted commas are text."""
    assert cells_of(put('question\n"One, two, what next?"\nplain; with | marks\n')) == [
        ["One, two, what next?"],
        ["plain; with | marks"],
    ]


def test_one_column_with_an_unquoted_comma_is_ragged(put):
    """A second cell below a one-column header is a fault, never taken for text."""
    assert fault_lines(put("question\nOne, two?\n")) == [2]


def test_header_with_two_candidates(put):
    """If the header contains two delimiters, the rows decide."""
    assert cells_of(put("id;question, please\n1;a\n2;b, c\n3;d\n"), question_column="question, please") == [
        ["1", "a"],
        ["2", "b, c"],
        ["3", "d"],
    ]


def test_delimiter_option(put):
    """--delimiter overrides detection, as a character or by name; two characters are refused."""
    path = put("question,a\tid\nx,y\t1\n")
    assert cells_of(path, delimiter="tab", question_column="question,a") == [["x,y", "1"]]
    assert "--delimiter" in refusal(path, delimiter="::")


# --- lines -------------------------------------------------------------------------------------------------


def test_quotes_line_ends_and_blank_lines(put):
    """Quoted line breaks, doubled quotes, CRLF and LF are parsed; blank lines are skipped."""
    path = put('\r\nid,question\r\n\r\n1,"two\r\nlines ""here"""\n  \n2,5" pipe\n\n')
    assert cells_of(path) == [["1", 'two\r\nlines "here"'], ["2", '5" pipe']]


def test_lines_are_physical(put):
    """A fault has the line where its row starts, as an editor counts, after blank and multi-line rows."""
    assert fault_lines(put('id,question\r\n\r\n1,"a\r\nb\r\nc"\r\n2,\r\n3,"x\ny",z\r\n\r\n4\r\n')) == [
        6,
        7,
        10,
    ]


def test_many_chunks_count_lines(put):
    """Line numbers stay correct across chunks."""
    body = "".join(f'{i},"a\nb"\n' if i % 3 else f"{i},plain\n\n" for i in range(1500))
    path = put(f"id,question\n{body}1500,\n")
    assert fault_lines(path) == [3002]


def test_last_line_without_end(put):
    """The last row needs no line ending."""
    assert cells_of(put("question\na")) == [["a"]]


# --- formats -----------------------------------------------------------------------------------------------


def test_jsonl(put):
    """.jsonl has one object per line; values keep their types, keys may come in any order."""
    path = put('{"question":"a","n":1}\n\n{"n":{"x":[1,2]},"question":"b"}\n', "q.jsonl")
    assert cells_of(path) == [["a", 1], ["b", {"x": [1, 2]}]]


def test_jsonl_numbers_are_not_rounded(put):
    """A number that 64 bits cannot hold becomes text, as written."""
    path = put('{"question":"a","n":123456789012345678901234567890,"f":1e999}\n', "q.jsonl")
    assert cells_of(path) == [["a", "123456789012345678901234567890", "1e999"]]


def test_jsonl_other_lines(put):
    """A line that is not an object is a fault of this line, which --skip-bad-rows skips."""
    path = put('{"question":"a"}\n{"question":"b"}\n[1]\n{"question":\n', "q.jsonl")
    assert fault_lines(path) == [3, 4]
    assert [row.reject is None for row in rows_of(path, skip_bad_rows=True)] == [True, True, False, False]


@pytest.mark.parametrize("content", ["[1]\n", "{}\n", "nonsense\n", '"a"\n', '[["question",1]]\n'])
def test_jsonl_without_header(put, content):
    """A first line that is not an object with keys is a fault on line 1."""
    assert fault_lines(put(content, "q.jsonl")) == [1]


def test_jsonl_duplicate_keys(put):
    """A key that the first object has twice is a duplicate column name."""
    assert "more than once" in refusal(put('{"question":"a","question":"b"}\n', "q.jsonl"))


def test_parquet(tmp_path):
    """Types that JSON does not have become text; NaN becomes None."""
    table = pa.table(
        {
            "question": ["a", "b"],
            "when": pa.array([1, None], pa.timestamp("ns", tz="Europe/Berlin")),
            "nested": [{"x": [1]}, None],
            "number": [float("nan"), 2.5],
        }
    )
    path = tmp_path / "q.parquet"
    pq.write_table(table, path)
    assert cells_of(str(path)) == [
        ["a", "1970-01-01 00:00:00.000000001Z", {"x": [1]}, None],
        ["b", None, None, 2.5],
    ]


def test_parquet_faults_name_rows(tmp_path):
    """Faults of a Parquet file name row numbers."""
    path = tmp_path / "q.parquet"
    pq.write_table(pa.table({"question": ["a", "", None]}), path)
    message = refusal(str(path))
    assert "row 2:" in message
    assert "row 3:" in message


def test_damaged_parquet(put):
    """A file that only begins like Parquet is refused with a message."""
    assert "Parquet" in refusal(put(b"PAR1 no more", "q.parquet"))


@pytest.mark.parametrize("name", ["q.xlsx", "q.xls", "q.csv"])
def test_excel_is_refused_with_advice(put, name):
    """A workbook is refused under any name, with advice on how to export a CSV."""
    assert "CSV UTF-8" in refusal(put(b"PK\x03\x04 a workbook", name))


@pytest.mark.parametrize(
    "content", [GOOD, '{"id":"1","question":"What is 2 + 2?"}\n{"id":"2","question":"What is 3 + 3?"}\n']
)
def test_stdin_is_spooled(monkeypatch, content):
    """`-` reads stdin (CSV or .jsonl) once; both passes read the copy."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert cells_of("-") == [["1", "What is 2 + 2?"], ["2", "What is 3 + 3?"]]


def test_pipe_is_spooled(tmp_path):
    """A pipe, such as a shell's <(…), is copied, so that both passes can read it."""
    reading, writing = os.pipe()
    os.write(writing, GOOD.encode())
    os.close(writing)
    assert len(cells_of(f"/dev/fd/{reading}")) == 2
    os.close(reading)


# --- faults, refused before anything is stored --------------------------------------------------------------

FAULTS = {
    "no header": ("", None, "no header"),
    "only blank lines": ("\n\n  \n", None, "no header"),
    "a question where the header should be": ("What is 2 + 2?\nWhat is 3 + 3?\n", None, "no header"),
    "duplicate header names": ("question,a,a\nx,y,z\n", 1, "'a'"),
    "fewer cells": ("id,question\n1,a\n2\n", 3, "1 cell"),
    "more cells": ("id,question\n1,a,b\n", 2, "3 cells"),
    "empty question": ("id,question\n1,\n", 2, "empty"),
    "blank question": ('id,question\n1,"  \n "\n', 2, "empty"),
    "question over the limit": ("id,question\n1," + "x" * 256_001 + "\n", 2, "256,000"),
    "NUL byte": ("id,question\n1,a\0b\n", 2, "NUL"),
    "unclosed quote": ('id,question\n1,a\n2,"b\n3,c\n4,d\n', 3, "never closed"),
    "unclosed quote after a closed one": ('id,question\n1,a\n"2\n3","b\n3,c\n', 4, "never closed"),
    "quote closed too early": ('id,question\n1,"a" b\n', 2, "double the quotes"),
    "quote closed too early, lines below": ('id,question\n1,"a\n2,"b"\n', 2, "line 3"),
    "nothing is guessed below it": ('id,question\n1,"a\n2,"b"\n3\n4,x,y\n', 2, "line 3"),
    "carriage return alone": ("id,question\n1,a\rb\n", 2, "carriage return"),
    "no rows": ("id,question\n\n", None, "no rows"),
}


@pytest.mark.parametrize(("content", "line", "word"), FAULTS.values(), ids=FAULTS)
def test_faults(put, content, line, word):
    """The message of each fault names the file, the line and the reason."""
    path = put(content)
    assert fault_lines(path) == [line]
    message = refusal(path)
    assert path in message
    assert word in message


def test_question_at_the_limit(put):
    """A question of 256,000 characters is accepted."""
    assert len(cells_of(put("question\n" + "x" * 256_000 + "\n"))) == 1


def test_long_cells_elsewhere(put):
    """The API's limit applies to the question only."""
    assert len(cells_of(put("question,text\nq," + "x" * 400_000 + "\n"))) == 1


def test_undecodable_header(put):
    """A header that cannot be decoded is one fault, without faults about columns."""
    assert fault_lines(put(b"gr\xf6\xdfe,other\n1,2\n")) == [1]


def test_all_faults_together(put):
    """All faults of a file are in one error, ordered by line."""
    path = put('id,question,question\n1,a,b\n2\n1,b,c\n3,,x\n4,d,"e\n')
    assert fault_lines(path, id_column="id") == [1, 3, 4, 5, 6]


def test_first_twenty_and_a_count(put):
    """The first 20 of many faults are shown with the total, duplicate ids included."""
    body = "".join(f"{i},\n" for i in range(1000)) + "x,a\nx,b\n"
    with pytest.raises(InputFaults) as caught:
        check(put("id,question\n" + body), IntakeOptions(id_column="id"))
    assert caught.value.total == 1001
    assert [fault.line for fault in caught.value.faults] == list(range(2, 22))
    assert "981 more" in str(caught.value)


def test_duplicate_ids_name_both_lines(put):
    """A duplicate id names its own line and the line where the id occurs first."""
    path = put("id,question\na,x\nb,y\na,z\na,w\n")
    message = refusal(path, id_column="id")
    assert fault_lines(path, id_column="id") == [4, 5]
    assert message.count("line 2") == 2


def test_duplicate_ids_far_apart(put):
    """Ids are compared over the whole file."""
    body = "".join(f"{i},x\n" for i in range(100_000))
    assert fault_lines(put(f"id,question\n{body}17,x\n"), id_column="id") == [100_002]


def _workbook(path, rows):
    with xlsxwriter.Workbook(path) as workbook:
        sheet = workbook.add_worksheet()
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)


def test_blank_lines_above_a_row_are_counted(put, tmp_path):
    """A user with 1,000 lines who gets 988 rows reads why. The lines that end a file count in no format."""

    def blank(path, **options):
        with check(path, IntakeOptions(**options)) as intake:
            return intake.rows, intake.blank_lines

    many = "\n" * 700  # more than a chunk
    assert blank(put('question,x\n\n1,a\n,\n , \n"2\n\n2",b\n\n3,c\n,\n\n')) == (3, 4)
    assert blank(put(f"question,x\n1,a\n{many}2,b\n{many}")) == (2, 700)
    assert blank(put("question,,x\n1,,a\n,,\n2,,b\n,,\n")) == (2, 1)
    assert blank(put("question,x\n\n1,a\n\n2,b\n\n3,c\n"), limit=2) == (2, 2)
    assert blank(put("question\n1\n\n2\n")) == (2, 1)
    assert blank(put("\n1\n\n \n2\n\n", "q.txt")) == (2, 3)
    assert blank(put("question\n1\n\n2\n", "q.txt"), limit=1) == (1, 0)
    assert blank(put('{"question": "1"}\n\n\n{"question": "2"}\n\n', "q.jsonl")) == (2, 2)
    assert blank(put('[\n\n"1",\n\n"2"]', "q.json")) == (2, 0)
    _workbook(tmp_path / "q.xlsx", [["question"], [], ["1"], [" "], ["2"], [" "]])
    assert blank(str(tmp_path / "q.xlsx")) == (2, 2)


def test_blank_ids_are_no_ids(put):
    """Blank ids are not duplicates of each other."""
    assert len(cells_of(put("id,question\n,x\n,y\n1,z\n"), id_column="id")) == 3


def test_missing_file_folder_and_unreadable(put, tmp_path):
    """A path that is not a readable file of a supported format is refused with advice."""
    assert "no such file" in refusal(str(tmp_path / "none.csv"))
    assert "folder" in refusal(str(tmp_path))
    assert "damaged" in refusal(put(b"\x1f\x8b\x08", "q.csv"))
    assert "empty" in refusal(put("[]", "q.json"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(put):
    """A file without read permission is refused with that reason."""
    path = put(GOOD)
    Path(path).chmod(0)
    assert "permission" in refusal(path)


# --- where the question comes from -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("id,input,query,prompt,question", "question"),
        ("id,input,query,Prompt", "Prompt"),
        ("INPUT,query,x", "query"),
        ("a,Input", "Input"),
        ("Query,QUERY", "Query"),
        ("text", "text"),
        ("Text,questions", "questions"),
    ],
)
def test_question_column_rule(put, header, expected):
    """The question column is the first of the usual names in any case."""
    cells = ",".join("x" for _ in header.split(","))
    with check(put(f"{header}\n{cells}\n")) as intake:
        assert intake.spec.question_column == expected


def test_no_question_column(put):
    """Several columns without a usual name: the message lists them and names the option."""
    message = refusal(put("id,words,answer\n1,x,y\n"))
    assert "id, words, answer" in message
    assert "--question-column" in message


@pytest.mark.parametrize("option", ["question_column", "id_column", "conversation_column"])
def test_unknown_columns(put, option):
    """An option that names an unknown column lists the columns and suggests the closest."""
    message = refusal(put("id,question,thread\n1,x,y\n"), **{option: "Qestion"})
    assert "--" + option.replace("_", "-") in message
    assert "id, question, thread" in message
    assert "did you mean 'question'" in message


def test_template(put):
    """A template renders the question from several columns; doubled braces are text."""
    path = put("text,language\ncat,German\ndog,\n")
    with check(path, IntakeOptions(template="Translate {text} to {language} as {{json}}")) as intake:
        assert [intake.spec.question(row.cells) for row in intake.rows_iter()] == [
            "Translate cat to German as {json}",
            "Translate dog to  as {json}",
        ]


def test_braces_in_cells_are_text(put):
    """Braces in a cell are never placeholders."""
    with check(put("a,b\n{b},{{x}}\n"), IntakeOptions(template="{a}:{b}")) as intake:
        assert [intake.spec.question(row.cells) for row in intake.rows_iter()] == ["{b}:{{x}}"]


@pytest.mark.parametrize(
    "template",
    [
        "{a.b}",
        "{a!r}",
        "{a:>3}",
        "{0}",
        "{a[0]}",
        "{c}",
        "{}",
        "{a",
        "a}",
        "plain",
        "{{a}}",
        "{a} {",
        "{a} }",
    ],
)
def test_template_faults(put, template):
    """Braces may contain only column names, and at least one pair must."""
    assert "--template" in refusal(put("a,b\n1,2\n"), template=template)


def test_template_without_any_value(put):
    """A row whose template columns are all blank has an empty question."""
    assert fault_lines(put("a,b,c\n1,,\n,,2\n"), template="Say {a} and {b}") == [3]


def test_template_over_the_limit(put):
    """The length limit applies to the rendered question."""
    assert fault_lines(put("a\n" + "x" * 200_000 + "\n"), template="{a}{a}") == [2]


def test_template_and_question_column(put):
    """The two options exclude each other."""
    assert "exclude each other" in refusal(put(GOOD), template="{id}", question_column="question")


def test_conversations(put):
    """Rows name their conversation; a blank cell means a thread of its own."""
    path = put("question,thread\na,t1\nb,\nc,t1\nd, \n")
    assert [row.conversation for row in rows_of(path, conversation_column="thread")] == [
        "t1",
        None,
        "t1",
        None,
    ]


# --- overrides ---------------------------------------------------------------------------------------------


def test_overrides_are_known_columns(put):
    """--override accepts six names, and the file must have the column."""
    assert "top_p" in refusal(put("question,top_p\na,1\n"), overrides=("top_p",))
    assert "'model'" in refusal(put("question,modell\na,x\n"), overrides=("model",))


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("temperature", ["0", "2.0", "", " 1 "], ["2.1", "-1", "warm", "nan"]),
        ("max_completion_tokens", ["256", ""], ["255", "1.5", "many", "-300", "1e4"]),
        ("image", ["https://x.org/a", "", "pic.PNG"], ["none.png", "ftp://x/a.png", "text.txt"]),
        ("file", ["text.txt", ""], ["none.txt", "/", "https://x.org/a"]),
        ("model", ["gpt-x", ""], ["x" * 300]),
        ("instructions", ["Be brief", ""], ["x" * 256_001]),
    ],
)
def test_override_values(put, tmp_path, column, good, bad):
    """Each value is validated before submit; blank means the profile's value."""
    (tmp_path / "pic.PNG").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "text.txt").write_text("x")
    rows = "".join(f'q,"{value}"\n' for value in [*good, *bad])
    path = put(f"question,{column}\n{rows}")
    assert fault_lines(path, overrides=(column,)) == list(range(2 + len(good), 2 + len(good) + len(bad)))


@pytest.mark.parametrize(("least", "bad"), [(256, [3, 4]), (16, [3])])
def test_a_rows_token_limit_has_the_apis_own_minimum(put, least, bad):
    """Case E11: 16 on Responses, 256 on Assistants."""
    path = put("question,max_completion_tokens\nq,256\nq,15\nq,50\n")
    assert fault_lines(path, overrides=("max_completion_tokens",), min_completion_tokens=least) == bad


def test_all_faults_of_a_row_are_reported(put):
    """An empty question and two bad values are one fault with three reasons."""
    path = put("question,temperature,image\n ,9,gone.png\n")
    message = refusal(path, overrides=("temperature", "image"))
    for fault in ("the question is empty", "temperature '9'", "image 'gone.png'"):
        assert fault in message
    assert message.count("line 2") == 1


def test_override_files_are_found(put, tmp_path, monkeypatch):
    """A relative path is resolved in the input file's folder, then in the working folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "there.pdf").write_text("x")
    (tmp_path / "beside.png").write_bytes(b"\x89PNG\r\n")
    monkeypatch.chdir(elsewhere)
    path = put("question,file,image\na,there.pdf,beside.png\nb,there.pdf,https://x.org/i.png\n")
    with check(path, IntakeOptions(overrides=("file", "image"))) as intake:
        assert intake.files == {"there.pdf": elsewhere / "there.pdf"}
        assert intake.images == {"beside.png": tmp_path / "beside.png"}


# --- --skip-bad-rows, --limit ------------------------------------------------------------------------------


def test_skip_bad_rows(put):
    """Rows with faults of every kind are kept as rejected, with line and reason."""
    long = "x" * 256_001
    text = f"id,question\n1,a\n2\n3,b,c\n4,\n5,{long}\n1,d\n6,\xe9\n7,e\n"
    rows = rows_of(put(text.encode("latin-1")), id_column="id", skip_bad_rows=True)
    assert [row.reject is None for row in rows] == [True, False, False, False, False, False, False, True]
    assert rows[1] == NewRow(["2", ""], rows[1].reject)
    assert rows[2].cells == ["3", "b"]
    assert rows[6].cells == ["6", "\ufffd"]
    words = ["1 cell", "3 cells", "empty", "256,000", "line 2", "0xE9"]
    assert all(word in (row.reject or "") for word, row in zip(words, rows[1:7], strict=True))
    assert [(row.reject or "").split(":")[0] for row in rows[1:7]] == [f"line {n}" for n in range(3, 9)]


@pytest.mark.parametrize(
    "content", ["question,question\na,b\n\n", 'question\na\n"b\n', "a,b\n1,2\n", "question\n\n"]
)
def test_never_skipped(put, content):
    """--skip-bad-rows does not skip faults of the header, an unclosed quote, or a file without rows."""
    refusal(put(content), skip_bad_rows=True)


def test_nothing_left(put):
    """A file whose rows all have faults is refused, and that is the first fault."""
    assert fault_lines(put("id,question\n1,\n2,\n"), skip_bad_rows=True) == [None, 2, 3]


def test_rejected_rows_claim_no_id(put):
    """The id of a rejected row is not a duplicate for a later row."""
    rows = rows_of(put("id,question\n1,\n1,a\n1,b\n"), id_column="id", skip_bad_rows=True)
    assert [row.reject is None for row in rows] == [False, True, False]


def test_limit(put):
    """--limit reads only the first rows and ignores faults after them; the hash covers the whole file."""
    path = put("question\na\nb\n\nc\n,\n")
    with check(path, IntakeOptions(limit=3)) as intake:
        assert [row.cells for row in intake.rows_iter()] == [["a"], ["b"], ["c"]]
        limited = intake.content_sha256
    Path(path).write_text("question\na\nb\n\nc\n")
    with check(path) as intake:
        assert intake.content_sha256 != limited


def test_changed_between_the_passes(put):
    """A file that changes between the two passes is refused."""
    path = put(GOOD)
    with check(path) as intake:
        Path(path).write_text(GOOD.replace("3 + 3", "4 + 4"))
        with pytest.raises(UsageError, match="changed"):
            list(intake.rows_iter())


# --- memory ------------------------------------------------------------------------------------------------


def _peak_bytes(path):
    tracemalloc.start()
    with check(path, IntakeOptions(id_column="id", skip_bad_rows=True)) as intake:
        for _ in intake.rows_iter():
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_is_flat(put):
    """A hundred times as many rows take less than 20 bytes of memory per extra row."""

    def body(count):
        return "id,question\n" + "".join(f"row-{i},What is {i} and why?\n" for i in range(count))

    small, large = _peak_bytes(put(body(1_000), "s.csv")), _peak_bytes(put(body(100_000), "l.csv"))
    assert large - small < 20 * 99_000


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "..", "sub/inside.txt", "a\\b.txt"])
def test_a_confined_input_names_no_file_outside_its_folder(name: str, tmp_path: Path) -> None:
    """Rows of an upload may name other uploads; the refusal does not say whether such a file exists."""
    folder = tmp_path / "upload"
    (folder / "sub").mkdir(parents=True)
    for path in (tmp_path / "secret.txt", folder / "sub" / "inside.txt", folder / "notes.txt"):
        path.write_text("text")
    source = folder / "questions.csv"
    options = IntakeOptions(overrides=("file",), confined=True)

    source.write_text("question,file\nWhy?,notes.txt\n")
    with check(str(source), options) as intake:
        assert intake.files == {"notes.txt": folder / "notes.txt"}

    source.write_bytes(b'{"question": "Why?", "file": %s}\n' % orjson.dumps(name))
    source = source.rename(folder / "questions.jsonl")
    with pytest.raises(InputFaults, match="is not the plain name of an uploaded file"):
        check(str(source), options)
