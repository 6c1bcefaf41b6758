"""Sample data: values that satisfy or violate a JSON schema, and a picture."""

import base64
import math
import re
import zlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

# One grey pixel.
CHART_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)

Schema = dict[str, Any]
MAX_DEPTH = 6
"""Below it a recursive schema gets null or an empty list, where it allows them."""
FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT1H",
    "email": "a@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def sample_object(schema: Schema, text: str, question: str = "") -> Any:
    """A small value that satisfies the schema; a free string in it holds `text`, a free number its last one.

    Of several values (enum, boolean, a range) it takes one that the question names, else one that depends on
    the question alone. Knows what structured outputs allow: type, properties, required, items, enum, const,
    anyOf, allOf, $ref, bounds and lengths. Of `pattern` it knows nothing.
    """
    return _Sampler(schema, text, question).value(schema)


def invalid_object(schema: Schema | None) -> str:
    """JSON text that misses the schema: a required property is not there."""
    required = (schema or {}).get("required") or []
    return '{"unexpected": true}' if required else '["unexpected"]'


class _Sampler:
    def __init__(self, root: Schema, text: str, question: str) -> None:
        self._root, self._text = root, text
        self._question = question.casefold()
        self._seed = zlib.crc32(question.encode("utf-8", "replace"))
        self._depth = 0

    def value(self, schema: Schema, variant: int = 0) -> Any:
        """A value; another `variant` gives another one, where the schema has several."""
        self._depth += 1
        try:
            return self._value(schema, variant)
        finally:
            self._depth -= 1

    def _value(self, schema: Schema, variant: int) -> Any:
        if "$ref" in schema:
            return self.value(self._target(schema["$ref"]), variant)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choice(schema["enum"], variant)
        for union in ("anyOf", "oneOf"):
            if schema.get(union):
                return self.value(self._branch(schema[union]), variant)
        if schema.get("allOf"):
            return self.value(_merged([schema, *schema["allOf"]]), variant)
        return self._typed(schema, variant)

    def _choice(self, values: Sequence[Any], variant: int) -> Any:
        named = [value for value in values if isinstance(value, str) and value.casefold() in self._question]
        first = values.index(named[0]) if named and self._question else self._seed % len(values)
        return values[(first + variant) % len(values)]

    def _branch(self, schemas: list[Schema]) -> Schema:
        nulls = [schema for schema in schemas if schema.get("type") == "null"]
        return nulls[0] if nulls and self._depth > MAX_DEPTH else schemas[0]

    def _typed(self, schema: Schema, variant: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            may_end = "null" in kind and self._depth > MAX_DEPTH
            kind = "null" if may_end else next((name for name in kind if name != "null"), "null")
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string":
                return self._string(schema, variant)
            case "integer" | "number":
                return self._number(schema, variant, is_integer=kind == "integer")
            case "boolean":
                return (self._seed + variant) % 2 == 0
            case _:
                return None

    def _object(self, schema: Schema) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", () if self._depth > MAX_DEPTH else list(properties))
        return {name: self.value(properties.get(name, {})) for name in required}

    def _array(self, schema: Schema) -> list[Any]:
        fixed = [self.value(item) for item in schema.get("prefixItems", ())]
        least = schema.get("minItems", 0)
        wanted = max(least, 0 if self._depth > MAX_DEPTH else 1)
        count = min(wanted, schema.get("maxItems", wanted))
        vary = bool(schema.get("uniqueItems"))
        items = schema.get("items", {})
        rest = [self.value(items, index if vary else 0) for index in range(count - len(fixed))]
        return [*fixed, *rest] if items is not False else fixed

    def _string(self, schema: Schema, variant: int) -> str:
        text = FORMATS.get(schema.get("format", ""), self._text)
        text = f"{variant + 1} {text}" if variant else text
        return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")

    def _number(self, schema: Schema, variant: int, *, is_integer: bool) -> float:
        """The text's last number, else 0, else a number in the bounds that depends on the question."""
        step = Fraction(str(schema.get("multipleOf", 1 if is_integer else 0)))
        low, high = _bounds(schema, step or Fraction(1, 2))
        if is_integer:
            step = max(step, Fraction(1)) if step.denominator == 1 else Fraction(step.numerator)
        numbers = _NUMBER.findall(self._text)
        wanted = Fraction(numbers[-1]) if numbers else Fraction(0)
        if low is not None and high is not None:
            wanted = low + (high - low) * Fraction(self._seed % 97, 96)
        if step:
            wanted = round(wanted / step) * step
            low = None if low is None else math.ceil(low / step) * step
            high = None if high is None else math.floor(high / step) * step
        wanted += variant * (step or 1)
        wanted = wanted if high is None else min(wanted, high)
        wanted = wanted if low is None else max(wanted, low)
        return int(wanted) if wanted.denominator == 1 else float(wanted)

    def _target(self, ref: str) -> Schema:
        target: Any = self._root
        for part in ref.removeprefix("#").strip("/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")] if part else target
        assert isinstance(target, dict)
        return target


def _bounds(schema: Schema, gap: Fraction) -> tuple[Fraction | None, Fraction | None]:
    """The lowest and the highest number to take; `gap`: how far from an exclusive bound."""
    lows = [Fraction(str(schema["minimum"]))] if "minimum" in schema else []
    highs = [Fraction(str(schema["maximum"]))] if "maximum" in schema else []
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        gap = min(gap, (Fraction(str(high)) - Fraction(str(low))) / 4)
    lows += [] if low is None else [Fraction(str(low)) + gap]
    highs += [] if high is None else [Fraction(str(high)) - gap]
    return max(lows, default=None), min(highs, default=None)


def _merged(schemas: list[Schema]) -> Schema:
    """One schema for `allOf`: properties and required names of all, of other words the last."""
    merged: Schema = {}
    for schema in schemas:
        properties = {**merged.get("properties", {}), **schema.get("properties", {})}
        required = [*merged.get("required", ()), *schema.get("required", ())]
        merged |= {name: value for name, value in schema.items() if name != "allOf"}
        merged |= {"properties": properties} if properties else {}
        merged |= {"required": list(dict.fromkeys(required))} if required else {}
    return merged
