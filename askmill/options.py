"""The options of `run` and `submit`, as keywords with types, and as words of the command line."""

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict

Tool = Literal["code_interpreter", "file_search", "web_search"]


class Options(TypedDict, total=False):
    """What `askmill submit --help` lists, by the same names; a test holds the two equal.

    Different are only `overrides`, `tools` and `files`, lists of what `--override`, `--tool` and `--file`
    take one by one, and those with a unit in their name: `deadline_s` (seconds), `budget_usd` (US dollars).
    """

    question_column: str
    template: str
    id_column: str
    conversation_column: str
    overrides: Sequence[str]
    delimiter: str
    encoding: str
    skip_bad_rows: bool
    limit: int
    profile: str | PathLike[str]
    assistant_id: str
    model: str
    instructions: str
    temperature: float
    top_p: float
    reasoning_effort: str
    tools: Sequence[Tool]
    functions: str | PathLike[str]
    files: Sequence[str | PathLike[str]]
    max_prompt_tokens: int
    max_completion_tokens: int
    truncation: str
    response_schema: str | PathLike[str]
    on_incomplete: Literal["keep", "raise-limit", "continue"]
    attempts: int
    deadline_s: float
    budget_usd: float
    name: str
    new: bool
    reuse_answers: bool
    trust_env_file: bool


FLAGS = {
    "overrides": "--override",
    "tools": "--tool",
    "files": "--file",
    "deadline_s": "--deadline",
    "budget_usd": "--budget",
}
"""Where the flag is not the keyword's own name."""


def words_of(options: Options) -> Iterator[str]:
    """`--model=gpt-6-luna`, `--new`, …: what was given, None and False left out."""
    given: dict[str, Any] = {**options}
    for name, value in given.items():
        flag = FLAGS.get(name) or f"--{name.replace('_', '-')}"
        if value is True:
            yield flag
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from (f"{flag}={one}" for one in value)
        elif value is not None and value is not False:
            yield f"{flag}={value}"
