"""Cuts a JSON array into its elements in constant memory: one element and a block of text at a time."""

import json
import re
from collections.abc import Iterator
from typing import TextIO

from askmill.jobs.model.errors import Fault

BLOCK_CHARACTERS = 1 << 18
MAX_ELEMENT_CHARACTERS = 1 << 25
BLANKS = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()
CUT_OFF = "the array is cut off: it has no closing bracket; write the file again"


def array_items(text: TextIO) -> Iterator[tuple[int, str] | Fault]:
    """Each element with its number from 1, then a Fault if the array is malformed."""
    buffer = _Buffer(text)
    if buffer.next_char() != "[":
        yield Fault(1, 'not a JSON array; write one such as [{"question": "…"}] or ["…"]')
        return
    buffer.at += 1
    number = 1
    if buffer.next_char() == "]":
        buffer.at += 1
    else:
        while True:
            element = buffer.element()
            if isinstance(element, Fault):
                yield element
                return
            yield number, element
            number += 1
            separator = buffer.next_char()
            if separator not in {",", "]"}:
                yield buffer.fault("a comma is missing between two elements" if separator else CUT_OFF)
                return
            buffer.at += 1
            if separator == "]":
                break
    if buffer.next_char():
        yield buffer.fault(
            "text follows the array; a .json file holds one array, a .jsonl file one object per line"
        )


class _Buffer:
    """A part of the text, extended on demand; what has been read is dropped."""

    def __init__(self, text: TextIO) -> None:
        self._text, self._buffer, self.at, self._line = text, text.read(BLOCK_CHARACTERS), 0, 1
        self._buffer = self._buffer.removeprefix("\ufeff")

    def _extend(self) -> bool:
        """Drop what was read, and read more; False at the end of the text."""
        self._line += self._buffer.count("\n", 0, self.at)
        self._buffer, self.at = self._buffer[self.at :], 0
        # As much as there is already, so that a long element is parsed only a few times.
        block = self._text.read(max(BLOCK_CHARACTERS, len(self._buffer)))
        self._buffer += block
        return bool(block)

    def next_char(self) -> str:
        """The next character that is not blank; '' at the end."""
        while True:
            blanks = BLANKS.match(self._buffer, self.at)
            assert blanks is not None
            self.at = blanks.end()
            if self.at < len(self._buffer):
                return self._buffer[self.at]
            if not self._extend():
                return ""

    def element(self) -> "str | Fault":
        """The text of the next element."""
        if self.next_char() == "":
            return self.fault(CUT_OFF)
        while True:
            try:
                _, end = DECODER.raw_decode(self._buffer, self.at)
            except json.JSONDecodeError as error:
                # A string that is not closed may only be cut off, and so may what fails near the end.
                is_cut = "Unterminated" in error.msg or error.pos >= len(self._buffer) - 16
                if not is_cut:
                    return self.fault(f"not valid JSON ({error.msg})", error.pos)
                if len(self._buffer) - self.at > MAX_ELEMENT_CHARACTERS:
                    return self.fault(
                        f"an element has more than {MAX_ELEMENT_CHARACTERS:,} characters; shorten it"
                    )
                offset = error.pos - self.at
                if not self._extend():
                    return self.fault(f"not valid JSON ({error.msg}); the array may be cut off", offset)
            except RecursionError:
                return self.fault("an element is nested too deep; flatten it")
            else:
                if end < len(self._buffer) or not self._extend():
                    element, self.at = self._buffer[self.at : end], end
                    return element

    def fault(self, reason: str, at: int | None = None) -> Fault:
        """A fault at a position of the buffer, else where the reading stands."""
        line = self._line + self._buffer.count("\n", 0, self.at if at is None else at)
        return Fault(line, reason)
