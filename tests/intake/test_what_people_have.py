"""Inputs as other tools write them: section B of the cases, by number, and the shapes of public question sets."""

import bz2
import gzip
import io
import json
import lzma
import sys
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from askmill.jobs.intake import IntakeOptions, check
from askmill.jobs.intake.json_array import MAX_ELEMENT_CHARACTERS
from askmill.jobs.model.errors import InputFaults, UsageError


@pytest.fixture
def put(tmp_path):
    """A function that writes an input file (text as UTF-8) and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def table(path, **options):
    """The columns, the question column and the cells of all rows."""
    with check(path, IntakeOptions(**options)) as intake:
        return intake.spec.columns, intake.spec.question_column, [row.cells for row in intake.rows_iter()]


def rows(path, **options):
    return table(path, **options)[2]


def refusal(path, **options):
    with pytest.raises(UsageError) as caught:
        check(path, IntakeOptions(**options))
    return str(caught.value)


def xlsx(*sheets):
    """A workbook of (name, rows); a `date` style is number 1. Cells: text, number, bool, ("date", serial)."""
    file = io.BytesIO()
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    with zipfile.ZipFile(file, "w") as archive:
        names = "".join(
            f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>' for n, (name, _) in enumerate(sheets, 1)
        )
        links = "".join(
            f'<Relationship Id="rId{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            for n in range(1, len(sheets) + 1)
        )
        links += f'<Relationship Id="rId99" Type="{office}/styles" Target="styles.xml"/>'
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r" Type="{office}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types"/>')
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{names}</sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}/relationships">{links}</Relationships>',
        )
        archive.writestr(
            "xl/styles.xml",
            f'<styleSheet xmlns="{main}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
        )
        for n, (_, cells) in enumerate(sheets, 1):
            body = "".join(
                f'<row r="{r}">{"".join(_cell(r, c, value) for c, value in enumerate(row))}</row>'
                for r, row in enumerate(cells, 1)
            )
            archive.writestr(
                f"xl/worksheets/sheet{n}.xml",
                f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>',
            )
    return file.getvalue()


def _cell(row, column, value):
    place = f'r="{chr(65 + column)}{row}"'
    match value:
        case None:
            return ""
        case bool():
            return f'<c {place} t="b"><v>{int(value)}</v></c>'
        case str():
            return f'<c {place} t="inlineStr"><is><t>{value}</t></is></c>'
        case ("date", serial):
            return f'<c {place} s="1"><v>{serial}</v></c>'
        case _:
            return f"<c {place}><v>{value}</v></c>"


def checked_zstd(data):
    """As the program zstd compresses: with a checksum."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def ods(cells):
    """A one-sheet OpenDocument workbook of texts and numbers."""
    file = io.BytesIO()
    office = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
    names = f'xmlns:office="{office}" xmlns:table="{office.replace("office:1", "table:1")}" '
    names += f'xmlns:text="{office.replace("office:1", "text:1")}"'
    body = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="float" office:value="{cell}"/>'
            if isinstance(cell, int | float)
            else f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>'
            for cell in row
        )
        + "</table:table-row>"
        for row in cells
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr(
            "content.xml",
            f"<office:document-content {names}><office:body><office:spreadsheet>"
            f'<table:table table:name="Blatt">{body}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return file.getvalue()


# --- B1: the content decides -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("lines.csv", "compute 6 * 7\ncompute 2^5\n", ["only compute 6 * 7", "--question-column", ".txt"]),
        ("caret.csv", "question^tag\nWhat is 6 * 7?^a\n", ["only question^tag", "--delimiter"]),
        (
            "lfs.csv",
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
            ["Git LFS", "git lfs pull"],
        ),
        ("lfs.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", ["Git LFS"]),
        ("lfs.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", ["Git LFS"]),
        ("page.csv", "\n<!DOCTYPE html><html><head>", ["HTML", "download"]),
        ("page.jsonl", "<html>\n", ["HTML"]),
        ("feed.txt", '<?xml version="1.0"?>\n', ["XML"]),
        ("pic.csv", b"\x89PNG\r\n\x1a\n\0\0", ["PNG picture"]),
        ("pic.txt", b"\xff\xd8\xff\xe0\0", ["JPEG picture"]),
        ("doc.csv", b"%PDF-1.7\n", ["PDF", ".txt"]),
        ("a.csv", b"7z\xbc\xaf\x27\x1c", ["7-Zip archive", "unpack"]),
        ("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", ["old or encrypted Excel", ".xlsx"]),
        ("t.arrow", b"ARROW1\0\0", ["Arrow", "Parquet"]),
        ("db.csv", b"SQLite format 3\0", ["SQLite"]),
        ("records.csv", '{"question":"a"}\n', ["JSON, not CSV", ".jsonl", "askmill run -"]),
        ("records.tsv", '[{"question":"a"}]\n', ["JSON, not TSV", ".json"]),
        ("one.json", '{\n "data": [\n  {"question": "a"}\n ]\n}\n', ["one JSON object", "jq -c '.data[]'"]),
        ("q.parquet", "question\na\n", ["no Parquet file"]),
    ],
)
def test_b1_content_is_named(put, name, content, words):
    """Case B1: what is not a table of questions is named by its first bytes, whatever it is called."""
    message = refusal(put(name, content))
    assert all(word in message for word in [name, *words]), message


def test_b1_archives_and_documents(put):
    """Case B1: a zip archive is named with what it holds; so is a document."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("questions.csv", "question\na\n")
    assert "a zip archive (questions.csv); unpack it" in refusal(put("q.csv", file.getvalue()))
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    assert "text document" in refusal(put("q.docx", file.getvalue()))
    tar = b"q.csv".ljust(257, b"\0") + b"ustar\x0000"
    assert "a tar archive" in refusal(put("q.tar.gz", gzip.compress(tar)))


def test_the_input_of_an_instruction_set_is_not_asked_alone(put):
    """17, found in Alpaca's and Code Alpaca's files: `input` without its `instruction` was asked, and paid for."""
    file = put("alpaca.json", '[{"instruction": "Add them.", "input": "1, 2", "output": "3"}]')

    with pytest.raises(InputFaults, match=r'--template "\{instruction\} \{input\}"'):
        rows(file)
    with check(str(file), IntakeOptions(template="{instruction} {input}")) as intake:
        assert [intake.spec.question(row.cells) for row in intake.rows_iter()] == ["Add them. 1, 2"]
    goal = put("piqa.jsonl", '{"goal": "How?", "sol1": "a"}')
    with pytest.raises(InputFaults, match="such as --question-column goal"):
        rows(goal)


@pytest.mark.parametrize("header", ["question", "Questions", "prompt", "QUERY", "input", "text"])
def test_b1_single_column_with_a_usual_name(put, header):
    """Case B1: a single column is read under a usual name, or under any with --question-column."""
    assert rows(put("q.csv", f"{header}\nWhat?\n")) == [["What?"]]
    assert rows(put("q.csv", "words\nWhat?\n"), question_column="words") == [["What?"]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{ "question": "What is 6 * 7?", "n": 1 }\n', [["What is 6 * 7?", 1]]),
        (
            '[\n  {"question":"What is 6 * 7?"},\n  {"question":"What is 2^5?"}\n]\n',
            [["What is 6 * 7?"], ["What is 2^5?"]],
        ),
    ],
)
def test_b1_json_on_stdin(monkeypatch, put, content, expected):
    """Case B1: JSON is read as JSON on stdin and in a .txt, never asked as text."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert rows("-") == expected
    assert rows(put("q.txt", content)) == expected


def test_b1_plain_lines_on_stdin(monkeypatch):
    """Cases B1 and B2: plain lines on stdin are refused with advice; an empty stdin is named."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"compute 6 * 7\ncompute 2^5\n")))
    assert "add a line `question`" in refusal("-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "stdin is empty or closed" in refusal("-")


def test_b1_chat_messages_are_not_asked_as_json(put):
    """Case B1: a question that is a list of messages is a fault, unless the column is named."""
    path = put("e.jsonl", '{"input":[{"role":"user","content":"What is 6 * 7?"}],"ideal":"42"}\n')
    assert "list or an object" in refusal(path)
    assert rows(path, question_column="input")[0][1] == "42"
    assert rows(path, template="{ideal}")[0][1] == "42"


# --- B2: formats and compression ---------------------------------------------------------------------------


def test_b2_txt(put):
    """Case B2: a question a line; quotes and delimiters are text; blank lines are passed over."""
    content = 'compute 6 * 7\r\n\r\n  "Why, then?"\r\n[1, 2]: what is the sum?\r\n'
    expected = [["compute 6 * 7"], ['  "Why, then?"'], ["[1, 2]: what is the sum?"]]
    assert table(put("q.txt", content)) == (("question",), "question", expected)
    assert table(put("q.txt", "Prompt\na\n")) == (("Prompt",), "Prompt", [["a"]])


def test_b2_txt_faults_have_lines(put):
    """Case B2: faults of a .txt name lines; a table's header is not asked."""
    with pytest.raises(InputFaults) as caught:
        check(put("q.txt", b"a\n\nb\xf6\n"))
    assert [fault.line for fault in caught.value.faults] == [3]
    path = put("q.txt", "id,question\n1,a\n")
    assert "header of a table" in refusal(path)
    assert rows(path, delimiter=",") == [["1", "a"]]


def test_b2_json_arrays(put):
    """Case B2: an array of objects or of texts, in one line or many."""
    assert table(put("q.json", '["a","b"]')) == (("question",), "question", [["a"], ["b"]])
    objects = '[{"question":"a","n":1.5},\n\n {"question":"b","n":{"x":[1]}} ]\n'
    assert table(put("q.json", objects)) == (("question", "n"), "question", [["a", 1.5], ["b", {"x": [1]}]])
    assert rows(put("q.json", '{"question":"a"}\n{"question":"b"}\n')) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"question":"a"},\n{"question":"b"', ["line 2", "cut off"]),
        ('[{"question":"a"}\n{"question":"b"}]', ["line 2", "a comma is missing"]),
        ('[{"question":"a"},\n{"question":b}, {"question":"c and more text"}]', ["line 2", "not valid JSON"]),
        ('[{"question":"a"}]\n[]', ["line 2", "text follows"]),
        ('[{"question":"a"}, 7]', ["row 2", "neither an object nor a text"]),
        ("7", ["not a JSON array"]),
        ("[", ["cut off"]),
    ],
)
def test_b2_json_faults(put, content, words):
    """Case B2: a malformed array is a fault with its line; an element of another kind is one of its row."""
    message = refusal(put("q.json", content))
    assert all(word in message for word in words), message


def test_b2_json_in_pieces(put):
    """Case B2: elements that lie across the blocks of reading are whole; a long one is read, too."""
    texts = [f"{n}: " + 'é\\"\n' * (n % 7000) for n in range(0, 40_000, 997)] + ["x" * 2_000_000]
    assert rows(put("q.json", json.dumps(texts)), question_column="question", skip_bad_rows=True) == [
        [text] for text in texts
    ]
    assert MAX_ELEMENT_CHARACTERS > 2_000_000


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstandard.compress)],
)
def test_b2_compressed(put, suffix, compress):
    """Case B2: each text format is read compressed, by its content, even under a plain name."""
    content = b"id,question\n1,What is 2 + 2?\n2,Why?\n"
    expected = [["1", "What is 2 + 2?"], ["2", "Why?"]]
    for name in (f"q.csv{suffix}", "q.csv"):
        assert rows(put(name, compress(content))) == expected
    assert rows(put(f"q.csv{suffix}", content)) == expected
    assert rows(put(f"q.txt{suffix}", compress(b"a, b\n"))) == [["a, b"]]
    assert rows(put(f"q.jsonl{suffix}", compress(b'{"question":"a"}\n'))) == [["a"]]
    assert rows(put(f"q.json{suffix}", compress(b'["a"]'))) == [["a"]]
    assert rows(put(f"q.tsv{suffix}", compress(b"a,b\tquestion\n1\tx\n"))) == [["1", "x"]]
    assert rows(put(f"q.csv{suffix}", compress(b"question\na\n") + compress(b"b\n"))) == [["a"], ["b"]]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, checked_zstd])
def test_b2_damaged_compression(put, compress):
    """Case B2: data that is cut off or damaged is refused with a sentence, never read in part."""
    whole = compress(b"question\n" + b"".join(b"What is %d?\n" % n for n in range(20_000)))
    assert "is damaged" in refusal(put("q.csv", whole[:-9]))
    assert "is damaged" in refusal(put("q.csv", whole[: len(whole) // 2]))
    assert "is damaged" in refusal(put("q.csv", whole[:200] + b"\0" * 64 + whole[264:]))


def test_b2_endless_line(put):
    """Case B2: a small archive with a huge line is refused while it is read."""
    assert "line of more than 64 MB" in refusal(put("q.csv.zst", zstandard.compress(b"a" * (80 << 20))))


def test_b2_workbook(put):
    """Case B2: the first sheet or --sheet; whole numbers are integers, dates ISO, empty cells null."""
    first = (
        "Q",
        [["n", "question", "when", "ok"], [1, "What?", ("date", 45292), True], [], [2.5, "Why?"], ["", ""]],
    )
    path = put("q.xlsx", xlsx(first, ("More", [["text"], ["x"]])))
    assert table(path) == (
        ("n", "question", "when", "ok"),
        "question",
        [[1, "What?", "2024-01-01", True], [2.5, "Why?", None, None]],
    )
    assert rows(path, sheet="More") == [["x"]]
    assert "'Q', 'More'" in refusal(path, sheet="Nope")
    assert rows(put("q.csv", xlsx(first)))[0][1] == "What?"
    assert rows(put("q.ods", ods([["question", "n"], ["What?", 3]]))) == [["What?", 3]]


def test_b2_workbook_faults(put):
    """Case B2: faults of a workbook name its rows as the spreadsheet shows them."""
    path = put("q.xlsx", xlsx(("Q", [[], ["id", "question"], [1, "a"], [2, None]])))
    assert "row 4: the question is empty" in refusal(path)
    assert "is empty; choose another" in refusal(put("e.xlsx", xlsx(("A", []), ("B", [["question"], ["x"]]))))
    assert "--sheet is for workbooks" in refusal(put("q.csv", "question\na\n"), sheet="A")
    whole = xlsx(("Q", [["question"], ["a"]]))
    assert "workbook" in refusal(put("d.xlsx", whole[: len(whole) // 2]))
    broken = whole.replace(b"<sheetData>", b"<sheetDaaa>")
    assert "workbook" in refusal(put("d.xlsx", broken))


# --- B3 and B7: keys ---------------------------------------------------------------------------------------


def test_b3_optional_keys(put):
    """Case B3: the columns are the union of the keys in order of appearance; a missing key is null."""
    content = '{"question":"What is 6 * 7?","n":1}\n{"question":"What is 2^5?","n":2,"hint":"pow"}\n{"question":"1+1?"}\n'
    expected = (
        ("question", "n", "hint"),
        "question",
        [["What is 6 * 7?", 1, None], ["What is 2^5?", 2, "pow"], ["1+1?", None, None]],
    )
    assert table(put("q.jsonl", content)) == expected
    assert table(put("q.json", f"[{content.strip().replace(chr(10), ',')}]")) == expected
    assert table(put("q.jsonl", content), limit=1)[0] == ("question", "n")


def test_b3_too_many_keys(put):
    """Case B3: a file whose objects all have other keys is refused before it fills the memory."""
    path = put("q.jsonl", "".join(f'{{"question":"a","k{n}":1}}\n' for n in range(1100)))
    assert "line 1000: more than 1,000 different keys" in refusal(path)


@pytest.mark.parametrize(
    "line",
    [
        '{"question":"b","n":2,"n":3}',
        '{"question":"b","question":"c"}',
        '{"question":"b","\\u006e":2,"n":3}',
        '{"question":"b","n":{"x":1,"x":2}}',
        '{"question":"b","n":2,"n":12345678901234567890123}',
    ],
)
def test_b7_duplicate_keys(put, line):
    """Case B7: a duplicate key is the same fault on the first line and on every other, also when nested."""
    for content, at in ((f'{line}\n{{"question":"a"}}\n', 1), (f'{{"question":"a"}}\n{line}\n', 2)):
        message = refusal(put("q.jsonl", content))
        assert f"line {at}: the key" in message
        assert "more than once" in message
    assert "row 2: the key" in refusal(put("q.json", f'["a",{line}]'))


def test_b7_a_name_as_value_is_no_duplicate(put):
    """Case B7: a value that equals a key is no duplicate."""
    assert rows(put("q.jsonl", '{"question":"question","n":"\\"n\\""}\n')) == [["question", '"n"']]


# --- B4: what spreadsheets and pandas leave ----------------------------------------------------------------


def test_b4_pandas_index(put):
    """Case B4: a column without a name that holds something gets one."""
    path = put("q.csv", ",question,tag\n0,What is 6 * 7?,a\n1,What is 2^5?,b\n")
    columns = ("column_1", "question", "tag")
    assert table(path) == (columns, "question", [["0", "What is 6 * 7?", "a"], ["1", "What is 2^5?", "b"]])
    assert table(put("q.csv", "column_2,,question\n1,2,a\n"))[0] == ("column_2", "column_2_", "question")


def test_b4_trailing_comma(put):
    """Case B4: a column without a name that is empty everywhere vanishes, with or without its last comma."""
    expected = (("question", "tag"), "question", [["a", "x"], ["b", "y"]])
    assert table(put("q.csv", "question,tag,\na,x,\nb,y,\n")) == expected
    assert table(put("q.csv", "question,tag,\na,x\nb,y,\n")) == expected
    assert "line 2: 1 cell" in refusal(put("q.csv", "question,tag,\na\n"))
    assert "line 2: 2 cells" in refusal(put("q.csv", ",question,tag\na,b\n"))
    assert rows(put("q.xlsx", xlsx(("Q", [["question", None, "x"], ["a", None, "b"]])))) == [["a", "b"]]


def test_b4_blank_tail(put):
    """Case B4: rows of nothing but delimiters are blank lines, and lines below keep their numbers."""
    assert rows(put("q.csv", "question,tag\na,x\n,\n , \n,,\n")) == [["a", "x"]]
    assert "line 4: 1 cell" in refusal(put("q.csv", "question,tag\n,\n,\na\n"))


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\r\n', "SEP=;\n", "\ufeffsep=;\n"])
def test_b4_sep_line(put, first):
    """Case B4: Excel's `sep=` line names the delimiter and is no header; lines keep their numbers."""
    assert rows(put("q.csv", f"{first}question;tag\r\nWhat, 6 * 7?;a\r\n")) == [["What, 6 * 7?", "a"]]
    assert "line 3: the question is empty" in refusal(put("q.csv", f"{first}question;tag\n;a\n"))


# --- B5 and B6: quotes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('id,question\n1,"What is 5*8?" \n2,What is 5*9?\n', [["1", "What is 5*8?"], ["2", "What is 5*9?"]]),
        (
            'question, tag\n"What is 6 * 7?", "a, b"\n"What is 2^5?", "c"\n',
            [["What is 6 * 7?", "a, b"], ["What is 2^5?", "c"]],
        ),
        ('question, tag\n"two\nlines" , "a ""b"", c"\n', [["two\nlines", 'a "b", c']]),
        ('question\n"What?" \n', [["What?"]]),
        ('question,tag\n "x" y,"z"\n', [[' "x" y', "z"]]),
        ('question,tag\n"a ""b"" , c",d\n', [['a "b" , c', "d"]]),
    ],
)
def test_b5_blanks_around_quotes(put, content, expected):
    """Case B5: blanks around quoted cells are dropped; other cells keep theirs."""
    assert rows(put("q.csv", content)) == expected


def test_b5_backslash(put):
    """Case B5: the fault names --quoting backslash, which keeps other backslashes, as in LaTeX."""
    path = put("q.csv", 'question,tag\n"He said \\"six\\" times 7, so?",a\n"\\\\frac \\frac{1}{2}, \\,",b\n')
    message = refusal(path)
    assert "line 2" in message
    assert "--quoting backslash" in message
    assert rows(path, quoting="backslash") == [
        ['He said "six" times 7, so?', "a"],
        ["\\frac \\frac{1}{2}, \\,", "b"],
    ]


def test_b6_rows_are_not_merged(put):
    """Case B6: lines of a TSV that are rows with and without their quotes are a fault that names both ways."""
    path = put("merge.tsv", 'question\ttag\n"What is 6 * 7?\ta\nA pipe of 5"\tb\nWhat is 2^5?\tc\n')
    message = refusal(path, skip_bad_rows=True)
    assert "lines 2 to 3" in message
    assert "--quoting none" in message
    assert rows(path, quoting="none") == [
        ['"What is 6 * 7?', "a"],
        ['A pipe of 5"', "b"],
        ["What is 2^5?", "c"],
    ]
    assert len(rows(path, quoting="csv")) == 2
    assert rows(put("q.tsv", 'question\ttag\n"two\nlines"\ta\n')) == [["two\nlines", "a"]]
    assert rows(put("q.tsv", 'question\ttag\n"a\tb\tc\nd"\ta\n')) == [["a\tb\tc\nd", "a"]]
    assert "--quoting none" in refusal(put("q.tsv", 'question\n"a\nb"\n'))


def test_b6_quotes_are_text(put):
    """Case B6: text behind a closing quote names --quoting none, which reads it."""
    path = put("q.tsv", 'question\ttag\n"Quoted" word: 6 * 7?\ta\nWhat is 2^5?\tb\n')
    assert "--quoting none" in refusal(path)
    assert rows(path, quoting="none") == [['"Quoted" word: 6 * 7?', "a"], ["What is 2^5?", "b"]]


# --- B13: encodings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("shift_jis", "6カケ7は?,日本"),
        ("cp1252", "Größe?,ä"),
        ("cp1251", "Сколько будет 2+2?,а"),  # noqa: RUF001
        ("gb18030", "多少钱？,人"),  # noqa: RUF001
        ("utf-16-le", "Größe?,a"),
    ],
)
def test_b13_encodings_are_proposed(put, encoding, text):
    """Case B13: the likely encodings are proposed once, with decoded text, and none is taken."""
    path = put("q.csv", f"question,tag\n{text}\n{text}\n".encode(encoding))
    message = refusal(path)
    assert encoding in message
    assert text.split(",")[0] in message
    assert message.count("It may be") == 1
    assert rows(path, encoding=encoding) == [text.split(",")] * 2


def test_b13_undecodable_header(put):
    """Case B13: a header in another encoding gets the proposal, too."""
    assert "cp1252 ('größe,question')" in refusal(put("q.csv", "größe,question\n1,a\n".encode("cp1252")))


# --- folders -----------------------------------------------------------------------------------------------


def test_a_folder_is_refused_with_an_example(put, tmp_path):
    """A folder is refused with a file of it as the example."""
    put("a.csv", "question\na\n")
    assert str(tmp_path / "a.csv") in refusal(str(tmp_path))


# --- the shapes of public question sets --------------------------------------------------------------------

CHOICES = {"text": ["A", "B"], "label": ["x", "y"]}
SHAPES = {
    "faq.csv": ('Question,Answer\r\n"How do I pay?","By card, or\r\nby cheque."\r\n', {}, "How do I pay?"),
    "faq-semicolon.csv": ("﻿id;Question;Réponse\n1;Où êtes-vous ?;Ici\n", {}, "Où êtes-vous ?"),
    "math.jsonl": ('{"question":"2 + 2?","answer":"It is\\n#### 4"}\n', {}, "2 + 2?"),
    "math.jsonl.gz": (gzip.compress(b'{"question":"2 + 2?","answer":"4"}\n'), {}, "2 + 2?"),
    "instructions.json": (
        '[\n {"instruction": "Name a colour.", "input": "", "output": "Red"}\n]',
        {"question_column": "instruction"},
        "Name a colour.",
    ),
    "instructions.jsonl": (
        '{"instruction":"Name it.","context":"","response":"x","category":"qa"}\n',
        {"question_column": "instruction"},
        "Name it.",
    ),
    "prompts.csv": ('act,prompt\n"Poet","Write a line, please."\n', {}, "Write a line, please."),
    "choice.jsonl": (
        json.dumps({"id": "q1", "question": "Which?", "choices": CHOICES, "answerKey": "A"}) + "\n",
        {},
        "Which?",
    ),
    "boolean.jsonl": ('{"question":"is it so","title":"T","answer":true,"passage":"P"}\n', {}, "is it so"),
    "questions.tsv": ('qid\tquery\tclicks\n1\twhat is 5" pipe\t3\n', {}, 'what is 5" pipe'),
    "code.jsonl.zst": (
        zstandard.compress(b'{"task_id":"T/0","prompt":"def f():\\n","canonical_solution":"  pass"}\n'),
        {},
        "def f():\n",
    ),
    "export.csv": (",Unnamed: 0,question\n0,5,Why?\n", {}, "Why?"),
    "true.csv": ('Type,Category,"Question","Best Answer"\nA,B,"What if?","No"\n', {}, "What if?"),
    "survey.xlsx": (xlsx(("Form", [["Timestamp", "Question"], [("date", 45292), "How?"]])), {}, "How?"),
    "prompts.txt": ("Tell a story.\n", {}, "Tell a story."),
    "trivia.json.xz": (
        lzma.compress(b'[{"category":"C","question":"Who?","air_date":"2004-12-31"}]'),
        {},
        "Who?",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_public_question_sets(put, name):
    """Files of the shapes that people download are read with no option, or the one that their error names."""
    content, options, question = SHAPES[name]
    path = put(name, content)
    if options:
        assert "--question-column" in refusal(path) or name == "instructions.json"
    with check(path, IntakeOptions(**options)) as intake:
        assert [intake.spec.question(row.cells) for row in intake.rows_iter()] == [question]


def test_shape_of_a_parquet_set(tmp_path):
    """A Parquet file with nested choices is read with no option."""
    path = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({"question": ["Which?"], "choices": [["a", "b"]], "answer": [1]}), path)
    assert rows(str(path)) == [["Which?", ["a", "b"], 1]]
