"""Rows of a .jsonl file: one object a line, its values as they are."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import orjson

from askmill.jobs.intake.base import ROWS_A_CHUNK, Chunk
from askmill.jobs.intake.encoding_faults import unsound
from askmill.jobs.intake.source import Source, Tally
from askmill.jobs.model.errors import Fault, InputFaults

UNTRUE_NUMBER = re.compile(r"\d{16}|\d[eE]")
"""What may be a number that 64 bits do not hold exactly."""
PLAIN_TYPES = frozenset({str, int, bool, type(None)})
NO_OBJECT = 'not a JSON object with the columns as its keys, such as {"question": "…"}'
Line = tuple[int, str]


class JsonlTable:
    """A .jsonl being read; the first object's keys are the header. Raises InputFaults if there is none."""

    by_line = True
    separator = None
    unsure = False

    def __init__(self, source: Source, tally: Tally) -> None:
        self._text = source.text(tally)  # held, as its end would close the tally
        numbered = enumerate(self._text, 1)
        self._lines = ((number, line) for number, line in numbered if line.strip("\ufeff \t\r\n"))
        self._head = next(self._lines, None)
        if self._head is None:
            raise InputFaults(
                source.name, [Fault(None, "the file is empty: one JSON object a line is needed")]
            )
        self.header_line, line = self._head
        try:
            pairs = json.loads(line.lstrip("\ufeff"), object_pairs_hook=tuple)
        except (ValueError, RecursionError) as error:
            reason = unsound(line) or f"not valid JSON ({error}); one object a line is needed"
            raise InputFaults(source.name, [Fault(self.header_line, reason)]) from error
        if not isinstance(pairs, tuple) or not pairs:
            raise InputFaults(source.name, [Fault(self.header_line, f"no header: {NO_OBJECT}")])
        self.columns = [name for name, _ in pairs]

    def chunks(self) -> Iterator[Chunk]:
        lines = [self._head, *islice(self._lines, ROWS_A_CHUNK)] if self._head is not None else []
        while lines:
            yield self._chunk([line for line in lines if line is not None])
            lines = list(islice(self._lines, ROWS_A_CHUNK))

    def _chunk(self, lines: list[Line]) -> Chunk:
        rows: list[list[Any]] = []
        broken: dict[int, str] = {}
        for at, (_, line) in enumerate(lines):
            self.unsure = self.unsure or "\\u0000" in line
            row, fault = self._row(line)
            rows.append(row)
            if fault is not None:
                broken[at] = fault
        return Chunk(rows, 0, lines=[number for number, _ in lines], broken=broken)

    def _row(self, line: str) -> tuple[list[Any], str | None]:
        try:
            found = _loads(line.lstrip("\ufeff"))
        except (ValueError, RecursionError) as error:
            return [], unsound(line) or f"not valid JSON ({error}); one object a line is needed"
        if not isinstance(found, dict):
            return [], NO_OBJECT
        if list(found) == self.columns:
            return list(found.values()), None
        return [found.get(name) for name in self.columns], self._other_keys(found)

    def _other_keys(self, found: dict[str, Any]) -> str | None:
        missing = [name for name in self.columns if name not in found]
        extra = [name for name in found if name not in self.columns]
        if not missing and not extra:
            return None
        said = [f"{what} {_quoted(names)}" for what, names in (("lacks", missing), ("adds", extra)) if names]
        return f"an object that {' and '.join(said)}; all need the keys of the first (null is a value)"


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:10])


def _loads(line: str) -> Any:
    """What orjson makes of it, but numbers that it would round or refuse stay as they are written."""
    try:
        found = orjson.loads(line)
    except ValueError:
        if not UNTRUE_NUMBER.search(line):
            raise
    else:
        if _is_plain(found) or not UNTRUE_NUMBER.search(line):
            return found
    found = json.loads(line, parse_int=_whole, parse_float=_fraction, parse_constant=_refuse)
    try:
        orjson.dumps(found)
    except TypeError as error:  # lone surrogates, which only orjson refuses
        raise ValueError(str(error)) from error
    return found


def _is_plain(found: Any) -> bool:
    """Whether no number can have been rounded: a quick look that spares most lines the search."""
    return isinstance(found, dict) and PLAIN_TYPES.issuperset(map(type, found.values()))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _whole(text: str) -> int | str:
    number = int(text) if len(text) < 21 else 1 << 64
    return number if -(1 << 63) <= number < 1 << 64 else text


def _fraction(text: str) -> float | str:
    number = float(text)
    return number if Decimal(repr(number)) == Decimal(text) else text
