"""The short form of a response schema: `"sentiment: positive|neutral|negative, score: float, topics: [str]"`.

    fields  = field, {",", field}
    field   = name, ["?"], [":", type], [description]      without a type: str; "?": may be null
    type    = "str" | "int" | "float" | "bool" | values | "[", type, "]" | "{", fields, "}"
    values  = value, {"|", value}                          value: a word, a number, or a text in quotes
    description = a text in double quotes

The schema is one that OpenAI's strict structured outputs accept: every property is required, none is added.
"""

import re
from difflib import get_close_matches
from typing import Any, NamedTuple

SCALARS = {
    "str": "string",
    "string": "string",
    "int": "integer",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "bool": "boolean",
    "boolean": "boolean",
}
TYPES = "str, int, float, bool, [TYPE], {FIELDS} or values such as low|high"
MAX_DEPTH = 10
"""OpenAI allows ten levels of nesting (its guide on structured outputs)."""
_TOKEN = re.compile(r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[^\s,:|\[\]{}"?]+)|(?P<mark>[,:|\[\]{}?]))')
_NAME = re.compile(r"[^\W\d][\w-]*")

Schema = dict[str, Any]


class SchemaFormFault(ValueError):
    """The text is not the short form of a schema; the message names the place."""


class _Token(NamedTuple):
    kind: str
    """`text`, `word`, `mark`, or `end`."""
    text: str
    at: int


def parse_fields(text: str) -> Schema:
    """Return the JSON schema of an object with these fields.

    Raises:
        SchemaFormFault: with the character, counted from 1, and what is expected there.
    """
    return _Parser(text).parse()


def is_short_form(text: str) -> bool:
    """Whether the value of `--response-schema` is meant as the short form, and not as a file's name."""
    return not text.endswith(".json") and (":" in text or "," in text)


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def parse(self) -> Schema:
        schema = self._fields("")
        if self._peek.kind != "end":
            raise self._fault(self._peek, "a comma is missing before it")
        return schema

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek
        self._next += token.kind != "end"
        return token

    def _took(self, mark: str) -> bool:
        found = self._peek.kind == "mark" and self._peek.text == mark
        self._next += found
        return found

    def _fields(self, end: str) -> Schema:
        """The fields up to the mark `end`, or to the end of the text."""
        properties: dict[str, Schema] = {}
        while not (properties and self._ends(end)):
            name = self._name(properties)
            properties[name.text] = self._field()
            if not self._took(","):
                break
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def _ends(self, end: str) -> bool:
        return self._peek.text == end if end else self._peek.kind == "end"

    def _name(self, properties: dict[str, Schema]) -> _Token:
        token = self._take()
        if token.kind != "word" or not _NAME.fullmatch(token.text):
            raise self._fault(token, "a field's name is expected: letters, digits, _ and -, such as score")
        if token.text in properties:
            raise self._fault(token, "this field is there twice; name each once")
        return token

    def _field(self) -> Schema:
        optional = self._took("?")
        schema = self._type() if self._took(":") else {"type": "string"}
        if self._peek.kind == "text":
            schema["description"] = _unquoted(self._take().text)
        return _nullable(schema) if optional else schema

    def _type(self) -> Schema:
        token = self._peek
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fault(token, f"types are nested more than {MAX_DEPTH} levels deep")
        if self._took("["):
            schema: Schema = {"type": "array", "items": self._type()}
            self._close("]", token)
        elif self._took("{"):
            schema = self._fields("}")
            self._close("}", token)
        else:
            schema = self._scalar_or_values()
        self._depth -= 1
        return schema

    def _close(self, mark: str, opened: _Token) -> None:
        if not self._took(mark):
            raise self._fault(self._peek, f"{mark} is missing for the {opened.text} at {opened.at + 1}")

    def _scalar_or_values(self) -> Schema:
        values = [self._value()]
        while self._took("|"):
            values.append(self._value())
        first = values[0]
        if len(values) == 1 and first.kind == "word":
            if first.text not in SCALARS:
                raise self._fault(first, _unknown_type(first.text))
            return {"type": SCALARS[first.text]}
        return self._values(values)

    def _value(self) -> _Token:
        token = self._take()
        if token.kind not in {"word", "text"}:
            raise self._fault(token, f"a type is expected: {TYPES}")
        return token

    def _values(self, tokens: list[_Token]) -> Schema:
        texts = [_unquoted(token.text) if token.kind == "text" else token.text for token in tokens]
        for index, token in enumerate(tokens):
            if texts[index] in texts[:index]:
                raise self._fault(token, "this value is there twice; name each once")
        if set(texts) == {"true", "false"}:
            raise self._fault(tokens[0], "write bool for true|false")
        if all(token.kind == "word" and re.fullmatch(r"-?\d{1,15}", token.text) for token in tokens):
            return {"type": "integer", "enum": [int(text) for text in texts]}
        return {"type": "string", "enum": texts}

    @staticmethod
    def _fault(token: _Token, reason: str) -> SchemaFormFault:
        what = "the end" if token.kind == "end" else f"{token.text!r:.60}"
        return SchemaFormFault(f"character {token.at + 1}, {what}: {reason}")


def _tokens(text: str) -> list[_Token]:
    tokens, at = list[_Token](), 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise SchemaFormFault(f"character {at + 1}: the quote that opens here is never closed")
        kind = match.lastgroup or ""
        tokens.append(_Token(kind, match[kind], match.start(kind)))
        at = match.end()
    return [*tokens, _Token("end", "", end)]


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _nullable(schema: Schema) -> Schema:
    """The same type, or null. Strict structured outputs know no other optional field."""
    values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **values}


def _unknown_type(word: str) -> str:
    close = get_close_matches(word.lower(), SCALARS, n=1)
    hint = f"; did you mean {close[0]}?" if close else f' (one fixed value: write "{word}")'
    return f"there is no such type; use {TYPES}{hint}"
