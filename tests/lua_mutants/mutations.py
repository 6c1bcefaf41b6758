"""The mutants of a Lua text: each is the text with one token, condition or statement changed. Pure."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

_TOKEN = re.compile(
    r"(?P<comment>--[^\n]*)|(?P<space>\s+)|(?P<string>'(?:\\.|[^'\\\n])*')|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<operator>==|~=|<=|>=|\.\.\.|\.\.|.)"
)
_REPLACED = {
    "==": ("~=",),
    "~=": ("==",),
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "+": ("-",),
    "-": ("+",),
    "*": ("/",),
    "/": ("*",),
    "and": ("or",),
    "or": ("and",),
    "not": ("",),
    "true": ("false",),
    "false": ("true",),
}
_CONDITION = re.compile(r"\b(if|elseif) (.+?) then\b")
_ASSIGNMENT = re.compile(r"^ *(?! |local |for |\[)[\w.\[\]#, +]+ = [^\n]*$", re.MULTILINE)
_KEYWORDS = frozenset(
    {"and", "else", "elseif", "end", "for", "if", "in", "local", "not", "or", "return", "then", "while"}
)
_COMMAND = re.compile(r"'[A-Z]+'")


class Mutant(NamedTuple):
    """A changed text, the line of the change, and what it was and is now."""

    text: str
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.line}: {self.before!r} -> {self.after!r}"


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def mutants(text: str) -> list[Mutant]:
    """All mutants of a text, in its order. Each compiles."""
    tokens = [_Token(str(found.lastgroup), found[0], found.start()) for found in _TOKEN.finditer(text)]
    code = [token for token in tokens if token.kind not in {"comment", "space"}]
    changes = [*_token_changes(code), *_call_changes(text, code), *_line_changes(text, tokens)]
    return [
        Mutant(text[:at] + new + text[at + len(old) :], text.count("\n", 0, at) + 1, old, new)
        for at, old, new in sorted(set(changes))
    ]


def _token_changes(code: list[_Token]) -> Iterator[tuple[int, str, str]]:
    """Operators, constants and strings, but no names of commands: each run of the line shows them."""
    for before, token in pairwise([_Token("", "", 0), *code]):
        if token.text == "-" and (
            before.text in _KEYWORDS or (before.kind not in {"name", "number"} and before.text != ")")
        ):
            continue  # a sign
        if token.kind == "number":
            yield token.at, token.text, "0" if token.text == "1" else str(int(float(token.text)) + 1)
        elif token.kind == "string" and not _COMMAND.fullmatch(token.text):
            yield token.at, token.text, "'XX'" if token.text == "''" else f"'XX{token.text[1:]}"
        else:
            for new in _REPLACED.get(token.text, ()):
                yield token.at, token.text, new


def _call_changes(text: str, code: list[_Token]) -> Iterator[tuple[int, str, str]]:
    """Calls that stand as a statement, deleted: `redis.call(…)`, `set_status(…)`."""
    for index, (before, token) in enumerate(pairwise(code), 1):
        starts_line = "\n" in text[before.at + len(before.text) : token.at]
        may_start = before.text in {"then", "do", "else", "end", ")", "}", "]"} or before.kind in {
            "name",
            "number",
            "string",
        }
        opens = before.text in {"then", "do", "else"}
        inside = before.text in _KEYWORDS - {"end"} and not opens
        if (
            token.kind != "name"
            or token.text in _KEYWORDS
            or inside
            or not may_start
            or not (starts_line or opens)
        ):
            continue
        end = _end_of_call(code, index)
        if end is not None:
            yield token.at, text[token.at : end], ""


def _end_of_call(code: list[_Token], index: int) -> int | None:
    """Where `name.name(…)` ends; None where the name begins something else."""
    index += 1
    while index + 1 < len(code) and code[index].text in {".", ":"}:
        index += 2
    if index >= len(code) or code[index].text != "(":
        return None
    depth = 0
    for token in code[index:]:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0:
            return token.at + 1
    return None


def _line_changes(text: str, tokens: list[_Token]) -> Iterator[tuple[int, str, str]]:
    """Conditions negated, and assignments deleted."""
    comments = {token.at for token in tokens if token.kind == "comment"}
    for found in _CONDITION.finditer(text):
        if not any(text.rfind("\n", 0, found.start()) < at < found.start() for at in comments):
            yield found.start(2), found[2], f"not ({found[2]})"
    for found in _ASSIGNMENT.finditer(text):
        yield found.start(), found[0], ""
