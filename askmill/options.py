"""The options of `run` and `submit`: typed keyword arguments, and their form on the command line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from pydantic import BaseModel

Tool = Literal["code_interpreter", "file_search", "web_search"]
Tier = Literal["standard", "flex", "priority", "batch"]


class Options(TypedDict, total=False):
    """The options that `askmill submit --help` lists, under the same names; a test compares both.

    `overrides`, `tools` and `files` are lists of the values that `--override`, `--tool` and `--file` take one
    by one; `deadline_s` (seconds) and `budget_usd` (US dollars) have a unit in their name. `profile` may be a
    mapping with the fields of a profile file. `response_schema` may be a JSON schema as a mapping, or a
    pydantic model: `Row.parsed` is then an instance of it. `functions` may be functions of one importable
    module.
    """

    question_column: str
    template: str
    id_column: str
    conversation_column: str
    overrides: Sequence[str]
    delimiter: str
    encoding: str
    quoting: Literal["csv", "none", "backslash"]
    sheet: str
    skip_bad_rows: bool
    limit: int
    profile: str | PathLike[str] | Mapping[str, Any]
    assistant_id: str
    model: str
    instructions: str
    temperature: float
    top_p: float
    reasoning_effort: str
    tools: Sequence[Tool]
    functions: "str | PathLike[str] | Sequence[Callable[..., Any]]"
    files: Sequence[str | PathLike[str]]
    max_prompt_tokens: int
    max_completion_tokens: int
    truncation: str
    tier: Tier
    response_schema: "str | PathLike[str] | Mapping[str, Any] | type[BaseModel]"
    on_incomplete: Literal["keep", "raise-limit", "continue"]
    on_unknown: Literal["again", "stop"]
    tier_fallback: Literal["standard"]
    attempts: int
    deadline_s: float
    budget_usd: float
    name: str
    new: bool
    idempotency_key: str
    reuse_answers: bool
    expected: str
    match: str
    trust_env_file: bool


FLAGS = {
    "overrides": "--override",
    "tools": "--tool",
    "files": "--file",
    "deadline_s": "--deadline",
    "budget_usd": "--budget",
}
"""Keyword → flag, where the flag does not follow from the keyword."""


def to_argv(options: Mapping[str, Any]) -> Iterator[str]:
    """The options as arguments of the command line: `--model=gpt-6-luna`, `--new`, … Omits None and False."""
    for name, value in options.items():
        flag = FLAGS.get(name) or f"--{name.replace('_', '-')}"
        if value is True:
            yield flag
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from (f"{flag}={item}" for item in value)
        elif value is not None and value is not False:
            yield f"{flag}={value}"
