"""The dialect of a CSV: options, else detected from the header and the first rows."""

import csv
import re

from askmill.jobs.intake.csv_dialect import CsvDialect
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.intake.source import InputSource
from askmill.jobs.model.errors import UsageError

DELIMITERS = ",;\t|"
SAMPLE_CHARACTERS = 1 << 16
DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
Score = tuple[bool, float, int, int]
"""Whether the delimiter is in the header, the share of rows as wide as the header, the header's width.

Then, negative, the cells that begin with a quote: blanks are dropped where fewer remain.
"""
SEP_LINE = re.compile(r'"?sep=(.)"?\r*\n', re.IGNORECASE)


def sniff(source: InputSource, options: IntakeOptions) -> CsvDialect:
    """The dialect: the options where they are set, a tab for .tsv, else detected.

    Raises UsageError if `--delimiter` is not one character or a name in DELIMITER_NAMES.
    """
    delimiter = None if options.delimiter is None else _delimiter_option(options.delimiter)
    text = source.head(SAMPLE_CHARACTERS)
    sample_is_whole = len(text) < SAMPLE_CHARACTERS
    sep_line = SEP_LINE.match(text)
    if sep_line is not None:
        text = text[sep_line.end() :]
        delimiter = delimiter or sep_line[1]
    if delimiter is None and source.is_tsv:
        delimiter = "\t"
    # Blanks around quoted cells count only where they change what is read.
    may_trim = options.quoting != "none" and re.search(r'[ \t]"|"[ \t]', text) is not None
    best = [
        max(
            (
                _scored(
                    text, CsvDialect(candidate, options.quoting, sep_line is not None, trims), sample_is_whole
                )
                for trims in ((False, True) if may_trim else (False,))
            ),
            key=lambda scored: scored[0],
        )
        for candidate in delimiter or DELIMITERS
    ]
    return max(best, key=lambda scored: scored[0][:3])[1]


def _delimiter_option(option: str) -> str:
    delimiter = DELIMITER_NAMES.get(option.lower(), option)
    if len(delimiter) != 1 or delimiter in '"\r\n\0\ufeff':
        raise UsageError(f"--delimiter {option!r} is not one character; use ',', ';', 'tab' or '|'")
    return delimiter


def _scored(text: str, dialect: CsvDialect, sample_is_whole: bool) -> tuple[Score, CsvDialect]:
    """The dialect and its score.

    A delimiter that the header does not contain is never chosen. A one-column file is therefore read with
    commas, and a row with an unquoted comma is a fault.
    """
    rows, failed = _sample_rows(text, dialect, sample_is_whole)
    quotes = -sum(cell.lstrip().startswith('"') for row in rows for cell in row) - failed
    if not rows or len(rows[0]) == 1:
        return (False, 0.0, 0, quotes), dialect
    width, rest = len(rows[0]), rows[1:]
    share = sum(len(row) == width for row in rest) / (len(rest) + failed) if rest else 1.0 - failed
    return (True, share, width, quotes), dialect


def _sample_rows(text: str, dialect: CsvDialect, sample_is_whole: bool) -> tuple[list[list[str]], bool]:
    """The sample's rows up to the first error, and whether there was one.

    Without the last row, which may be cut off.
    """
    rows: list[list[str]] = []
    failed = False
    try:
        rows.extend(dialect.rows(f"{line}\n" for line in text.split("\n")))
    except csv.Error as error:
        failed = sample_is_whole or "unexpected end" not in str(error)
    rows = [row for row in rows if row]
    return rows if failed or sample_is_whole or len(rows) < 3 else rows[:-1], failed
