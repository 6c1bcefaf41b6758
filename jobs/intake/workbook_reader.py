"""Reads a sheet of an .xlsx or .ods workbook, held in memory, with python-calamine."""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from askmill.jobs.intake.base import CHUNK_ROWS, Chunk
from askmill.jobs.intake.sheet_size import MAX_CELLS, far_cell
from askmill.jobs.intake.source import InputSource
from askmill.jobs.model.errors import Fault, InputFaults, UsageError

MAX_UNPACKED_BYTES = 512 << 20
"""A workbook is held in memory, about as large as its unpacked parts."""
EXPORT = "export the sheet as CSV, which is read as a stream"
ADVICE = "save the workbook again, or export the sheet as CSV (in Excel: Save As, 'CSV UTF-8')"


@dataclass(frozen=True)
class Sheet:
    """The rows of a sheet, and the names of all sheets of its workbook."""

    name: str
    rows: list[list[Any]]
    all_names: list[str]


class WorkbookReader:
    """Reader of a sheet. Positions are row numbers as the spreadsheet shows them.

    Whole numbers are integers, dates and times ISO texts, empty cells None. Blank rows are passed over.
    Raises InputFaults for an empty sheet.
    """

    has_line_numbers = False
    delimiter = None
    must_check_text = True

    def __init__(self, file: str, sheet: Sheet) -> None:
        self._rows = enumerate(sheet.rows, 1)
        header = next(((number, row) for number, row in self._rows if _has_content(row)), None)
        if header is None:
            reason = f"no header: the sheet {sheet.name!r} is empty; {_other_sheets(sheet.all_names)}"
            raise InputFaults(file, [Fault(None, reason)])
        self.header_line, cells = header
        self.columns = ["" if cell == "" else str(_value(cell)) for cell in cells]

    def chunks(self) -> Iterator[Chunk]:
        rows, numbers = list[list[Any]](), list[int]()
        for number, row in self._rows:
            if not _has_content(row):
                continue
            rows.append(list(map(_value, row)))
            numbers.append(number)
            if len(rows) == CHUNK_ROWS:
                yield Chunk(rows, 0, lines=numbers)
                rows, numbers = [], []
        if rows:
            yield Chunk(rows, 0, lines=numbers)


def load_sheet(source: InputSource, sheet: str | None) -> Sheet:
    """Read the sheet of that name, or the first one, into memory.

    Raises InputFaults for a damaged workbook, UsageError for an unknown sheet or one that is too large.
    """
    from python_calamine import CalamineError, load_workbook  # noqa: PLC0415 -- only for workbooks

    _check_size(source)
    try:
        workbook = load_workbook(source.path)
        names = workbook.sheet_names
        if not names:
            raise InputFaults(source.name, [Fault(None, f"the workbook has no sheet; {ADVICE}")])
        if sheet is not None and sheet not in names:
            raise UsageError(f"--sheet: there is no sheet {sheet!r}; {source.name} has {_listed(names)}")
        chosen = names[0] if sheet is None else sheet
        found = workbook.get_sheet_by_name(chosen)
        if found.total_height * found.total_width > MAX_CELLS:
            raise _too_many_cells(source, f"{found.total_height:,} rows, {found.total_width:,} columns")
        rows = found.to_python(skip_empty_area=False)
    except (CalamineError, OSError, ValueError) as error:
        reason = f"the workbook cannot be read ({error}); {ADVICE}"
        raise InputFaults(source.name, [Fault(None, reason)]) from error
    return Sheet(chosen, rows, names)


def _check_size(source: InputSource) -> None:
    """Raises UsageError for a workbook that does not fit into memory, and InputFaults for a damaged one."""
    try:
        with zipfile.ZipFile(source.path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_UNPACKED_BYTES:
                raise UsageError(
                    f"{source.name} unpacks to {unpacked >> 20:,} MB, but a workbook of at most "
                    f"{MAX_UNPACKED_BYTES >> 20} MB is read; {EXPORT}"
                )
            if (corner := far_cell(archive)) is not None:
                raise _too_many_cells(source, f"up to the cell {corner}")
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError) as error:
        reason = f"the workbook cannot be read ({error}); {ADVICE}"
        raise InputFaults(source.name, [Fault(None, reason)]) from error


def _too_many_cells(source: InputSource, extent: str) -> UsageError:
    return UsageError(
        f"{source.name} has a sheet with more than {MAX_CELLS:,} cells ({extent}), which may not fit into "
        f"memory; delete what stands far out, or {EXPORT}"
    )


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:20])


def _other_sheets(names: list[str]) -> str:
    if len(names) == 1:
        return "write the column names into its first row"
    return f"choose another with --sheet, out of {_listed(names)}"


def _has_content(row: list[Any]) -> bool:
    return any(not isinstance(cell, str) or cell.strip() for cell in row)


def _value(cell: Any) -> Any:
    if isinstance(cell, str):
        return cell or None
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < 2**53 else cell
    if isinstance(cell, date | datetime | time):
        return cell.isoformat()
    return str(cell) if isinstance(cell, timedelta) else cell
