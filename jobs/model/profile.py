"""The profile: an assistant's definition as a person writes it, checked, and frozen into each batch.

A profile file is TOML with these fields; the options of `run`, `submit` and `estimate` override it.
What the API makes of it (ids of files, a vector store, an assistant) is kept apart, in `Resources`.
Limits are OpenAI's own (its OpenAPI description, `CreateAssistantRequest` and `CreateRunRequest`).
"""

import hashlib
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

Tool = Literal["code_interpreter", "file_search", "web_search"]
TokenLimit = Annotated[int, Field(ge=256)]


class Frozen(BaseModel):
    """No unknown fields, no change after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FunctionTool(Frozen):
    """A Python function the model may call: its name, its description, its JSON schema. Never its code."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Functions(Frozen):
    """The module that holds the functions; the workers import it and refuse one whose hash differs."""

    module: str
    sha256: str
    tools: tuple[FunctionTool, ...]


class OpeningMessage(Frozen):
    """A message that stands on every thread before the question."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(min_length=1, max_length=256_000)]


class FileSearch(Frozen):
    """Options of the `file_search` tool."""

    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None


class Profile(Frozen):
    """The assistant's definition. `model` None means the model of the settings, put in at submit."""

    name: Annotated[str, Field(max_length=256)] | None = None
    description: Annotated[str, Field(max_length=512)] | None = None
    model: str | None = None
    instructions: Annotated[str, Field(max_length=256_000)] | None = None
    tools: tuple[Tool, ...] = ()
    functions: Functions | None = None
    files: tuple[str, ...] = ()
    file_search: FileSearch = FileSearch()
    image_detail: Literal["auto", "low", "high"] = "auto"
    max_prompt_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    truncation: Annotated[str, Field(pattern=r"^(auto|disabled|last_messages:[1-9]\d*)$")] | None = None
    response_schema: dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    messages: tuple[OpeningMessage, ...] = ()
    assistant_id: str | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    completion_window: Literal["soonest", "2h", "8h"] | None = None

    def frozen_json(self) -> bytes:
        """The profile as it is stored and hashed: sorted keys, without what was not said."""
        return orjson.dumps(self.model_dump(exclude_defaults=True), option=orjson.OPT_SORT_KEYS)

    def sha256(self) -> str:
        """Names this definition: equal for equal content, whatever file it came from."""
        return hashlib.sha256(self.frozen_json()).hexdigest()


IMAGE = "image:"
"""Before the path of a row's image in `Resources.row_files`: the same file may be attached too."""


class Resources(Frozen):
    """What the client made at the API for a batch before its first row: ids only."""

    code_interpreter_files: tuple[str, ...] = ()
    vector_store_id: str | None = None
    vector_store_files: tuple[str, ...] = ()
    """The ids of its files: what it takes to make it again."""
    row_files: dict[str, str] = Field(default_factory=dict)
    """Files and local images named by rows (`--override file`, `image`): path as written → file id.

    The path of an image stands behind `IMAGE`.
    """
