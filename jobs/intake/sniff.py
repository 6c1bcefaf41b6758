"""Which character separates the cells: what the header's and the first rows' widths agree on."""

import csv
from itertools import islice

from askmill.jobs.intake.source import Source, Tally
from askmill.jobs.model.errors import UsageError

CANDIDATES = ",;\t|"
SAMPLE_CHARACTERS = 1 << 16
SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


def chosen(asked: str) -> str:
    """What --delimiter says, as one character. Raises UsageError."""
    delimiter = SPELLED.get(asked.lower(), asked)
    if len(delimiter) != 1 or delimiter in '"\r\n\0\ufeff':
        raise UsageError(f"--delimiter {asked!r} is not one character; such as ',', ';', 'tab' or '|'")
    return delimiter


def detected(source: Source) -> str:
    """The delimiter of a CSV: a tab for .tsv, else the candidate whose widths agree best with the header.

    A candidate that the header does not have is never taken, so a one-column file reads with commas, and
    a row of it with an unquoted comma is ragged, not guessed at.
    """
    if source.tabbed:
        return "\t"
    with Tally(source.open()) as tally:
        text = source.text(tally).read(SAMPLE_CHARACTERS).removeprefix("\ufeff")
    return max(CANDIDATES, key=lambda candidate: _score(text, candidate))


def _score(text: str, delimiter: str) -> tuple[bool, float, int]:
    """Orders candidates: is it in the header, the share of rows as wide as the header, the header's width."""
    rows = _sample_rows(text, delimiter)
    if not rows or len(rows[0]) == 1:
        return False, 0.0, 0
    width, rest = len(rows[0]), rows[1:]
    share = sum(len(row) == width for row in rest) / len(rest) if rest else 1.0
    return True, share, width


def _sample_rows(text: str, delimiter: str) -> list[list[str]]:
    """The sample's rows but the last, which may be cut, as far as they can be read."""
    complete = len(text) < SAMPLE_CHARACTERS
    lines = text.split("\n")
    rows: list[list[str]] = []
    try:
        rows.extend(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True))
    except csv.Error:
        complete = True
    rows = [row for row in rows if row]
    return rows if complete or len(rows) < 3 else list(islice(rows, len(rows) - 1))
