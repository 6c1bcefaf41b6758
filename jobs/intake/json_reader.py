"""Reads JSON: one object per line (.jsonl), or an array of objects or texts (.json); keeps the types."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any, TextIO

import orjson

from askmill.jobs.intake.base import CHUNK_ROWS, Chunk
from askmill.jobs.intake.content import InputFormat
from askmill.jobs.intake.encodings import encoding_fault
from askmill.jobs.intake.header import QUESTION_COLUMNS
from askmill.jobs.intake.json_array import array_items
from askmill.jobs.intake.source import HashingReader, InputSource
from askmill.jobs.model.errors import Fault, InputFaults

INEXACT_NUMBER = re.compile(r"\d{16}|\d[eE]")
"""Matches every number that 64 bits may not hold exactly."""
PLAIN_TYPES = frozenset({str, int, bool, type(None)})
EXAMPLE = 'write one object per line with the columns as keys, such as {"question": "…"}'
NOT_AN_OBJECT = f"not a JSON object; {EXAMPLE}"
NEITHER = 'neither an object nor a text; write an array such as [{"question": "…"}] or ["…"]'
MAX_COLUMNS = 1000
Item = tuple[int, str]
"""The position of a row, and its JSON text."""


class JsonReader:
    """Reader of JSON rows. Raises InputFaults if no row has a key.

    The columns are the keys of all rows in the order of their first appearance; a missing key is None.
    Positions are lines of a .jsonl file and elements of an array.
    """

    delimiter = None
    header_line = None
    must_check_text = False

    def __init__(self, source: InputSource, hashing_reader: HashingReader, columns: tuple[str, ...]) -> None:
        self._is_array = source.format is InputFormat.JSON
        self.has_line_numbers = not self._is_array
        self._text = source.text(hashing_reader)  # kept: closing it would close the reader
        self._items = _items(self._text, is_array=self._is_array)
        self.columns = list(columns)

    def chunks(self) -> Iterator[Chunk | Fault]:
        while items := list(islice(self._items, CHUNK_ROWS)):
            chunk = self._chunk([item for item in items if not isinstance(item, Fault)])
            if chunk.rows:
                yield chunk
            yield from (item for item in items if isinstance(item, Fault))

    def _chunk(self, items: list[Item]) -> Chunk:
        rows: list[list[Any]] = []
        unreadable: dict[int, str] = {}
        for index, (_, text) in enumerate(items):
            self.must_check_text = self.must_check_text or "\\u0000" in text
            row, fault = self._row(text)
            rows.append(row)
            if fault is not None:
                unreadable[index] = fault
        return Chunk(rows, 0, lines=[number for number, _ in items], unreadable=unreadable)

    def _row(self, text: str) -> tuple[list[Any], str | None]:
        try:
            value = loads(text)
        except DuplicateKey as duplicate:
            return [], str(duplicate)
        except (ValueError, RecursionError) as error:
            return [], encoding_fault(text) or f"not valid JSON ({error}); {EXAMPLE}"
        if self._is_array and isinstance(value, str):
            value = {QUESTION_COLUMNS[0]: value}
        if not isinstance(value, dict):
            return [], NEITHER if self._is_array else NOT_AN_OBJECT
        if list(value) == self.columns:
            return list(value.values()), None
        return [value.get(name) for name in self.columns], None


def _items(text: TextIO, *, is_array: bool) -> Iterator[Item | Fault]:
    if is_array:
        return array_items(text)
    numbered = enumerate(text, 1)
    return ((number, line.lstrip("\ufeff")) for number, line in numbered if line.strip("\ufeff \t\r\n"))


def key_union(source: InputSource, limit: int | None) -> tuple[str, ...]:
    """The keys of the first `limit` rows, in the order of their first appearance.

    Raises InputFaults if there are none, or more than MAX_COLUMNS.
    """
    keys: dict[str, None] = {}
    first: Item | Fault | None = None
    is_array = source.format is InputFormat.JSON
    with HashingReader(source) as hashing_reader:
        for item in islice(_items(source.text(hashing_reader), is_array=is_array), limit):
            first = first or item
            if isinstance(item, Fault):
                break
            keys.update(_keys(item[1], is_array=is_array))
            if len(keys) > MAX_COLUMNS:
                position = item[0]
                reason = f"more than {MAX_COLUMNS:,} different keys up to here; write fewer columns"
                raise InputFaults(source.name, [Fault(position, reason)])
    if not keys:
        raise InputFaults(source.name, [_no_keys(first)])
    return tuple(keys)


def _keys(text: str, *, is_array: bool) -> dict[str, None]:
    try:
        value = orjson.loads(text)
    except ValueError:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return {}
    if is_array and isinstance(value, str):
        return {QUESTION_COLUMNS[0]: None}
    return dict.fromkeys(value) if isinstance(value, dict) else {}


def _no_keys(first: Item | Fault | None) -> Fault:
    if first is None:
        return Fault(None, f"the file is empty; {EXAMPLE}")
    if isinstance(first, Fault):
        return first
    number, text = first
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return Fault(number, encoding_fault(text) or f"not valid JSON ({error}); {EXAMPLE}")
    return Fault(number, f"no header: {NOT_AN_OBJECT}")


class DuplicateKey(ValueError):
    """A key that an object has twice."""


def loads(text: str) -> Any:
    """As orjson.loads, but numbers that it would round or refuse stay as text.

    Raises DuplicateKey if an object has a key twice, since only one of the values could be kept.
    """
    try:
        value = orjson.loads(text)
    except ValueError:
        if not INEXACT_NUMBER.search(text):
            raise
    else:
        is_flat = isinstance(value, dict) and PLAIN_TYPES.issuperset(map(type, value.values()))
        if is_flat and not _may_repeat_keys(text, value):
            return value
        json.loads(text, object_pairs_hook=_refuse_duplicates)
        if is_flat or not INEXACT_NUMBER.search(text):
            return value
    value = json.loads(
        text,
        object_pairs_hook=_refuse_duplicates,
        parse_int=_parse_int,
        parse_float=_parse_float,
        parse_constant=_refuse_constant,
    )
    try:
        orjson.dumps(value)
    except TypeError as error:  # lone surrogates, which only orjson refuses
        raise ValueError(str(error)) from error
    return value


def _may_repeat_keys(text: str, value: dict[str, Any]) -> bool:
    """A cheap check that leaves out most flat objects: each key stands once in the text, as it is spelled."""
    return "\\" in text or any(text.count(f'"{key}"') > 1 for key in value)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DuplicateKey(
            f"the key {twice[:60]!r} occurs more than once in an object; rename or delete one of them"
        )
    return value


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _parse_int(text: str) -> int | str:
    number = int(text) if len(text) < 21 else 1 << 64
    return number if -(1 << 63) <= number < 1 << 64 else text


def _parse_float(text: str) -> float | str:
    number = float(text)
    return number if Decimal(repr(number)) == Decimal(text) else text
