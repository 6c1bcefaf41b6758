"""A question as each API's requests, with its profile's settings (`jobs.openai_client.params`).

                          Assistants                                  Responses
question                  a message of the thread                     the response's input
question's image          image_url or image_file part                input_image part
question's file           attachment, for the tools                   container file, else input_file part
"""

from askmill.jobs.model.file_rules import readers
from askmill.jobs.model.profile import IMAGE
from askmill.jobs.openai_client.params import (
    Params,
    assistant_tools,
    response_settings,
    run_settings,
    said,
    tool_resources,
    window,
)
from askmill.worker.backends.base import RunRequest


def thread_params(ask: RunRequest) -> Params:
    """The thread with the opening messages and the question."""
    opening = [{"role": message.role, "content": message.content} for message in ask.profile.messages]
    stored = ask.profile.assistant_id is not None
    return said(
        messages=[*opening, thread_question(ask)],
        metadata=ask.metadata,
        # A stored assistant keeps its own files; those of the profile go with the thread.
        tool_resources=tool_resources(ask.resources, ask.profile) if stored else None,
    )


def thread_question(ask: RunRequest) -> Params:
    """The question as a message, with its image and its file."""
    return said(role="user", content=_thread_content(ask), attachments=_attachments(ask))


def _thread_content(ask: RunRequest) -> str | list[Params]:
    if not ask.image:
        return ask.question
    text = {"type": "text", "text": ask.question}
    detail = ask.profile.image_detail
    if _is_url(ask.image):
        return [text, {"type": "image_url", "image_url": {"url": ask.image, "detail": detail}}]
    file_id = _row_image(ask, ask.image)
    return [text, {"type": "image_file", "image_file": {"file_id": file_id, "detail": detail}}]


def _attachments(ask: RunRequest) -> list[Params] | None:
    if not ask.file:
        return None
    # A stored assistant's tools are not known here: file_search is what reads most files.
    tools = readers(ask.file, ask.profile.tools) or ("file_search",)
    return [{"file_id": _row_file(ask, ask.file), "tools": [{"type": tool} for tool in tools]}]


def run_params(ask: RunRequest) -> Params:
    """The run. What a row may override stands here, so one assistant serves all rows of a batch."""
    profile = ask.profile
    stored = profile.assistant_id is not None
    limit = said(max_completion_tokens=ask.max_completion_tokens)
    return said(
        assistant_id=ask.assistant_id,
        additional_messages=[thread_question(ask)] if ask.follow_up else None,
        # A run takes 20 tools, an assistant 128: they go along only where the assistant is not of our making.
        tools=(assistant_tools(profile) or None) if stored else None,
        metadata=ask.metadata,
        **{**run_settings(profile), **limit},
    )


def conversation_params(ask: RunRequest) -> Params:
    """The conversation with the opening messages; the question goes along with the response."""
    opening = [
        {"type": "message", "role": words.role, "content": words.content} for words in ask.profile.messages
    ]
    return said(items=opening or None, metadata=ask.metadata)


def response_params(ask: RunRequest, thread_id: str) -> Params:
    """The response, but for its input."""
    row_files = (_row_file(ask, ask.file),) if ask.file else ()
    limit = said(max_output_tokens=ask.max_completion_tokens)
    return said(
        conversation=thread_id,
        background=True,
        store=True,
        background_options=window(ask.profile),
        metadata=ask.metadata,
        **{**response_settings(ask.profile, ask.resources, row_files), **limit},
    )


def response_question(ask: RunRequest) -> list[Params]:
    """The question as a response's input."""
    parts: list[Params] = [{"type": "input_text", "text": ask.question}]
    if ask.image:
        named = {"image_url": ask.image} if _is_url(ask.image) else {"file_id": _row_image(ask, ask.image)}
        parts.append({"type": "input_image", "detail": ask.profile.image_detail, **named})
    if ask.file and "code_interpreter" not in ask.profile.tools:
        parts.append({"type": "input_file", "file_id": _row_file(ask, ask.file)})
    return [{"type": "message", "role": "user", "content": parts}]


def _is_url(image: str) -> bool:
    return image.startswith(("http://", "https://", "data:image/"))


def _row_file(ask: RunRequest, path: str) -> str:
    """The id of a file that a row names: uploaded at submit, or already an id."""
    return ask.resources.row_files.get(path, path)


def _row_image(ask: RunRequest, path: str) -> str:
    """The same of an image, which has an upload of its own: as a file it has another purpose."""
    return ask.resources.row_files.get(f"{IMAGE}{path}") or _row_file(ask, path)
