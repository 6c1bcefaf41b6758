"""The profile: the user's definition of an assistant, validated and stored with each batch.

A profile file is TOML with these fields; the options of `run`, `submit` and `estimate` override it. The
ids of objects created at the API for it (files, a vector store) are stored separately, in `Resources`. The
limits are OpenAI's (its OpenAPI description, `CreateAssistantRequest` and `CreateRunRequest`).
"""

import hashlib
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from askmill.jobs.model.models import Api
from askmill.jobs.model.tiers import ServiceTier, tier_of

Tool = Literal["code_interpreter", "file_search", "web_search"]
MIN_COMPLETION_TOKENS: dict[Api, int] = {"assistants": 256, "responses": 16, "chat": 1}
"""Each API's own minimum (OpenAPI: `CreateRunRequest`; `max_output_tokens` of `CreateResponse`)."""


class Frozen(BaseModel):
    """Base model: immutable, unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FunctionTool(Frozen):
    """A Python function that the model may call: name, description and JSON schema, never the code."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Functions(Frozen):
    """The module with the functions. Workers import it and refuse a module with another hash."""

    module: str
    sha256: str
    tools: tuple[FunctionTool, ...]


class OpeningMessage(Frozen):
    """A message at the start of every thread, before the question."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(min_length=1, max_length=256_000)]


class FileSearch(Frozen):
    """Options of the `file_search` tool."""

    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None


class Profile(Frozen):
    """The assistant's definition. If `model` is None, submit fills in the model of the settings.

    Chat completions only: `stream`, `first_byte_s` (until the first byte of a reply), `idle_s` (between two
    bytes), `token_limit_name` (the field that carries `max_completion_tokens`), and `extra_body`, further
    fields of each request.
    """

    name: Annotated[str, Field(max_length=256)] | None = None
    description: Annotated[str, Field(max_length=512)] | None = None
    model: str | None = None
    instructions: Annotated[str, Field(max_length=256_000)] | None = None
    tools: tuple[Tool, ...] = ()
    functions: Functions | None = None
    files: tuple[str, ...] = ()
    file_search: FileSearch = FileSearch()
    image_detail: Literal["auto", "low", "high"] = "auto"
    max_prompt_tokens: Annotated[int, Field(ge=256)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
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
    service_tier: ServiceTier | None = None
    completion_window: Literal["soonest", "2h", "8h"] | None = None
    stream: bool = True
    first_byte_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    idle_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    token_limit_name: Literal["max_tokens", "max_completion_tokens"] | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @property
    def tier_name(self) -> str:
        """The tier asked for, by our name: `standard`, `flex`, `priority`, `batch`, `8h window`."""
        if self.completion_window in {"2h", "8h"}:
            return f"{self.completion_window} window"
        return tier_of(self.service_tier)

    def frozen_json(self) -> bytes:
        """The profile as it is stored and hashed: sorted keys, without defaults."""
        return orjson.dumps(self.model_dump(exclude_defaults=True), option=orjson.OPT_SORT_KEYS)

    def sha256(self) -> str:
        """Identifies the definition: equal content has an equal hash, whatever file it came from."""
        return hashlib.sha256(self.frozen_json()).hexdigest()


IMAGE = "image:"
"""Prefix of an image's path in `Resources.row_files`, since the same file may also be an attachment."""


def profile_image(number: int) -> str:
    """The name of the profile's image on chat completions. It has a NUL, so that no row can name it."""
    return f"\0{number}"


class Resources(Frozen):
    """Ids of the objects created at the API for a batch before its first row."""

    code_interpreter_files: tuple[str, ...] = ()
    vector_store_id: str | None = None
    vector_store_files: tuple[str, ...] = ()
    """The ids of the vector store's files, needed to create it again."""
    row_files: dict[str, str] = Field(default_factory=dict)
    """File ids by path as written, for files and images that rows name (`--override file`, `image`).

    The path of an image is prefixed with `IMAGE`.
    """
