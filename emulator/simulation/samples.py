"""Sample data: values that satisfy or violate a JSON schema, and a picture."""

import base64
from typing import Any

# One grey pixel.
CHART_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)

Schema = dict[str, Any]


def sample_object(schema: Schema, text: str) -> Any:
    """A small value that satisfies the schema; a free string in it holds `text`.

    Knows what structured outputs allow: type, properties, required, items, enum, const, anyOf, $ref, bounds.
    """
    return _Sampler(schema, text).value(schema)


def invalid_object(schema: Schema | None) -> str:
    """JSON text that misses the schema: a required property is not there."""
    required = (schema or {}).get("required") or []
    return '{"unexpected": true}' if required else '["unexpected"]'


class _Sampler:
    def __init__(self, root: Schema, text: str) -> None:
        self._root = root
        self._text = text

    def value(self, schema: Schema) -> Any:
        if "$ref" in schema:
            return self.value(self._target(schema["$ref"]))
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        for union in ("anyOf", "oneOf", "allOf"):
            if schema.get(union):
                return self.value(schema[union][0])
        return self._typed(schema)

    def _typed(self, schema: Schema) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null")
        match kind:
            case "object":
                properties = schema.get("properties", {})
                required = schema.get("required", list(properties))
                return {name: self.value(properties.get(name, {})) for name in required}
            case "array":
                return [self.value(schema.get("items", {})) for _ in range(schema.get("minItems", 1))]
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(schema)
            case "boolean":
                return True
            case _:
                return None

    def _string(self, schema: Schema) -> str:
        formats = {
            "date": "2026-01-01",
            "date-time": "2026-01-01T00:00:00Z",
            "time": "00:00:00Z",
            "email": "a@example.org",
            "uuid": "00000000-0000-4000-8000-000000000000",
        }
        text: str = formats.get(schema.get("format", ""), self._text)
        return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")

    def _number(self, schema: Schema) -> float:
        if "minimum" in schema:
            return float(schema["minimum"]) if schema.get("type") == "number" else int(schema["minimum"])
        low = schema.get("exclusiveMinimum")
        high = schema.get("maximum", schema.get("exclusiveMaximum", 2) - 1)
        return int(low) + 1 if low is not None else min(0, int(high))

    def _target(self, ref: str) -> Schema:
        target: Any = self._root
        for part in ref.removeprefix("#").strip("/").split("/"):
            target = target[part] if part else target
        assert isinstance(target, dict)
        return target
