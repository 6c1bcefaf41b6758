"""Text that no result could give back: NUL characters, and the marks of bytes that could not be decoded."""

import re

MARKS = re.compile("[\ud800-\udfff]")
"""Lone surrogates: how undecodable bytes are marked (source.py), and what no UTF-8 file can hold."""


def unsound(text: str) -> str | None:
    """Why the text cannot be asked; None if it can."""
    if "\0" in text:
        return "a NUL byte; take it out, or name the file's --encoding (such as utf-16-le)"
    mark = MARKS.search(text)
    if mark is None:
        return None
    return (
        f"bytes that cannot be decoded (0x{ord(mark[0]) & 0xFF:02X}); save the file as UTF-8, "
        "or name its --encoding (such as cp1252)"
    )


def cleaned(text: str) -> str:
    """The text with replacement characters where bytes could not be decoded."""
    return MARKS.sub("\ufffd", text)
