"""Values that OpenAI's API description allows, and mutations of them, for fuzzing what reads the API's replies."""

from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.helpers.openapi import described_schema

MAX_DEPTH = 5
WORDS = st.sampled_from(
    ["", "x", "auto", "file_1", "turn0file0", "【4:0†a】", "\ue200cite\ue202turn0\ue201", "ü\n"]
)
ODD: list[Any] = [None, True, 0, -1, 7.5, 10**30, "", "odd", [], [None], {}, {"a": None}, [[]], "\ue200"]
"""Values of other types."""


@cache
def values_of(name: str, depth: int = 0, leave_out: frozenset[str] = frozenset()) -> st.SearchStrategy[Any]:
    """Values of a named schema, without the properties of `leave_out`."""
    schema = described_schema(f"#/components/schemas/{name}")
    if leave_out:
        parts = [_without(part, leave_out) for part in schema.get("allOf", [schema])]
        schema = {"allOf": parts} if "allOf" in schema else parts[0]
    return st.deferred(lambda: values(schema, depth))


def _without(schema: Any, leave_out: frozenset[str]) -> Any:
    if "$ref" in schema:
        schema = described_schema(schema["$ref"])
    kept = {name: inner for name, inner in schema.get("properties", {}).items() if name not in leave_out}
    required = [name for name in schema.get("required", ()) if name not in leave_out]
    return {**schema, "properties": kept, "required": required}


def values(schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a schema. What the API leaves open is open here; deep optional parts are left out."""
    if "$ref" in schema:
        return values_of(schema["$ref"].rpartition("/")[2], depth + 1)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "allOf" in schema:
        parts = [values({**schema["allOf"][0], **part}, depth) for part in schema["allOf"]]
        return st.tuples(*parts).map(_merged)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            branches = schema[union] if depth < MAX_DEPTH else schema[union][:1]
            return st.one_of([values(branch, depth + 1) for branch in branches])
    kind = schema.get("type", "object")
    return _of_type(kind[0] if isinstance(kind, list) else kind, schema, depth)


def _of_type(kind: str, schema: Any, depth: int) -> st.SearchStrategy[Any]:
    match kind:
        case "object":
            required = set(schema.get("required", ()))
            properties = {
                name: values(inner, depth + 1)
                for name, inner in schema.get("properties", {}).items()
                if name in required or depth < MAX_DEPTH
            }
            needed = {name: inner for name, inner in properties.items() if name in required}
            return st.fixed_dictionaries(
                needed, optional={name: inner for name, inner in properties.items() if name not in required}
            )
        case "array":
            return st.lists(
                values(schema.get("items", {}), depth + 1), max_size=2 if depth < MAX_DEPTH else 0
            )
        case "integer" | "number":
            return st.integers(0, 2_000_000_000)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case _:
            return WORDS


def _merged(parts: tuple[Any, ...]) -> Any:
    objects = [part for part in parts if isinstance(part, dict)]
    return {name: value for part in objects for name, value in part.items()} if objects else parts[0]


@st.composite
def mutated(draw: st.DrawFn, value: Any, most: int = 3) -> Any:
    """The value after up to `most` mutations: a part dropped, null, of another type, twice, or nested deeply."""
    for _ in range(draw(st.integers(0, most))):
        value = _mutate(draw, value)
    return value


def _mutate(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value:
        # The large parts hold what is read: they are drawn more often, and mostly mutated inside.
        large = [name for name in sorted(value) if isinstance(value[name], dict | list) and value[name]]
        name = draw(st.sampled_from([*sorted(value), *large * len(value)]))
        if draw(st.integers(0, 3)) and isinstance(value[name], dict | list) and value[name]:
            return {**value, name: _mutate(draw, value[name])}
        if draw(st.integers(0, 4)) == 0:
            return {other: inner for other, inner in value.items() if other != name}
        return {**value, name: _replaced(draw, value[name])}
    if isinstance(value, list) and value:
        index = draw(st.integers(0, len(value) - 1))
        if draw(st.booleans()) and isinstance(value[index], dict | list):
            changed = [_mutate(draw, value[index])]
        else:
            changed = draw(
                st.sampled_from(
                    [[], [value[index]] * 2, [None, value[index]], [_replaced(draw, value[index])]]
                )
            )
        return [*value[:index], *changed, *value[index + 1 :]]
    return _replaced(draw, value)


def _replaced(draw: st.DrawFn, value: Any) -> Any:
    kind = draw(st.sampled_from(["odd", "list", "object", "deep"]))
    if kind == "odd":
        return draw(st.sampled_from(ODD))
    if kind != "deep":
        return [value] if kind == "list" else {"value": value}
    for _ in range(draw(st.sampled_from([30, 300]))):
        value = [value]
    return value
