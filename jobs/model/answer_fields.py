"""The fields of answers that follow a response schema: which there are, and their values in one answer.

`fields_of(profile.response_schema)` gives the fields; `AnswerFields.values(answer)` their values, typed.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from askmill.jobs.model.result_fields import HasFields

CODE_FENCE = re.compile(
    r"\s*(?P<mark>`{3,}|~{3,})[\w+-]*[ \t]*\r?\n(?P<content>.*?)\r?\n?[ \t]*(?P=mark)\s*", re.DOTALL
)
MAX_REFS = 20
"""References followed from one schema to the next: more are a circle."""


class Kind(StrEnum):
    """What a column of the results holds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"
    """Lists and objects: JSON text, except in .jsonl."""


_KINDS = {"string": Kind.TEXT, "integer": Kind.INTEGER, "number": Kind.NUMBER, "boolean": Kind.BOOLEAN}
_TYPES: dict[Kind, frozenset[type]] = {
    Kind.TEXT: frozenset({str, type(None)}),
    Kind.INTEGER: frozenset({int, float, type(None)}),
    Kind.NUMBER: frozenset({int, float, type(None)}),
    Kind.BOOLEAN: frozenset({bool, type(None)}),
    Kind.JSON: frozenset({str, int, float, bool, list, dict, type(None)}),
}
"""Types of values by kind. JSON's 2.0 is an integer too."""


@dataclass(frozen=True)
class AnswerFields:
    """The top-level fields of an object's schema, in its order."""

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    required: frozenset[str]

    def values(self, answer: str | None) -> list[Any] | None:
        """Return the fields' values in one answer: None for one that it leaves out.

        Lists and objects stay Python's. None where the answer is not an object that fits. An answer that was
        checked against the whole schema fits; the check here is of the top level only.
        """
        try:
            parsed = orjson.loads(without_fence(answer)) if answer else None
        except orjson.JSONDecodeError:
            return None
        if not isinstance(parsed, dict) or not self.required <= parsed.keys():
            return None
        values = list(map(parsed.get, self.names))
        for index, kind in enumerate(self.kinds):
            value = values[index]
            if type(value) not in _TYPES[kind]:
                return None
            if kind is Kind.INTEGER and isinstance(value, float):
                if not value.is_integer():
                    return None
                values[index] = int(value)
        return values

    def values_of(self, result: HasFields) -> list[Any]:
        """Return the values of a row, from its result.

        All are None without an answer, and where the answer misses the schema.
        """
        values = None if misses_schema(result.get("error")) else self.values(result.get("answer"))
        return [None] * len(self.names) if values is None else values


def misses_schema(error: str | None) -> bool:
    """Whether a row's error says that its answer misses the response schema."""
    return error is not None and error.split(":", 1)[0] == "schema"


def plain_schema(response_schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema itself, also of one in the API's wrapper `{"name", "schema", "strict"}`."""
    inner = response_schema.get("schema", response_schema)
    return inner if isinstance(inner, dict) else {}


def fields_of(response_schema: dict[str, Any] | None) -> AnswerFields | None:
    """Return the fields of a response schema; None where it is not one of an object with properties."""
    if response_schema is None:
        return None
    root = plain_schema(response_schema)
    schema = _resolved(root, root)
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties or schema.get("type", "object") != "object":
        return None
    required = schema.get("required")
    return AnswerFields(
        tuple(properties),
        tuple(_kind(part, root) for part in properties.values()),
        frozenset(required if isinstance(required, list) else ()),
    )


def _resolved(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """The schema that a chain of references inside the document leads to."""
    for _ in range(MAX_REFS):
        if not isinstance(schema, dict):
            return {}
        ref = schema.get("$ref")
        if not isinstance(ref, str) or not ref.startswith("#"):
            return schema
        schema = root
        for part in filter(None, ref[1:].split("/")):
            name = part.replace("~1", "/").replace("~0", "~")
            schema = schema.get(name) if isinstance(schema, dict) else None
    return {}


def _kind(schema: Any, root: dict[str, Any], depth: int = 0) -> Kind:
    schema = _resolved(schema, root)
    unions = [part for name in ("anyOf", "oneOf") for part in schema.get(name, ())]
    if unions and depth < MAX_REFS:
        kinds = {_kind(part, root, depth + 1) for part in unions if not _is_null(part)}
    else:
        kinds = {_KINDS.get(name, Kind.JSON) for name in _type_names(schema) if name != "null"}
    if kinds == {Kind.INTEGER, Kind.NUMBER}:
        return Kind.NUMBER
    return kinds.pop() if len(kinds) == 1 else Kind.JSON


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def _type_names(schema: dict[str, Any]) -> list[str]:
    """The JSON types that a schema names, or that its values have."""
    names = schema.get("type")
    if names is not None:
        return names if isinstance(names, list) else [names]
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    of_type = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return [of_type.get(type(value), "object") for value in values] or ["any"]


def without_fence(text: str) -> str:
    """The text inside a code fence that surrounds all of it and holds JSON; else the text as it is."""
    match = CODE_FENCE.fullmatch(text)
    if match is None:
        return text
    try:
        orjson.loads(match["content"])
    except orjson.JSONDecodeError:
        return text
    return match["content"].strip()
