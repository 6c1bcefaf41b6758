"""Validation of request bodies: fields, types and limits, with the API's own messages.

A shape is a dictionary of field → `Rule`. Nested values are checked only where it matters.
Limits are those of OpenAI's API description.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from askmill.emulator.protocol.routing import ApiError, Json

_TYPE_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One field. `kinds` are JSON types (float takes integers too); `low`/`high` bound numbers or lengths."""

    kinds: tuple[type, ...]
    required: bool = False
    null: bool = True
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    inside: Callable[[Any, str], None] | None = None


Shape = dict[str, Rule]


def check(body: Json, shape: Shape, at: str = "") -> Json:
    """The body itself, when it satisfies the shape; else ApiError 400 naming the field."""
    for name in body:
        if name not in shape:
            raise bad_field(f"Unknown parameter: '{at}{name}'.", at + name, "unknown_parameter")
    for name, rule in shape.items():
        if name not in body:
            if rule.required:
                raise bad_field(
                    f"Missing required parameter: '{at}{name}'.", at + name, "missing_required_parameter"
                )
        elif body[name] is not None or not rule.null:
            _check_value(body[name], rule, at + name)
    return body


def bad_field(message: str, param: str, code: str) -> ApiError:
    """A 400 about one field."""
    return ApiError(400, message, param=param, code=code)


def out_of_bounds(name: str, fault: str, expected: str, value: float) -> ApiError:
    """A number that is too small or too big: `fault` is `integer below minimum`, `decimal above maximum` …"""
    code = fault.replace(" minimum", "_min_value").replace(" maximum", "_max_value").replace(" ", "_")
    return bad_field(_limit_message(name, f"{fault} value", f"a value {expected}", str(value)), name, code)


def _check_value(value: Any, rule: Rule, name: str) -> None:
    if not _is_kind(value, rule.kinds):
        expected = " or ".join(_TYPE_NAMES[kind] for kind in rule.kinds)
        got = "null" if value is None else _TYPE_NAMES[type(value)]
        message = f"Invalid type for '{name}': expected {expected}, but got {got} instead."
        raise bad_field(message, name, "invalid_type")
    if rule.values and isinstance(value, str) and value not in rule.values:
        raise bad_field(
            f"Invalid value: '{value}'. Supported values are: {_join_values(rule.values)}.",
            name,
            "invalid_value",
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, rule, name)
    elif isinstance(value, str | list | dict):
        _check_length(value, rule, name)
    if rule.inside is not None:
        rule.inside(value, name)


def _is_kind(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def _check_number(value: float, rule: Rule, name: str) -> None:
    word = "decimal" if float in rule.kinds else "integer"
    if rule.low is not None and value < rule.low:
        raise out_of_bounds(name, f"{word} below minimum", f">= {rule.low:g}", value)
    if rule.high is not None and value > rule.high:
        raise out_of_bounds(name, f"{word} above maximum", f"<= {rule.high:g}", value)


def _check_length(value: str | list[Any] | Json, rule: Rule, name: str) -> None:
    if rule.low and not value and isinstance(value, list):
        expected = f"an array with minimum length {rule.low:g}"
        raise bad_field(_limit_message(name, "empty array", expected, "an empty array"), name, "empty_array")
    if rule.high is None or len(value) <= rule.high:
        return
    most = f"{rule.high:.0f}"
    if isinstance(value, dict):
        expected, got = f"an object with at most {most} properties", f"an object with {len(value)} properties"
        message = _limit_message(name, "too many properties", expected, got)
        raise bad_field(message, name, "object_above_max_properties")
    word = "string" if isinstance(value, str) else "array"
    article = _TYPE_NAMES[type(value)]
    expected, got = f"{article} with maximum length {most}", f"{article} with length {len(value)}"
    raise bad_field(_limit_message(name, f"{word} too long", expected, got), name, f"{word}_above_max_length")


def _limit_message(name: str, fault: str, expected: str, got: str) -> str:
    return f"Invalid '{name}': {fault}. Expected {expected}, but got {got} instead."


def _join_values(values: tuple[str, ...]) -> str:
    quoted = [f"'{value}'" for value in values]
    return (
        quoted[0]
        if len(quoted) == 1
        else f"{', '.join(quoted[:-1])}{',' if len(quoted) > 2 else ''} and {quoted[-1]}"
    )


def _check_metadata(value: Json, name: str) -> None:
    for key, text in value.items():
        _check_value(key, Rule((str,), high=64), f"{name}.{key}")
        _check_value(text, Rule((str,), null=False, high=512), f"{name}.{key}")


def each(rule: Rule) -> Callable[[list[Any], str], None]:
    """Every element of an array must satisfy the rule."""

    def check_elements(values: list[Any], name: str) -> None:
        for i, value in enumerate(values):
            _check_value(value, rule, f"{name}[{i}]")

    return check_elements


def object_of(shape: Shape) -> Callable[[Any, str], None]:
    """An object must satisfy the shape; values of other kinds pass."""

    def check_object(value: Any, name: str) -> None:
        if isinstance(value, dict):
            check(value, shape, f"{name}.")

    return check_object


TEXT = Rule((str,))
FLAG = Rule((bool,))
ANY_OBJECT = Rule((dict,))
METADATA = Rule((dict,), high=16, inside=_check_metadata)
INSTRUCTIONS = Rule((str,), high=256_000)
TEMPERATURE = Rule((float,), low=0, high=2)
TOP_P = Rule((float,), low=0, high=1)
FORMAT = Rule((str, dict))
EFFORT = Rule((str,), values=("none", "minimal", "low", "medium", "high", "xhigh", "max"))
