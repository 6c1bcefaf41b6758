"""The delimiter of a CSV: the option, or detected from the widths of the header and the first rows."""

import csv

from askmill.jobs.intake.source import HashingReader, InputSource
from askmill.jobs.model.errors import UsageError

DELIMITERS = ",;\t|"
SAMPLE_CHARACTERS = 1 << 16
DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


def choose_delimiter(source: InputSource, option: str | None) -> str:
    """The delimiter as one character: `option` (`--delimiter`) if set, else a tab for .tsv, else detected.

    Raises UsageError if the option is not one character or a name in DELIMITER_NAMES.
    """
    if option is None:
        return "\t" if source.is_tsv else _detect_delimiter(source)
    delimiter = DELIMITER_NAMES.get(option.lower(), option)
    if len(delimiter) != 1 or delimiter in '"\r\n\0\ufeff':
        raise UsageError(f"--delimiter {option!r} is not one character; use ',', ';', 'tab' or '|'")
    return delimiter


def _detect_delimiter(source: InputSource) -> str:
    """The candidate with which most rows are as wide as the header.

    A candidate that the header does not contain is never chosen. A one-column file is therefore read with
    commas, and a row with an unquoted comma is a fault.
    """
    with HashingReader(source.open()) as hashing_reader:
        text = source.text(hashing_reader).read(SAMPLE_CHARACTERS).removeprefix("\ufeff")
    return max(DELIMITERS, key=lambda candidate: _score(text, candidate))


def _score(text: str, delimiter: str) -> tuple[bool, float, int]:
    """Sort key: whether it is in the header, the share of rows as wide as the header, the header's width."""
    rows = _sample_rows(text, delimiter)
    if not rows or len(rows[0]) == 1:
        return False, 0.0, 0
    width, rest = len(rows[0]), rows[1:]
    share = sum(len(row) == width for row in rest) / len(rest) if rest else 1.0
    return True, share, width


def _sample_rows(text: str, delimiter: str) -> list[list[str]]:
    """The sample's rows up to the first error, without the last row, which may be cut off."""
    complete = len(text) < SAMPLE_CHARACTERS
    rows: list[list[str]] = []
    try:
        rows.extend(csv.reader((f"{line}\n" for line in text.split("\n")), delimiter=delimiter, strict=True))
    except csv.Error:
        complete = True
    rows = [row for row in rows if row]
    return rows if complete or len(rows) < 3 else rows[:-1]
