"""Text as it may be shown: without secrets, and without what could take over a terminal. Pure."""

import re

SECRET = re.compile(r"(sk-[A-Za-z0-9_\-]{4})[A-Za-z0-9_\-*]+|(?<=://)([^/@\s:]*):[^/@\s]+(?=@)|(Bearer )\S+")
"""API keys, passwords in addresses, bearer tokens: none of them may reach a log or a message."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Codes that move a cursor, colour, or turn text around; tab and line feed stay."""


def masked(text: str) -> str:
    """The text without keys, passwords and tokens."""
    return SECRET.sub(lambda found: f"{found[1] or found[3] or (found[2] or '') + ':'}***", text)


def harmless(text: str) -> str:
    """The text without what could take over a terminal."""
    return CONTROL.sub("\ufffd", text)


def fit(text: str) -> str:
    """Both: for what a person is told."""
    return harmless(masked(text))
