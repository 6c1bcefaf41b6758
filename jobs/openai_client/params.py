"""Translates a profile into the request parameters of each API. Unset fields are not sent.

profile                   Assistants                              Responses           chat completions
instructions              on the assistant and again on each run  on each response    a system message
tools                     on the assistant                        on each response    functions, on each call
max_completion_tokens     max_completion_tokens                   max_output_tokens   max_tokens, or as it is
response_schema           response_format.json_schema             text.format         response_format
truncation                truncation_strategy                     truncation          -
"""

import re
from typing import Any

from askmill.config.settings import is_openai
from askmill.jobs.model.profile import Profile, Resources

Params = dict[str, Any]
INCLUDE_BY_TOOL = {
    "code_interpreter": "code_interpreter_call.outputs",
    "file_search": "file_search_call.results",
    "web_search": "web_search_call.action.sources",
}
"""Output that a response contains only on request (openai-python: types/responses/response_includable.py)."""

AZURE_HOST = re.compile(r"https://[^/]+\.(?:openai|services\.ai|cognitiveservices)\.azure\.com(?:[:/]|$)")


def drop_none(**params: Any) -> Params:
    """The parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def assistant_params(profile: Profile, resources: Resources) -> Params:
    """Parameters of an assistant. Instructions are always sent: some compatible servers fail without."""
    return drop_none(
        model=profile.model,
        name=profile.name,
        description=profile.description,
        instructions=profile.instructions or "",
        tools=assistant_tools(profile),
        tool_resources=tool_resources(resources, profile),
        metadata={"askmill_profile": profile.sha256()},
        **sampling_params(profile),
    )


def sampling_params(profile: Profile) -> Params:
    """Sampling and response format, for an assistant and for a run."""
    return drop_none(
        temperature=profile.temperature,
        top_p=profile.top_p,
        reasoning_effort=profile.reasoning_effort,
        response_format=_assistants_schema(profile.response_schema),
    )


def run_options(profile: Profile) -> Params:
    """Parameters of each Assistants run, including everything that a row may override."""
    return drop_none(
        model=profile.model,
        instructions=profile.instructions,
        tool_choice=_tool_choice(profile, nested=True),
        parallel_tool_calls=profile.parallel_tool_calls,
        max_prompt_tokens=profile.max_prompt_tokens,
        max_completion_tokens=profile.max_completion_tokens,
        truncation_strategy=_truncation_strategy(profile.truncation),
        **sampling_params(profile),
    )


def response_options(profile: Profile, resources: Resources, row_files: tuple[str, ...] = ()) -> Params:
    """Parameters of each response. `row_files` are ids of files for the code interpreter."""
    return drop_none(
        model=profile.model,
        instructions=profile.instructions,
        max_output_tokens=profile.max_completion_tokens,
        temperature=profile.temperature,
        top_p=profile.top_p,
        tools=_response_tools(profile, resources, row_files) or None,
        tool_choice=_tool_choice(profile, nested=False),
        parallel_tool_calls=profile.parallel_tool_calls,
        reasoning={"effort": profile.reasoning_effort} if profile.reasoning_effort else None,
        text={"format": _responses_schema(profile.response_schema)} if profile.response_schema else None,
        truncation=profile.truncation,
        service_tier=profile.service_tier,
        include=include_fields(profile) or None,
    )


def chat_options(profile: Profile, limit_field: str) -> Params:
    """Parameters of each chat completion. `limit_field` carries the output limit (`limit_name`)."""
    functions = [{"type": "function", "function": function} for function in _functions(profile)]
    limit = {limit_field: profile.max_completion_tokens}
    return drop_none(
        model=profile.model,
        **limit,
        **sampling_params(profile),
        tools=functions or None,
        tool_choice=_tool_choice(profile, nested=True) if functions else None,
        parallel_tool_calls=profile.parallel_tool_calls if functions else None,
        service_tier=profile.service_tier,
        metadata=profile.metadata or None,
    )


def limit_name(profile: Profile, base_url: str) -> str:
    """The field of the output limit: the profile's choice, or the server's usual one.

    OpenAI's reasoning models refuse `max_tokens`. Ollama, TGI and Mistral know only that one, and Ollama
    ignores the other without a word.
    """
    own = is_openai(base_url) or AZURE_HOST.match(base_url) is not None
    return profile.token_limit_name or ("max_completion_tokens" if own else "max_tokens")


def opening_messages(profile: Profile) -> list[Params]:
    """The messages before the first question of a chat completion: the instructions, the profile's own."""
    system = [{"role": "system", "content": profile.instructions}] if profile.instructions else []
    return [*system, *({"role": message.role, "content": message.content} for message in profile.messages)]


def include_fields(profile: Profile) -> list[str]:
    """The `include` values for the profile's tools."""
    return [INCLUDE_BY_TOOL[tool] for tool in profile.tools]


def assistant_tools(profile: Profile) -> list[Params]:
    """The tools of an assistant."""
    tools: list[Params] = [{"type": tool} for tool in profile.tools if tool != "file_search"]
    if "file_search" in profile.tools:
        options = _file_search_options(profile)
        tools.append({"type": "file_search", **({"file_search": options} if options else {})})
    return [*tools, *({"type": "function", "function": function} for function in _functions(profile))]


def _response_tools(profile: Profile, resources: Resources, row_files: tuple[str, ...]) -> list[Params]:
    tools: list[Params] = []
    if "code_interpreter" in profile.tools:
        file_ids = [*resources.code_interpreter_files, *row_files]
        container = {"type": "auto", **({"file_ids": file_ids} if file_ids else {})}
        tools.append({"type": "code_interpreter", "container": container})
    if "file_search" in profile.tools:
        stores = [resources.vector_store_id] if resources.vector_store_id else []
        tools.append({"type": "file_search", "vector_store_ids": stores, **_file_search_options(profile)})
    if "web_search" in profile.tools:
        tools.append({"type": "web_search"})
    return [*tools, *({"type": "function", "strict": False, **function} for function in _functions(profile))]


def _functions(profile: Profile) -> list[Params]:
    tools = profile.functions.tools if profile.functions else ()
    no_parameters = {"type": "object", "properties": {}}
    return [{**tool.model_dump(), "parameters": tool.parameters or no_parameters} for tool in tools]


def _file_search_options(profile: Profile) -> Params:
    options = profile.file_search
    threshold = options.score_threshold
    ranking = None if threshold is None else {"ranker": "auto", "score_threshold": threshold}
    return drop_none(max_num_results=options.max_num_results, ranking_options=ranking)


def tool_resources(resources: Resources, profile: Profile) -> Params | None:
    """The files of an assistant's tools."""
    resources_by_tool: Params = {}
    if resources.code_interpreter_files and "code_interpreter" in profile.tools:
        resources_by_tool["code_interpreter"] = {"file_ids": list(resources.code_interpreter_files)}
    if resources.vector_store_id:
        resources_by_tool["file_search"] = {"vector_store_ids": [resources.vector_store_id]}
    return resources_by_tool or None


def _tool_choice(profile: Profile, *, nested: bool) -> str | Params | None:
    choice = profile.tool_choice
    if choice is None or choice in {"none", "auto", "required"}:
        return choice
    if choice in INCLUDE_BY_TOOL:
        return {"type": choice}
    return {"type": "function", **({"function": {"name": choice}} if nested else {"name": choice})}


def _truncation_strategy(truncation: str | None) -> Params | None:
    if truncation is None:
        return None
    kind, _, count = truncation.partition(":")
    return {"type": kind, "last_messages": int(count)} if count else {"type": kind}


def completion_window_params(profile: Profile) -> Params | None:
    """The `completion_window` parameter: a longer wait for a background response lowers its price."""
    return {"completion_window": profile.completion_window} if profile.completion_window else None


def _named_schema(schema: Params) -> Params:
    """The schema with a name: a plain JSON schema is wrapped, {"name", "schema", "strict"?} is kept."""
    if isinstance(schema.get("schema"), dict) and isinstance(schema.get("name"), str):
        return {"strict": True, **schema}
    return {"name": "answer", "schema": schema, "strict": True}


def _assistants_schema(schema: Params | None) -> Params | None:
    return {"type": "json_schema", "json_schema": _named_schema(schema)} if schema else None


def _responses_schema(schema: Params | None) -> Params | None:
    return {"type": "json_schema", **_named_schema(schema)} if schema else None
