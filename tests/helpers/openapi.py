"""Checks requests and answers against OpenAI's own API description (../shared/data/openai-openapi.yaml).

    validate_request("POST", "/threads/runs", body)
    validate_response("GET", "/threads/thread_1/runs/run_1", 200, body)

Both raise AssertionError naming the place and the fault. Paths are without `/v1`, with real ids. Two readings of
the description: leftover `nullable: true` (OpenAPI 3.0) means "or null", and `oneOf` means `anyOf`, because its
unions overlap (a plain message is an EasyInputMessage and an InputMessage).
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

DESCRIPTION = Path(__file__).resolve().parents[3] / "shared" / "data" / "openai-openapi.yaml"
# The same description, cut to `POST /chat/completions`, which the other one lacks.
CHAT_DESCRIPTION = DESCRIPTION.with_name("openai-openapi-chat.json")
# The same, cut to `/batches`.
BATCH_DESCRIPTION = DESCRIPTION.with_name("openai-openapi-batches.json")
ADDRESS = "urn:openai"

needs_description = [
    pytest.mark.shared,
    pytest.mark.skipif(not DESCRIPTION.exists(), reason=f"OpenAI's API description is not at {DESCRIPTION}"),
]

needs_chat_description = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not (DESCRIPTION.exists() and CHAT_DESCRIPTION.exists()),
        reason=f"OpenAI's API description of chat completions is not at {CHAT_DESCRIPTION}",
    ),
]

needs_batch_description = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not (DESCRIPTION.exists() and BATCH_DESCRIPTION.exists()),
        reason=f"OpenAI's API description of batches is not at {BATCH_DESCRIPTION}",
    ),
]


def validate_request(method: str, path: str, body: Any) -> None:
    """The body must be one that the API describes for this call."""
    operation = _operation(method, path)
    content = operation["requestBody"]["content"]["application/json"]
    _validate(content["schema"], body, f"{method} {path}: request")


def validate_response(method: str, path: str, status: int, body: Any) -> None:
    """The body must be one that the API describes for this call; errors have the one shape of all errors."""
    if status >= 400:
        _validate({"$ref": "#/components/schemas/Error"}, body["error"], f"{method} {path}: error")
        return
    described = _operation(method, path)["responses"][str(status)].get("content", {})
    if schema := described.get("application/json", {}).get("schema"):
        _validate(schema, body, f"{method} {path}: answer")


def validate_event(method: str, path: str, event: Any) -> None:
    """The data of a server-sent event must be what the API describes for this call."""
    described = _operation(method, path)["responses"]["200"]["content"]["text/event-stream"]
    _validate(described["schema"], event, f"{method} {path}: event")


def validate_schema(name: str, body: Any) -> None:
    """The body must be an object of the named schema."""
    _validate({"$ref": f"#/components/schemas/{name}"}, body, name)


def _operation(method: str, path: str) -> dict[str, Any]:
    parts = path.split("?", maxsplit=1)[0].split("/")
    for template, operations in _description()["paths"].items():
        names = template.split("/")
        if len(names) == len(parts) and all(
            n == p or n.startswith("{") for n, p in zip(names, parts, strict=True)
        ):
            if method.lower() not in operations or (template.count("{") and path in _description()["paths"]):
                continue
            operation: dict[str, Any] = operations[method.lower()]
            return operation
    raise AssertionError(f"OpenAI's description has no {method} {path}")


def _validate(schema: dict[str, Any], body: Any, what: str) -> None:
    absolute = _absolute(schema)
    validator = jsonschema.Draft202012Validator(absolute, registry=_registry())
    error = jsonschema.exceptions.best_match(validator.iter_errors(body))
    assert error is None, f"{what}: at {error.json_path}: {error.message}"


@cache
def _description() -> dict[str, Any]:
    whole = yaml.load(DESCRIPTION.read_text("utf-8"), Loader=yaml.CSafeLoader)
    for path in (CHAT_DESCRIPTION, BATCH_DESCRIPTION):
        if path.exists():
            part = json.loads(path.read_text("utf-8"))
            whole["paths"] = part["paths"] | whole["paths"]
            whole["components"]["schemas"] = part["components"]["schemas"] | whole["components"]["schemas"]
    read: dict[str, Any] = _readable(whole)
    return read


@cache
def _registry() -> Any:
    resource = Resource.from_contents(_description(), default_specification=DRAFT202012)
    return Registry().with_resource(ADDRESS, resource)


def _absolute(schema: Any) -> Any:
    """Local references, made to point into the description."""
    if isinstance(schema, list):
        return [_absolute(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        k: f"{ADDRESS}{v}" if k == "$ref" and v.startswith("#") else _absolute(v) for k, v in schema.items()
    }


def _readable(node: Any) -> Any:
    if isinstance(node, list):
        return [_readable(one) for one in node]
    if not isinstance(node, dict):
        return node
    read = {("anyOf" if k == "oneOf" and "anyOf" not in node else k): _readable(v) for k, v in node.items()}
    nullable = read.pop("nullable", False)
    parts = read.get("allOf", [])
    if {} in parts and len(parts) > 1:
        # `allOf: [X, {nullable: true}]`, of which the second has just become `{}`.
        return {"anyOf": [{**read, "allOf": [part for part in parts if part != {}]}, {"type": "null"}]}
    return {"anyOf": [read, {"type": "null"}]} if nullable is True and read else read


def described_schema(reference: str) -> Any:
    """The schema that a local reference such as `#/components/schemas/RunObject` names."""
    node: Any = _description()
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node
