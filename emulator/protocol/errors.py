"""The errors of OpenAI's API: original messages, codes and statuses.

docs/decisions/emulator.md has the source of each message; those marked weak are the best known wording.
"""

import secrets

from askmill.emulator.protocol.routing import ApiError


def _error(
    status: int, message: str, code: str | None = None, kind: str = "invalid_request_error"
) -> ApiError:
    return ApiError(status, message, code=code, kind=kind)


def no_key() -> ApiError:
    """No API key was sent."""
    return _error(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using "
        "Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) "
        "if you're accessing the API from your browser and are prompted for a username and password. You can "
        "obtain an API key from https://platform.openai.com/account/api-keys.",
        "invalid_api_key",
    )


def no_beta_header() -> ApiError:
    """A route of the Assistants API without its header."""
    return _error(
        400,
        "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again by setting "
        "the header 'OpenAI-Beta: assistants=v2'.",
        "invalid_beta",
    )


def not_found(noun: str, object_id: str) -> ApiError:
    """`noun` is assistant, thread, message, run, run step or vector store."""
    return _error(404, f"No {noun} found with id '{object_id}'.")


def no_store(store_id: str) -> ApiError:
    """A vector store that a response's tools name and that is not there."""
    return _error(404, f"Vector store with id ['{store_id}'] not found.")


def no_file(file_id: str) -> ApiError:
    """A file that is not there."""
    return ApiError(404, f"No such File object: {file_id}", param="id")


def no_url(method: str, path: str) -> ApiError:
    """A path that no route has."""
    return _error(404, f"Invalid URL ({method} {path})")


def not_allowed(method: str, path: str) -> ApiError:
    """A path that has routes, but not for this method."""
    return _error(405, f"Not allowed to {method} on {path}.", "method_not_supported")


def no_model(model: str) -> ApiError:
    """A model that does not exist."""
    return _error(
        404, f"The model `{model}` does not exist or you do not have access to it.", "model_not_found"
    )


def thread_busy_for_messages(thread_id: str, run_id: str) -> ApiError:
    """A message for a thread with an active run."""
    return _error(400, f"Can't add messages to {thread_id} while a run {run_id} is active.")


def thread_busy_for_runs(thread_id: str, run_id: str) -> ApiError:
    """A run for a thread with an active run."""
    return _error(400, f"Thread {thread_id} already has an active run {run_id}.")


def empty_thread() -> ApiError:
    """A run without a message or instructions."""
    return _error(
        400, "Run creation requires a Thread with a user message or an assistant with instructions."
    )


def no_cancel(status: str) -> ApiError:
    """Cancelling a run that has ended, or is being cancelled."""
    return _error(400, f"Cannot cancel run with status '{status}'.")


def no_outputs_accepted(status: str) -> ApiError:
    """Tool outputs for a run that does not wait for them (any more)."""
    return _error(400, f'Runs in status "{status}" do not accept tool outputs.')


def wrong_outputs(expected: list[str], got: list[str]) -> ApiError:
    """Tool outputs that miss a call, or answer none."""
    return _error(400, f"Expected tool outputs for call_ids {expected}, got {got}")


def bad_directive(reason: str) -> ApiError:
    """Not OpenAI's: a directive in the question is misspelt."""
    return _error(400, f"The question's [emulate: ...] cannot be played: {reason}.", "invalid_prompt")


# --- a row's content ---

FILTERED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please "
    "modify your prompt and retry. To learn more about our content filtering policies please read our "
    "documentation: https://go.microsoft.com/fwlink/?linkid=2198766"
)
TOO_LARGE = (
    "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested "
    "61337. The input or output tokens must be reduced in order to run successfully. Visit "
    "https://platform.openai.com/account/rate-limits to learn more."
)
TOO_LONG = (
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 130012 tokens. "
    "Please reduce the length of the messages."
)
FIREWALL = (
    "<html><head><title>403 Forbidden</title></head><body><h1>Request blocked</h1>"
    "<p>Incident {incident}. Contact the site's owner.</p></body></html>"
)


def content_refused(kind: str) -> ApiError:
    """A create refused for what it contains; `bad_request` does not say why."""
    match kind:
        case "content_filter":
            return ApiError(400, FILTERED, code="content_filter", param="prompt")
        case "image_url":
            message = "Failed to download image from https://x.example/a.png. Image URL is not accessible."
            return ApiError(400, message, code="invalid_image_url", param="url")
        case "firewall":
            refusal = ApiError(403, "Forbidden")
            refusal.page = FIREWALL.format(incident=secrets.token_hex(8))
            return refusal
        case "too_large":
            return ApiError(429, TOO_LARGE, code="rate_limit_exceeded", kind="tokens")
        case "too_long":
            return _error(400, TOO_LONG, "context_length_exceeded")
        case _:
            return _error(400, "Bad request.")


# --- Responses and conversations ---


def no_response(response_id: str) -> ApiError:
    """A response that is not there."""
    return _error(404, f"Response with id '{response_id}' not found.")


def no_previous_response(response_id: str) -> ApiError:
    """A previous response that does not exist."""
    return ApiError(
        400,
        f"Previous response with id '{response_id}' not found.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def no_conversation(conversation_id: str) -> ApiError:
    """A conversation that is not there."""
    return _error(404, f"Conversation with id '{conversation_id}' not found.")


def no_item(item_id: str) -> ApiError:
    """An item that is not in this conversation."""
    return _error(404, f"Item with id '{item_id}' not found.")


def conversation_locked() -> ApiError:
    """Another response holds the conversation."""
    return ApiError(
        400,
        "Another process is currently operating on this conversation. Please retry in a few seconds.",
        code="conversation_locked",
        param="conversation",
    )


def conflicting_history() -> ApiError:
    """A conversation and a previous response at once."""
    return ApiError(
        400,
        "Mutually exclusive parameters: Ensure you are only providing one of: 'previous_response_id' or "
        "'conversation'.",
        code="mutually_exclusive_parameters",
    )


def missing_output(call_id: str) -> ApiError:
    """The conversation has a function call without an output."""
    return ApiError(400, f"No tool output found for function call {call_id}.", param="input")


def unexpected_output(call_id: str) -> ApiError:
    """A function output that no open function call expects."""
    message = f"No tool call found for function call output with call_id {call_id}."
    return ApiError(400, message, param="input")


def not_in_background() -> ApiError:
    """Cancelling a response that does not run in the background."""
    return _error(400, "Cannot cancel a synchronous response.")


def no_container(container_id: str) -> ApiError:
    """A container that is not there, or has expired."""
    return _error(404, f"Container with id '{container_id}' not found.")


# --- faults and the account's state ---


def rate_limited(retry_after_s: float) -> ApiError:
    """The Assistants API's own 429; reset headers in the API's notation (`1.5s`)."""
    headers: tuple[tuple[bytes, bytes], ...] = (
        (b"x-ratelimit-limit-requests", b"200"),
        (b"x-ratelimit-remaining-requests", b"0"),
        (b"x-ratelimit-reset-requests", f"{retry_after_s:g}s".encode()),
    )
    if retry_after_s:
        in_ms = str(round(retry_after_s * 1000)).encode()
        headers += ((b"retry-after", f"{retry_after_s:g}".encode()), (b"retry-after-ms", in_ms))
    return ApiError(
        429,
        "You've exceeded the rate limit, please slow down and try again later.",
        code="rate_limit_exceeded",
        headers=headers,
    )


def server_error() -> ApiError:
    """HTTP 500."""
    message = "The server had an error while processing your request. Sorry about that!"
    return _error(500, message, "server_error", "server_error")


def overloaded() -> ApiError:
    """HTTP 503."""
    message = "The engine is currently overloaded, please try again later."
    return _error(503, message, None, "server_error")


def queue_full() -> ApiError:
    """A full queue as llama-stack reports it, under status 400."""
    return _error(400, "The request queue is full (max 100). Try again later.")


QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information on "
    "this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)
INACTIVE = "Your account is not active, please check your billing details on our website."
WRONG_KEY = (
    "Incorrect API key provided: ********. You can find your API key at "
    "https://platform.openai.com/account/api-keys."
)
UNKNOWN_URL = (
    "Unknown request URL: {method} {path}. Please check the URL for typos, or see the docs at "
    "https://platform.openai.com/docs/api-reference/."
)
# State of the account, which is the code of the refusal too → (status, type, message).
ACCOUNT: dict[str, tuple[int, str, str]] = {
    "insufficient_quota": (429, "insufficient_quota", QUOTA),
    "billing_hard_limit_reached": (400, "invalid_request_error", "Billing hard limit has been reached"),
    "billing_not_active": (429, "billing_not_active", INACTIVE),
    "budget_exceeded": (
        429,
        "budget_exceeded",
        "Budget has been exceeded! Current cost: 26.075, Max budget: 0.25",
    ),
    "insufficient_balance": (402, "unknown_error", "Insufficient Balance"),
    "invalid_api_key": (401, "invalid_request_error", WRONG_KEY),
    "unsupported_country_region_territory": (
        403,
        "request_forbidden",
        "Country, region, or territory not supported",
    ),
    "unknown_url": (404, "invalid_request_error", UNKNOWN_URL),
}
# DeepSeek sends a generic code for this.
CODES = {"insufficient_balance": "invalid_request_error"}
# These states refuse reads too; the others refuse only requests that cost money.
BLOCKS_READS = frozenset({"invalid_api_key", "unsupported_country_region_territory", "unknown_url"})


def account_error(name: str, method: str, path: str) -> ApiError | None:
    """Return the error of an account in this state for this request; None: it is served."""
    if not name or (method != "POST" and name not in BLOCKS_READS):
        return None
    status, kind, message = ACCOUNT[name]
    return _error(status, message.format(method=method, path=path), CODES.get(name, name), kind)
