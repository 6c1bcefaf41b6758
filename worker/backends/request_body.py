"""Request bodies of a question for both APIs. Profile settings come from `jobs.openai_client.params`.

                          Assistants                                  Responses
question                  a message of the thread                     the response's input
question's image          image_url or image_file part                input_image part
question's file           attachment, for the tools                   container file, else input_file part
"""

from askmill.jobs.model.file_rules import tools_for_file
from askmill.jobs.model.profile import IMAGE
from askmill.jobs.openai_client.params import (
    Params,
    assistant_tools,
    completion_window_params,
    drop_none,
    response_options,
    run_options,
    tool_resources,
)
from askmill.worker.backends.base import RunRequest


def thread_params(request: RunRequest) -> Params:
    """Body of the thread: the opening messages and the question."""
    opening = [{"role": message.role, "content": message.content} for message in request.profile.messages]
    stored = request.profile.assistant_id is not None
    return drop_none(
        messages=[*opening, thread_question(request)],
        metadata=request.metadata,
        # A stored assistant keeps its own files, so the profile's files go to the thread.
        tool_resources=tool_resources(request.resources, request.profile) if stored else None,
    )


def thread_question(request: RunRequest) -> Params:
    """The question as a message with its image and its file."""
    message: Params = {"role": "user", "content": request.question}
    if request.image:
        if _is_url(request.image):
            kind, place = "image_url", {"url": request.image}
        else:
            kind, place = "image_file", {"file_id": _row_image(request, request.image)}
        image = {"type": kind, kind: {**place, "detail": request.profile.image_detail}}
        message["content"] = [{"type": "text", "text": request.question}, image]
    if request.file:
        # The tools of a stored assistant are unknown here; file_search reads most files.
        tools = tools_for_file(request.file, request.profile.tools) or ("file_search",)
        file_id = _row_file(request, request.file)
        message["attachments"] = [{"file_id": file_id, "tools": [{"type": tool} for tool in tools]}]
    return message


def run_params(request: RunRequest) -> Params:
    """Body of the run. It holds all that a row may override, so one assistant serves all rows of a batch."""
    profile = request.profile
    stored = profile.assistant_id is not None
    limit = drop_none(max_completion_tokens=request.max_completion_tokens)
    return drop_none(
        assistant_id=request.assistant_id,
        additional_messages=[thread_question(request)] if request.follow_up else None,
        # A run takes 20 tools, an assistant 128: only a stored assistant needs them on the run.
        tools=(assistant_tools(profile) or None) if stored else None,
        metadata=request.metadata,
        **{**run_options(profile), **limit},
    )


def conversation_params(request: RunRequest) -> Params:
    """Body of the conversation: the opening messages. The question is sent with the response."""
    opening = [
        {"type": "message", "role": message.role, "content": message.content}
        for message in request.profile.messages
    ]
    return drop_none(items=opening or None, metadata=request.metadata)


def response_params(request: RunRequest, thread_id: str) -> Params:
    """Body of the response without its input."""
    row_files = (_row_file(request, request.file),) if request.file else ()
    limit = drop_none(max_output_tokens=request.max_completion_tokens)
    return drop_none(
        conversation=thread_id,
        background=True,
        store=True,
        background_options=completion_window_params(request.profile),
        metadata=request.metadata,
        **{**response_options(request.profile, request.resources, row_files), **limit},
    )


def response_question(request: RunRequest) -> list[Params]:
    """The question as the input of a response."""
    parts: list[Params] = [{"type": "input_text", "text": request.question}]
    if request.image:
        reference = (
            {"image_url": request.image}
            if _is_url(request.image)
            else {"file_id": _row_image(request, request.image)}
        )
        parts.append({"type": "input_image", "detail": request.profile.image_detail, **reference})
    if request.file and "code_interpreter" not in request.profile.tools:
        parts.append({"type": "input_file", "file_id": _row_file(request, request.file)})
    return [{"type": "message", "role": "user", "content": parts}]


def _is_url(image: str) -> bool:
    return image.startswith(("http://", "https://", "data:image/"))


def _row_file(request: RunRequest, path: str) -> str:
    """The id of a row's file: uploaded at submit, or already an id."""
    return request.resources.row_files.get(path, path)


def _row_image(request: RunRequest, path: str) -> str:
    """The id of a row's image, which is uploaded separately: its purpose differs from that of a file."""
    return request.resources.row_files.get(f"{IMAGE}{path}") or _row_file(request, path)
