"""The reference of the profile file, from the JSON schema of a profile and the checks of each API."""

from collections.abc import Iterator
from typing import Any, get_args

import click
from markdown_table import table

from askmill.jobs.cli.root import askmill
from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import Functions, FunctionTool, OpeningMessage, Profile
from askmill.jobs.openai_client.capabilities import unsupported
from askmill.jobs.submit.profile_loader import profile_schema

API_NAMES: dict[Api, str] = {"assistants": "Assistants", "responses": "Responses", "chat": "chat"}
FUNCTIONS = Functions(module="lookup.py", sha256="", tools=(FunctionTool(name="lookup"),))
MESSAGE = OpeningMessage(role="user", content="Hello")
SAMPLES: dict[str, list[dict[str, Any]]] = {
    "tools": [{"tools": (tool,)} for tool in ("code_interpreter", "file_search", "web_search")],
    "functions": [{"functions": FUNCTIONS}],
    "files": [{"files": ("a.png",), "tools": ("code_interpreter",)}, {"files": ("a.png",)}],
    "file_search": [{"file_search": {"max_num_results": 5}, "tools": ("file_search",)}],
    "max_prompt_tokens": [{"max_prompt_tokens": 1000}],
    "max_completion_tokens": [{"max_completion_tokens": 1000}, {"max_completion_tokens": 1}],
    "truncation": [{"truncation": how} for how in ("auto", "disabled", "last_messages:2")],
    "metadata": [{"metadata": {str(number): "" for number in range(most)}} for most in (1, 14)],
    "messages": [{"messages": (MESSAGE,) * number} for number in (1, 32)],
    "assistant_id": [{"assistant_id": "asst_1"}],
    "service_tier": [{"service_tier": tier} for tier in ("default", "flex")],
    "completion_window": [{"completion_window": "8h"}, {"completion_window": "8h", "service_tier": "flex"}],
    "stream": [{"stream": False}],
    "first_byte_s": [{"first_byte_s": 1}],
    "idle_s": [{"idle_s": 1}],
    "token_limit_name": [{"token_limit_name": "max_tokens"}],
    "extra_body": [{"extra_body": {"top_k": 1}}, {"extra_body": {"n": 1}}],
}
"""Values that some API may lack, by field. An API has a field if it takes one of them."""
BOUNDS = (
    ("minimum", "at least {:,}"),
    ("exclusiveMinimum", "above {:,}"),
    ("maximum", "at most {:,}"),
    ("maxLength", "at most {:,} characters"),
)
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}


def profile_lines() -> Iterator[str]:
    """Yield the lines of the page."""
    schema = profile_schema()
    yield "A profile is a TOML file with these keys, all of them optional: `--profile FILE.toml`, in Python"
    yield "`profile=` with its path or a dict. Options of the command line override it, and so do"
    yield "[columns](input.md) for their row. An unknown key, a wrong type and a value out of bounds are"
    yield "refused before anything is stored, all at once. `examples/everything.toml` is a profile, and"
    yield "`examples/profile.schema.json` lets an editor check one."
    yield ""
    rows = [_row(name, field, schema) for name, field in schema["properties"].items()]
    yield from table(("key", "type and bounds", "default", "APIs", "option", "meaning"), rows)
    for key, definition in (("file_search", "FileSearch"), ("messages", "OpeningMessage")):
        yield f"## Keys of `{key}`"
        yield ""
        fields = schema["$defs"][definition]["properties"]
        head = "each `[[messages]]`" if key == "messages" else "`[file_search]`"
        yield f"In {head}:"
        yield ""
        inner = ((f"`{name}`", _type(field, schema), field["description"]) for name, field in fields.items())
        yield from table(("key", "type and bounds", "meaning"), inner)
    yield "## What an API refuses"
    yield ""
    yield "`submit` names the key and the reason, and an API that can. With chat completions, servers differ"
    yield "in what they ignore ([the APIs](../apis.md#the-profile))."
    yield ""
    yield from table(("API", "reason"), _refusals())


def _row(name: str, field: dict[str, Any], schema: dict[str, Any]) -> tuple[str, ...]:
    assert name in SAMPLES or not _lacking(name), name
    default = field.get("default")
    shown = "" if default in (None, []) or isinstance(default, dict) else f"`{str(default).lower()}`"
    return (f"`{name}`", _type(field, schema), shown, _apis(name), _option(name), field["description"])


def _type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    shape = next((one for one in field.get("anyOf", ()) if one["type"] != "null"), field)
    if "enum" in shape:
        return "one of " + ", ".join(f"`{word}`" for word in shape["enum"])
    if "pattern" in shape:  # only `truncation` has one
        return "`auto`, `disabled` or `last_messages:N`"
    if "$ref" in shape or shape["type"] == "object":
        return "table"
    if isinstance(shape["type"], list):
        return "text or table"
    if shape["type"] == "array":
        items = shape["items"]
        return "list of " + ("tables" if "$ref" in items else _type(items, schema).removeprefix("one of "))
    bounds = [text.format(shape[key]) for key, text in BOUNDS if key in shape]
    return ", ".join([TYPES[shape["type"]], *bounds])


def _lacking(name: str) -> list[Api]:
    samples = [Profile.model_validate(sample) for sample in SAMPLES.get(name, ())]
    return [api for api in get_args(Api) if samples and all(unsupported(sample, api) for sample in samples)]


def _apis(name: str) -> str:
    lacking = _lacking(name)
    having = [shown for api, shown in API_NAMES.items() if api not in lacking]
    return ", ".join(having) if lacking else "all"


def _option(name: str) -> str:
    command = askmill.get_command(click.Context(askmill), "submit")
    assert command is not None
    names = {"service_tier": "tier"}
    options = (option.opts[0] for option in command.params if option.name == names.get(name, name))
    # The batch has a name of its own, by another option of that name.
    return next((f"`{option}`" for option in options if name != "name"), "")


def _refusals() -> Iterator[tuple[str, str]]:
    for api, shown in API_NAMES.items():
        samples = [Profile.model_validate(sample) for fields in SAMPLES.values() for sample in fields]
        for reason in dict.fromkeys(reason for sample in samples for reason in unsupported(sample, api)):
            yield shown, reason
