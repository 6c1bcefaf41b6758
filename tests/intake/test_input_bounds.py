"""Files that are small and unpack to much: each is refused by a bound, or read in constant memory (15.5)."""

import gzip
import io
import zipfile

import pytest

from tests.intake.test_what_people_have import ods, refusal, rows, xlsx

TEXT_CELL = '<table:table-cell office:value-type="string"><text:p>x</text:p></table:table-cell>'


@pytest.fixture
def put(tmp_path):
    """A function that writes an input file and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return write


def changed(workbook, part, old, new):
    """The workbook with another text in the parts of this name."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook)) as archive,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as copy,
    ):
        for name in archive.namelist():
            text = archive.read(name).decode()
            copy.writestr(name, text.replace(old, new) if name.startswith(part) else text)
    return file.getvalue()


def far_xlsx(cell):
    """A workbook with a question in A2 and one more cell in this row."""
    number, book = cell[0], xlsx(("Q", [["question"], ["a"]]))
    return changed(book, "xl/worksheets/", "</sheetData>", f'<row r="{number}">{cell[1]}</row></sheetData>')


def text_cell(place, text):
    return f'<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'


def test_one_cell_far_out_does_not_fill_the_memory(put):
    """A workbook of 2 KB with a cell at XFD1048576 took 400 GB, and the process was aborted."""
    message = refusal(put("far.xlsx", far_xlsx((1048576, text_cell("XFD1048576", "x")))))
    assert "more than 25,000,000 cells (up to the cell XFD1048576)" in message
    assert rows(put("empty.xlsx", far_xlsx((1048576, '<c r="XFD1048576" s="0"/>')))) == [["a"]]
    assert rows(put("near.xlsx", far_xlsx((3, text_cell("A3", "x"))))) == [["a"], ["x"]]


def test_a_row_that_stands_for_many_does_not_fill_the_memory(put):
    """An .ods of 1 KB whose row and cell are repeated; repeated rows of nothing, at the end of most files, are none."""
    book, row = ods([["question"], ["x"]]), f"<table:table-row>{TEXT_CELL}"
    many = row.replace("table-row>", 'table-row table:number-rows-repeated="100000">')
    full = many.replace("table-cell office", 'table-cell table:number-columns-repeated="1000" office')
    empty = f'{row}</table:table-row>{many.split(">")[0]}><table:table-cell table:number-columns-repeated="16384"/>'
    assert "up to the cell ALL100001" in refusal(put("far.ods", changed(book, "content", row, full)))
    assert rows(put("empty.ods", changed(book, "content", row, empty))) == [["x"]]


def test_a_workbook_that_unpacks_to_more_than_it_says_is_refused(put):
    """The sizes of a zip archive are claims."""
    packed = bytearray(far_xlsx((3, text_cell("A3", "x" * 1_000_000))))
    name, at = b"xl/worksheets/sheet1.xml", -1
    for signature, size_at, name_at in ((b"PK\x01\x02", 24, 46), (b"PK\x03\x04", 22, 30)):
        while (at := packed.find(signature, at + 1)) >= 0:
            if packed[at + name_at :].startswith(name):
                packed[at + size_at : at + size_at + 4] = (500).to_bytes(4, "little")
    assert "cannot be read" in refusal(put("lie.xlsx", bytes(packed)))


def test_a_line_that_is_compressed_a_thousandfold_is_given_up(put):
    """100 MB of one line in 100 KB: the bound on a line is named, and no more is unpacked."""
    blank = gzip.compress(b"x" * 2**20)
    message = refusal(put("bomb.csv.gz", gzip.compress(b"question\n") + blank * 100))
    assert "a line of more than 64 MB" in message
