"""Finds cells of a workbook that are so far out that a rectangle up to them does not fit into memory.

calamine makes that rectangle, and its process is aborted if there is no memory for it: one cell at
XFD1048576, in a file of 1 KB, takes 400 GB.
"""

import re
import zipfile

MAX_CELLS = 25_000_000
"""Rows times columns of a sheet."""
SHEETS = re.compile(r"/?xl/worksheets/[^/]+\.xml", re.IGNORECASE)
CELL = re.compile(rb"""<(?:\w+:)?c\s(?:[^<>]*?\s)?r=["']([A-Za-z]{1,3})(\d{1,7})["'][^<>/]*>""")
"""The place of a cell with content; one without ends with `/>` and counts for nothing."""
ODS_CONTENT = "content.xml"
ODS_TABLE = re.compile(rb"<table:table\s")
ODS_ROW = re.compile(rb"<table:table-row\b([^<>]*)>(.*?)</table:table-row>", re.DOTALL)
ODS_CELL = re.compile(rb"<table:(?:covered-)?table-cell\b([^<>]*)>(<text:p)?")
"""The prefixes are those that calamine reads. A cell is followed by its text, if it has one."""
ODS_ROWS_REPEATED = re.compile(rb"""number-rows-repeated=["'](\d+)""")
ODS_COLUMNS_REPEATED = re.compile(rb"""number-columns-repeated=["'](\d+)""")
MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384
"""calamine reads no more of a sheet."""
BLOCK_BYTES = 1 << 20
TAG_BYTES = 1000
"""Longer than the tag of a cell, which may lie across the end of a block."""


def far_cell(archive: zipfile.ZipFile) -> str | None:
    """The corner, such as `XFD1048576`, of a sheet with more than MAX_CELLS cells; None if there is none."""
    for entry in archive.infolist():
        if SHEETS.fullmatch(entry.filename):
            extents = [_extent(archive, entry)]
        elif entry.filename == ODS_CONTENT:
            extents = _ods_extents(archive.read(entry))
        else:
            continue
        for rows, columns in extents:
            if rows * columns > MAX_CELLS:
                return f"{_letters_of(columns)}{rows}"
    return None


def _ods_extents(content: bytes) -> list[tuple[int, int]]:
    """The last row and column with content of each table."""
    starts = [found.start() for found in ODS_TABLE.finditer(content)]
    return [
        _ods_extent(content, start, end)
        for start, end in zip(starts, [*starts[1:], len(content)], strict=True)
    ]


def _ods_extent(content: bytes, start: int, end: int) -> tuple[int, int]:
    """The last row and column with content between two places; a row or a cell may stand for many."""
    rows, last_row, last_column = 0, 1, 1
    for row in ODS_ROW.finditer(content, start, end):
        columns = 0
        rows += _repeated(ODS_ROWS_REPEATED, row[1], MAX_ROWS)
        for cell, content_of_cell in ODS_CELL.findall(row[2]):
            columns += _repeated(ODS_COLUMNS_REPEATED, cell, MAX_COLUMNS)
            if content_of_cell or b"office:value" in cell:
                last_row, last_column = rows, max(last_column, columns)
    return last_row, last_column


def _repeated(pattern: re.Pattern[bytes], attributes: bytes, most: int) -> int:
    found = pattern.search(attributes)
    return min(int(found[1][:9]), most) if found else 1


def _extent(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """The last row and column with content, counted from 1."""
    rows, columns, rest = 1, 1, b""
    with archive.open(entry) as sheet:
        while block := sheet.read(BLOCK_BYTES):
            text = rest + block
            places = CELL.findall(text)
            rows = max([rows, *map(int, {row for _, row in places})])
            columns = max([columns, *map(_column_of, {column for column, _ in places})])
            rest = text[-TAG_BYTES:]
    return rows, columns


def _column_of(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - ord("A") + 1
    return number


def _letters_of(column: int) -> str:
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
