"""The description of the API: the form of `submit` from the command's options, and the page at /api/docs.

FastAPI's own documentation page loads scripts from another host, so this one is rendered here.
"""

from typing import Any

import click
import orjson

from askmill.web.http.problems import MEDIA_TYPE
from askmill.web.uploads.forms import ATTACHMENTS, FILE, FILES, UPLOADED_OPTIONS, field_name, form_options

UPLOAD = {"type": "string", "format": "binary"}
UPLOADS = {"type": "array", "items": UPLOAD}
TYPES = {"integer": "integer", "integer range": "integer", "float": "number", "boolean": "boolean"}


def form_schema() -> dict[str, Any]:
    """Return the JSON schema of the form of `POST /api/batches`."""
    fields: dict[str, Any] = {FILE: {**UPLOAD, "description": "The file of questions."}}
    for option in form_options():
        if (option.name or "") in UPLOADED_OPTIONS:
            fields[str(option.name)] = {**UPLOAD, "description": option.help}
        elif option.name == FILES:
            fields[FILES] = {**UPLOADS, "description": "Files for the tools."}
        else:
            fields[field_name(option)] = _field(option)
    fields[ATTACHMENTS] = {**UPLOADS, "description": "Images and files that rows name (`override`)."}
    return {"type": "object", "required": [FILE], "properties": fields}


def _field(option: click.Option) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "boolean" if option.is_flag else TYPES.get(option.type.name, "string")}
    if isinstance(option.type, click.Choice):
        schema["enum"] = [str(choice) for choice in option.type.choices]
    if option.multiple:
        schema = {"type": "array", "items": schema}
    return {**schema, "description": option.help or ""}


def complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the description with the form, the security scheme and problem details as their media type."""
    submit = schema["paths"]["/api/batches"]["post"]
    submit["requestBody"] = {
        "required": True,
        "content": {"multipart/form-data": {"schema": form_schema()}},
    }
    schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"token": []}]
    for operation in _operations(schema):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                response["content"].pop("application/json", None)
                reference = {"$ref": "#/components/schemas/ProblemDetails"}
                response["content"] = {MEDIA_TYPE: {"schema": reference}}
    return schema


def _operations(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in schema["paths"].values() for operation in methods.values()]


def context(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what the page at /api/docs shows."""
    operations = [
        {
            "method": method.upper(),
            "path": path,
            "id": operation["operationId"],
            "summary": operation["summary"],
            "description": operation.get("description", ""),
            "parameters": operation.get("parameters", []),
            "fields": _fields(operation),
            "responses": operation["responses"],
        }
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = {
        name: orjson.dumps(model, option=orjson.OPT_INDENT_2).decode()
        for name, model in schema["components"]["schemas"].items()
    }
    return {"operations": operations, "schemas": schemas, "version": schema["info"]["version"]}


def _fields(operation: dict[str, Any]) -> dict[str, Any]:
    """The form fields of an operation by name."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        fields = content["schema"].get("properties", {})
        return dict(fields)
    return {}
