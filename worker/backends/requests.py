"""A profile and a question as the parameters of each API's requests; what is not said is not sent.

profile                   Assistants                                  Responses
instructions, model, …    on the assistant and again on each run      on each response
tools                     on the assistant                            on each response
max_completion_tokens     max_completion_tokens                       max_output_tokens
response_schema           response_format.json_schema                 text.format
truncation                truncation_strategy                         truncation
question's image          image_url or image_file part                input_image part
question's file           attachment, for the tools                   container file, else input_file part
"""

from typing import Any

from jobs.attachable import readers
from jobs.profile import IMAGE, Profile, Resources
from worker.backends.base import Ask

Params = dict[str, Any]
INCLUDES = {
    "code_interpreter": "code_interpreter_call.outputs",
    "file_search": "file_search_call.results",
    "web_search": "web_search_call.action.sources",
}
"""What a response leaves out unless asked (openai-python: types/responses/response_includable.py)."""


def said(**params: Any) -> Params:
    """The parameters that have a value."""
    return {name: value for name, value in params.items() if value is not None}


def assistant_params(profile: Profile, resources: Resources) -> Params:
    """The assistant of a profile. Some compatible servers fail without instructions: they are always sent."""
    return said(
        model=profile.model,
        name=profile.name,
        description=profile.description,
        instructions=profile.instructions or "",
        tools=_assistant_tools(profile),
        tool_resources=_tool_resources(resources, profile),
        metadata={"askmill_profile": profile.sha256()},
        **_sampling(profile),
    )


def _sampling(profile: Profile) -> Params:
    return said(
        temperature=profile.temperature,
        top_p=profile.top_p,
        reasoning_effort=profile.reasoning_effort,
        response_format=_wrapped_schema(profile.response_schema),
    )


def thread_params(ask: Ask) -> Params:
    """The thread with the opening messages and the question."""
    opening = [{"role": message.role, "content": message.content} for message in ask.profile.messages]
    stored = ask.profile.assistant_id is not None
    return said(
        messages=[*opening, thread_question(ask)],
        metadata=ask.metadata,
        # A stored assistant keeps its own files; those of the profile go with the thread.
        tool_resources=_tool_resources(ask.resources, ask.profile) if stored else None,
    )


def thread_question(ask: Ask) -> Params:
    """The question as a message, with its image and its file."""
    return said(role="user", content=_thread_content(ask), attachments=_attachments(ask))


def _thread_content(ask: Ask) -> str | list[Params]:
    if not ask.image:
        return ask.question
    text = {"type": "text", "text": ask.question}
    detail = ask.profile.image_detail
    if _is_url(ask.image):
        return [text, {"type": "image_url", "image_url": {"url": ask.image, "detail": detail}}]
    file_id = _row_image(ask, ask.image)
    return [text, {"type": "image_file", "image_file": {"file_id": file_id, "detail": detail}}]


def _attachments(ask: Ask) -> list[Params] | None:
    if not ask.file:
        return None
    # A stored assistant's tools are not known here: file_search is what reads most files.
    tools = readers(ask.file, ask.profile.tools) or ("file_search",)
    return [{"file_id": _row_file(ask, ask.file), "tools": [{"type": tool} for tool in tools]}]


def run_params(ask: Ask) -> Params:
    """The run. What a row may override stands here, so one assistant serves all rows of a batch."""
    profile = ask.profile
    stored = profile.assistant_id is not None
    return said(
        assistant_id=ask.assistant_id,
        model=profile.model,
        instructions=profile.instructions,
        additional_messages=[thread_question(ask)] if ask.follow_up else None,
        # A run takes 20 tools, an assistant 128: they go along only where the assistant is not of our making.
        tools=(_assistant_tools(profile) or None) if stored else None,
        tool_choice=_tool_choice(profile, nested=True),
        parallel_tool_calls=profile.parallel_tool_calls,
        max_prompt_tokens=profile.max_prompt_tokens,
        max_completion_tokens=ask.max_completion_tokens or profile.max_completion_tokens,
        truncation_strategy=_truncation_strategy(profile.truncation),
        metadata=ask.metadata,
        **_sampling(profile),
    )


def conversation_params(ask: Ask) -> Params:
    """The conversation with the opening messages; the question goes along with the response."""
    opening = [
        {"type": "message", "role": words.role, "content": words.content} for words in ask.profile.messages
    ]
    return said(items=opening or None, metadata=ask.metadata)


def response_params(ask: Ask, thread_id: str) -> Params:
    """The response, but for its input."""
    profile = ask.profile
    return said(
        model=profile.model,
        instructions=profile.instructions,
        conversation=thread_id,
        background=True,
        store=True,
        background_options=_window(profile),
        metadata=ask.metadata,
        max_output_tokens=ask.max_completion_tokens or profile.max_completion_tokens,
        temperature=profile.temperature,
        top_p=profile.top_p,
        tools=_response_tools(ask) or None,
        tool_choice=_tool_choice(profile, nested=False),
        parallel_tool_calls=profile.parallel_tool_calls,
        reasoning={"effort": profile.reasoning_effort} if profile.reasoning_effort else None,
        text={"format": _flat_schema(profile.response_schema)} if profile.response_schema else None,
        truncation=profile.truncation,
        service_tier=profile.service_tier,
        include=includes(profile) or None,
    )


def response_question(ask: Ask) -> list[Params]:
    """The question as a response's input."""
    parts: list[Params] = [{"type": "input_text", "text": ask.question}]
    if ask.image:
        named = {"image_url": ask.image} if _is_url(ask.image) else {"file_id": _row_image(ask, ask.image)}
        parts.append({"type": "input_image", "detail": ask.profile.image_detail, **named})
    if ask.file and "code_interpreter" not in ask.profile.tools:
        parts.append({"type": "input_file", "file_id": _row_file(ask, ask.file)})
    return [{"type": "message", "role": "user", "content": parts}]


def includes(profile: Profile) -> list[str]:
    """What to ask for with a response's tool calls."""
    return [INCLUDES[tool] for tool in profile.tools]


def _assistant_tools(profile: Profile) -> list[Params]:
    tools: list[Params] = [{"type": tool} for tool in profile.tools if tool != "file_search"]
    if "file_search" in profile.tools:
        options = _file_search_options(profile)
        tools.append({"type": "file_search", **({"file_search": options} if options else {})})
    return [*tools, *({"type": "function", "function": function} for function in _functions(profile))]


def _response_tools(ask: Ask) -> list[Params]:
    profile, resources = ask.profile, ask.resources
    tools: list[Params] = []
    if "code_interpreter" in profile.tools:
        row_file = [_row_file(ask, ask.file)] if ask.file else []
        file_ids = [*resources.code_interpreter_files, *row_file]
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
    nothing = {"type": "object", "properties": {}}
    return [{**tool.model_dump(), "parameters": tool.parameters or nothing} for tool in tools]


def _file_search_options(profile: Profile) -> Params:
    options = profile.file_search
    threshold = options.score_threshold
    ranking = None if threshold is None else {"ranker": "auto", "score_threshold": threshold}
    return said(max_num_results=options.max_num_results, ranking_options=ranking)


def _tool_resources(resources: Resources, profile: Profile) -> Params | None:
    found: Params = {}
    if resources.code_interpreter_files and "code_interpreter" in profile.tools:
        found["code_interpreter"] = {"file_ids": list(resources.code_interpreter_files)}
    if resources.vector_store_id:
        found["file_search"] = {"vector_store_ids": [resources.vector_store_id]}
    return found or None


def _tool_choice(profile: Profile, *, nested: bool) -> str | Params | None:
    choice = profile.tool_choice
    if choice is None or choice in {"none", "auto", "required"}:
        return choice
    if choice in INCLUDES:
        return {"type": choice}
    return {"type": "function", **({"function": {"name": choice}} if nested else {"name": choice})}


def _truncation_strategy(truncation: str | None) -> Params | None:
    if truncation is None:
        return None
    kind, _, count = truncation.partition(":")
    return {"type": kind, "last_messages": int(count)} if count else {"type": kind}


def _window(profile: Profile) -> Params | None:
    return {"completion_window": profile.completion_window} if profile.completion_window else None


def _named_schema(schema: Params) -> Params:
    """A plain JSON schema with a name, or one that already has it: {"name", "schema", "strict"?}."""
    if isinstance(schema.get("schema"), dict) and isinstance(schema.get("name"), str):
        return {"strict": True, **schema}
    return {"name": "answer", "schema": schema, "strict": True}


def _wrapped_schema(schema: Params | None) -> Params | None:
    return {"type": "json_schema", "json_schema": _named_schema(schema)} if schema else None


def _flat_schema(schema: Params | None) -> Params | None:
    return {"type": "json_schema", **_named_schema(schema)} if schema else None


def _is_url(image: str) -> bool:
    return image.startswith(("http://", "https://", "data:image/"))


def _row_file(ask: Ask, path: str) -> str:
    """The id of a file that a row names: uploaded at submit, or already an id."""
    return ask.resources.row_files.get(path, path)


def _row_image(ask: Ask, path: str) -> str:
    """The same of an image, which has an upload of its own: as a file it has another purpose."""
    return ask.resources.row_files.get(f"{IMAGE}{path}") or _row_file(ask, path)
