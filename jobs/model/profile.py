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

    role: Literal["user", "assistant"] = Field(description="Who says it.")
    content: Annotated[str, Field(min_length=1, max_length=256_000)] = Field(description="The text.")


class FileSearch(Frozen):
    """Options of the `file_search` tool."""

    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = Field(
        None, description="Most results that a search returns; the API's own number by default."
    )
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Least score of a result, from 0 to 1; the API's own by default."
    )


class Profile(Frozen):
    """The assistant's definition. If `model` is None, submit fills in the model of the settings."""

    name: Annotated[str, Field(max_length=256)] | None = Field(None, description="Name of the assistant.")
    description: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Description of the assistant, for people."
    )
    model: str | None = Field(
        None,
        description="Model that answers. Default: the setting `ASKMILL_MODEL`; with `assistant_id` the model "
        "of the stored assistant.",
    )
    instructions: Annotated[str, Field(max_length=256_000)] | None = Field(
        None, description="Instructions (system prompt) of every row."
    )
    tools: tuple[Tool, ...] = Field((), description="Hosted tools that the model may use.")
    functions: Functions | None = Field(
        None, description="Path or name of the Python module with the functions that the model may call."
    )
    files: tuple[str, ...] = Field(
        (), description="Paths of files, or of folders with files, relative to this file."
    )
    file_search: FileSearch = Field(FileSearch(), description="Options of the tool `file_search`.")
    image_detail: Literal["auto", "low", "high"] = Field(
        "auto", description="How closely the model looks at images of rows and of the profile."
    )
    max_prompt_tokens: Annotated[int, Field(ge=256)] | None = Field(
        None, description="Maximum input tokens per run."
    )
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Maximum output tokens per run, reasoning included. The Assistants API takes 256 at "
        "least, the Responses API 16.",
    )
    truncation: Annotated[str, Field(pattern=r"^(auto|disabled|last_messages:[1-9]\d*)$")] | None = Field(
        None,
        description="What happens to a thread that is too long for the model: `auto` drops messages in its "
        "middle, `last_messages:N` keeps the last N (Assistants API), `disabled` fails (Responses API).",
    )
    response_schema: dict[str, Any] | None = Field(
        None,
        description="A JSON schema, the path of one, or its short form: `score: float, tags: [str]`.",
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="Sampling temperature.")
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="Nucleus sampling.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="How much a reasoning model thinks; each model takes only some of these."
    )
    tool_choice: str | None = Field(
        None, description="`auto`, `none`, `required`, or the name of the tool or function to call."
    )
    parallel_tool_calls: bool | None = Field(
        None, description="Whether the model may call several tools at once; the API's choice by default."
    )
    metadata: dict[str, str] = Field(
        default_factory=dict,
        description="Names and values to store with every thread and run: at most 13 pairs, on the Responses "
        "API 11.",
    )
    messages: tuple[OpeningMessage, ...] = Field(
        (),
        description="Messages at the start of every thread, before the question: at most 31 on the "
        "Assistants API, 20 on the Responses API.",
    )
    assistant_id: str | None = Field(
        None, description="Id of an assistant stored at the API, to use instead of a definition of one's own."
    )
    service_tier: ServiceTier | None = Field(
        None,
        description="Tier of every request, as `--tier`. `standard` is the API's `default`; by default the "
        "project's settings decide. The Assistants API has the standard tier only.",
    )
    completion_window: Literal["soonest", "2h", "8h"] | None = Field(
        None, description="Time within which a response has to be complete: the longer, the cheaper."
    )
    stream: bool = Field(True, description="Whether replies of chat completions are streamed.")
    first_byte_s: Annotated[float, Field(gt=0, le=86_400)] | None = Field(
        None,
        description="Seconds until the first byte of a chat completion, loading of the model included. "
        "Default: 600.",
    )
    idle_s: Annotated[float, Field(gt=0, le=86_400)] | None = Field(
        None, description="Seconds between two bytes of a chat completion. Default: 120."
    )
    token_limit_name: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        None,
        description="Field of a chat completion that carries `max_completion_tokens`. Default: "
        "`max_completion_tokens` at OpenAI and Azure, `max_tokens` elsewhere.",
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of each chat completion, such as `top_k`. Not `messages`, `n`, `stream` "
        "and `tools`, which askmill sets itself.",
    )

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
