"""Reads a .jsonl file: one object per line; values keep their types."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import orjson

from askmill.jobs.intake.base import CHUNK_ROWS, Chunk
from askmill.jobs.intake.source import HashingReader, InputSource, encoding_fault
from askmill.jobs.model.errors import Fault, InputFaults

INEXACT_NUMBER = re.compile(r"\d{16}|\d[eE]")
"""Matches every number that 64 bits may not hold exactly."""
PLAIN_TYPES = frozenset({str, int, bool, type(None)})
EXAMPLE = 'write one object per line with the columns as keys, such as {"question": "…"}'
NOT_AN_OBJECT = f"not a JSON object; {EXAMPLE}"
Line = tuple[int, str]


class JsonlReader:
    """Reader of a .jsonl file; the first object's keys are the header. Raises InputFaults without one."""

    has_line_numbers = True
    delimiter = None
    must_check_text = False

    def __init__(self, source: InputSource, hashing_reader: HashingReader) -> None:
        self._text = source.text(hashing_reader)  # kept: closing it would close the reader
        numbered = enumerate(self._text, 1)
        self._lines = ((number, line) for number, line in numbered if line.strip("\ufeff \t\r\n"))
        self._first = next(self._lines, None)
        if self._first is None:
            raise InputFaults(source.name, [Fault(None, f"the file is empty; {EXAMPLE}")])
        self.header_line, line = self._first
        try:
            pairs = json.loads(line.lstrip("\ufeff"), object_pairs_hook=tuple)
        except (ValueError, RecursionError) as error:
            reason = encoding_fault(line) or f"not valid JSON ({error}); {EXAMPLE}"
            raise InputFaults(source.name, [Fault(self.header_line, reason)]) from error
        if not isinstance(pairs, tuple) or not pairs:
            raise InputFaults(source.name, [Fault(self.header_line, f"no header: {NOT_AN_OBJECT}")])
        self.columns = [name for name, _ in pairs]

    def chunks(self) -> Iterator[Chunk]:
        lines = [self._first, *islice(self._lines, CHUNK_ROWS)] if self._first is not None else []
        while lines:
            yield self._chunk([line for line in lines if line is not None])
            lines = list(islice(self._lines, CHUNK_ROWS))

    def _chunk(self, lines: list[Line]) -> Chunk:
        rows: list[list[Any]] = []
        unreadable: dict[int, str] = {}
        for index, (_, line) in enumerate(lines):
            self.must_check_text = self.must_check_text or "\\u0000" in line
            row, fault = self._row(line)
            rows.append(row)
            if fault is not None:
                unreadable[index] = fault
        return Chunk(rows, 0, lines=[number for number, _ in lines], unreadable=unreadable)

    def _row(self, line: str) -> tuple[list[Any], str | None]:
        try:
            value = _loads(line.lstrip("\ufeff"))
        except (ValueError, RecursionError) as error:
            return [], encoding_fault(line) or f"not valid JSON ({error}); {EXAMPLE}"
        if not isinstance(value, dict):
            return [], NOT_AN_OBJECT
        if list(value) == self.columns:
            return list(value.values()), None
        return [value.get(name) for name in self.columns], self._key_mismatch(value)

    def _key_mismatch(self, value: dict[str, Any]) -> str | None:
        missing = [name for name in self.columns if name not in value]
        extra = [name for name in value if name not in self.columns]
        if not missing and not extra:
            return None
        differences = [
            f"{what} {_quoted(names)}" for what, names in (("lacks", missing), ("adds", extra)) if names
        ]
        return (
            f"an object that {' and '.join(differences)}; "
            "give every object the keys of the first (null is allowed)"
        )


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:10])


def _loads(line: str) -> Any:
    """As orjson.loads, but numbers that it would round or refuse stay as text."""
    try:
        value = orjson.loads(line)
    except ValueError:
        if not INEXACT_NUMBER.search(line):
            raise
    else:
        if _has_only_exact_types(value) or not INEXACT_NUMBER.search(line):
            return value
    value = json.loads(line, parse_int=_parse_int, parse_float=_parse_float, parse_constant=_refuse_constant)
    try:
        orjson.dumps(value)
    except TypeError as error:  # lone surrogates, which only orjson refuses
        raise ValueError(str(error)) from error
    return value


def _has_only_exact_types(value: Any) -> bool:
    """Whether no number can have been rounded: a cheap check that avoids a search of most lines."""
    return isinstance(value, dict) and PLAIN_TYPES.issuperset(map(type, value.values()))


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _parse_int(text: str) -> int | str:
    number = int(text) if len(text) < 21 else 1 << 64
    return number if -(1 << 63) <= number < 1 << 64 else text


def _parse_float(text: str) -> float | str:
    number = float(text)
    return number if Decimal(repr(number)) == Decimal(text) else text
