"""Finds cells of an .xlsx that are so far out that a rectangle up to them does not fit into memory.

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
BLOCK_BYTES = 1 << 20
TAG_BYTES = 1000
"""Longer than the tag of a cell, which may lie across the end of a block."""


def far_cell(archive: zipfile.ZipFile) -> str | None:
    """The corner, such as `XFD1048576`, of a sheet with more than MAX_CELLS cells; None if there is none."""
    for entry in archive.infolist():
        if SHEETS.fullmatch(entry.filename):
            rows, columns = _extent(archive, entry)
            if rows * columns > MAX_CELLS:
                return f"{_letters_of(columns)}{rows}"
    return None


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
