"""The short form of `--response-schema`, and the fields of answers that follow a schema."""

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.emulator.simulation.samples import sample_object
from askmill.jobs.model.answer_fields import Kind, fields_of
from askmill.jobs.model.schema_fields import SchemaFormFault, is_short_form, parse_fields

CONTRACT = 'sentiment: positive|neutral|negative, score: float, topics: [str], reason: str "one sentence"'


def test_the_short_form_of_the_contract() -> None:
    """Enums, scalars, lists and descriptions; every property is required and none is added (strict outputs)."""
    assert parse_fields(CONTRACT) == {
        "type": "object",
        "properties": {
            "sentiment": {"type": "string", "enum": ["positive", "neutral", "negative"]},
            "score": {"type": "number"},
            "topics": {"type": "array", "items": {"type": "string"}},
            "reason": {"type": "string", "description": "one sentence"},
        },
        "required": ["sentiment", "score", "topics", "reason"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("x", {"type": "string"}),
        ("x: bool,", {"type": "boolean"}),
        ("x: 1|2|3", {"type": "integer", "enum": [1, 2, 3]}),
        ('x: "very good"|bad', {"type": "string", "enum": ["very good", "bad"]}),
        ('x: "only"', {"type": "string", "enum": ["only"]}),
        ('x?: int "a \\"count\\""', {"type": ["integer", "null"], "description": 'a "count"'}),
        ("x?: a|b", {"type": ["string", "null"], "enum": ["a", "b", None]}),
        ("x: [[N/A|n.a.]]", {"type": "array", "items": {"type": "array", "items": {"type": "string", "enum": ["N/A", "n.a."]}}}),
        ("x: [{n: int, s}]", {"type": "array", "items": parse_fields("n: int, s: str")}),
    ],
)  # fmt: skip
def test_the_types_of_the_short_form(text: str, schema: dict[str, object]) -> None:
    """What each form of a field means."""
    assert parse_fields(text)["properties"] == {"x": schema}


@pytest.mark.parametrize(
    ("text", "at", "reason"),
    [
        ("a: str, score: flaot", 16, "did you mean float?"),
        ("a: str b: int", 8, "a comma is missing before it"),
        ("a: str, a: int", 9, "this field is there twice"),
        ("a: low|low", 8, "this value is there twice"),
        ("a: [str", 8, "] is missing for the [ at 4"),
        ("a: {b: int", 11, "} is missing for the { at 4"),
        ("a:", 3, "a type is expected"),
        (": str", 1, "a field's name is expected"),
        ("", 1, "a field's name is expected"),
        ("2nd: str", 1, "a field's name is expected"),
        ('a: str "open', 8, "never closed"),
        ("a: true|false", 4, "write bool"),
        ("a: complaint", 4, 'write "complaint"'),
        ("a: " + "[" * 11 + "str", 14, "nested more than 10"),
    ],
)
def test_a_fault_of_the_short_form_names_its_place(text: str, at: int, reason: str) -> None:
    """The message has the character, counted from 1, and what is expected there."""
    with pytest.raises(SchemaFormFault, match=f"^character {at}[,:]") as fault:
        parse_fields(text)
    assert reason in str(fault.value)


@given(st.text(alphabet='ab:,|[]{}"? \\x', max_size=25))
def test_any_text_is_a_schema_or_a_fault_with_a_place(text: str) -> None:
    """Nothing else is raised; what comes out is a JSON schema, which a sample answer satisfies."""
    try:
        schema = parse_fields(text)
    except SchemaFormFault as fault:
        if not str(fault).startswith("character "):
            raise
        return
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(sample_object(schema, "7 words"), schema)


@pytest.mark.parametrize(("value", "fields"), [("schema.json", False), ("C:\\x\\s.json", False), ("mood: a|b", True), ("a, b", True), ("folder/schema", False)])  # fmt: skip
def test_a_file_is_told_from_fields(value: str, fields: bool) -> None:
    """A name of a JSON file is a file; what has a colon or a comma is the short form."""
    assert is_short_form(value) == fields


SCHEMA = {
    "$defs": {"level": {"type": "integer"}, "node": {"$ref": "#/$defs/node"}},
    "type": "object",
    "properties": {
        "label": {"enum": ["a", "b"]},
        "score": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "level": {"$ref": "#/$defs/level"},
        "sure": {"type": ["boolean", "null"]},
        "tags": {"type": "array"},
        "any": {},
        "circle": {"$ref": "#/$defs/node"},
        "either": {"type": ["string", "integer"]},
        "both": {"type": ["number", "integer"]},
    },
    "required": ["label"],
}


def test_the_kinds_of_a_schemas_fields() -> None:
    """Text, numbers and booleans are plain, also with null and by reference; all else is JSON."""
    fields = fields_of({"name": "wrapped", "schema": SCHEMA, "strict": True})
    assert fields is not None
    assert dict(zip(fields.names, fields.kinds, strict=True)) == {
        "label": Kind.TEXT,
        "score": Kind.NUMBER,
        "level": Kind.INTEGER,
        "sure": Kind.BOOLEAN,
        "tags": Kind.JSON,
        "any": Kind.JSON,
        "circle": Kind.JSON,
        "either": Kind.JSON,
        "both": Kind.NUMBER,
    }
    for none in (None, {"type": "array"}, {"type": "object"}, {"$ref": "#"}):
        assert fields_of(none) is None


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ('{"n": 2.0, "s": "x", "l": [1]}', [2, "x", [1]]),
        ('```json\n{"n": 1, "s": "x"}\n```', [1, "x", None]),
        ('{"n": null, "s": "x", "more": 1}', [None, "x", None]),
        ('{"n": 2.5, "s": "x"}', None),
        ('{"n": true, "s": "x"}', None),
        ('{"n": 1}', None),
        ('[{"n": 1}]', None),
        ("no JSON", None),
        ("", None),
        (None, None),
    ],
)
def test_the_values_of_an_answer(answer: str | None, values: list[object] | None) -> None:
    """In the schema's order, typed; nothing where the answer does not fit, so no column holds another type."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}, "l": {"type": "array"}}}  # fmt: skip
    fields = fields_of({**schema, "required": ["n", "s"]})
    assert fields is not None
    assert fields.values(answer) == values
    empty = [None] * 3
    assert fields.values_of({"answer": answer, "error": None}) == (values or empty)
    assert fields.values_of({"answer": answer, "error": "schema: n: too big"}) == empty


def test_whole_numbers_keep_every_digit() -> None:
    """An integer of 64 bits is not rounded on its way through the fields."""
    fields = fields_of(parse_fields("n: int"))
    assert fields is not None
    assert fields.values(orjson.dumps({"n": 2**63 - 1}).decode()) == [2**63 - 1]
