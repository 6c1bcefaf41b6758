"""The refusals of chat completions: OpenAI's own, and those of servers that speak its API.

docs/decisions/emulator.md has the source of each message.
"""

from askmill.emulator.protocol.routing import ApiError
from askmill.emulator.protocol.validation import bad_field


def both_limits() -> ApiError:
    """Both names of the output limit in one request."""
    return ApiError(
        400,
        "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        code="invalid_parameter_combination",
        param="max_tokens",
    )


def options_without_stream() -> ApiError:
    """`stream_options` in a request that is not streamed."""
    return ApiError(
        400,
        "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        param="stream_options",
    )


def unanswered_calls(call_ids: list[str], at: int) -> ApiError:
    """Another message, or the end, before each tool call has its result."""
    message = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(call_ids)}"
    )
    return ApiError(400, message, param=f"messages.[{at}].role")


def orphan_result(at: int) -> ApiError:
    """A tool message that follows no tool call."""
    message = (
        "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
        "'tool_calls'."
    )
    return ApiError(400, message, param=f"messages.[{at}].role")


def context_exceeded(limit: int, tokens: int) -> ApiError:
    """More prompt tokens than the model's context."""
    message = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in "
        f"{tokens} tokens. Please reduce the length of the messages."
    )
    return bad_field(message, "messages", "context_length_exceeded")


def unsupported(field: str) -> ApiError:
    """A field that this server refuses."""
    message = f"Unsupported parameter: '{field}' is not supported with this model."
    return bad_field(message, field, "unsupported_parameter")


def bad_image(param: str) -> ApiError:
    """An image address that is neither http(s) nor base64 data of an image."""
    message = "Invalid image data. Expected an http(s) address or a base64-encoded image data URL."
    return bad_field(message, param, "invalid_image_url")


def resource_unavailable() -> ApiError:
    """No capacity for the flex tier; not billed."""
    return ApiError(429, "Resource Unavailable", code="resource_unavailable", kind="resource_unavailable")


def queue_full() -> ApiError:
    """More calls wait than the queue takes; no `Retry-After`."""
    message = "server busy, please try again.  maximum pending requests exceeded"
    return ApiError(503, message, kind="server_error")


def loading(status: int) -> ApiError:
    """The model is not in memory yet."""
    if status == 500:
        return ApiError(500, "llm server loading model", kind="server_error")
    return ApiError(503, "Loading model", kind="unavailable_error")


def no_reasoning_echoed(at: int) -> ApiError:
    """An assistant message with tool calls came back without its `reasoning_content`."""
    message = f"Missing `reasoning_content` field in the assistant message at message index {at}."
    return ApiError(400, message)


def no_signature_echoed(function: str, at: int) -> ApiError:
    """A tool call came back without the signature that it was sent with."""
    message = (
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
        "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
        f"data, function call `default_api:{function}` , position {at}."
    )
    return ApiError(400, message)


def not_served() -> ApiError:
    """A path that a server of chat completions alone does not have."""
    return ApiError(404, "Not Found")
