"""What batches are refused for: by their create, by the check of their file, and line by line.

docs/decisions/emulator.md has the source of each text. A fault of a file is an entry of `errors.data`.
"""

from askmill.emulator.protocol.routing import ApiError, Json

ORGANIZATION = "org-emulator"
FAULTS_SHOWN = 100


def line_fault(code: str, message: str, line: int | None = None, param: str | None = None) -> Json:
    """An entry of a batch's `errors`; `line` counts from 1."""
    return {"code": code, "line": line, "message": message, "param": param}


def missing_parameter(name: str, line: int) -> Json:
    """A line without one of its fields."""
    return line_fault("missing_required_parameter", f"Missing required parameter: '{name}'.", line, name)


def bad_json_line(line: int) -> Json:
    """A line that is no JSON object."""
    return line_fault("invalid_json_line", "This line is not parseable as valid JSON.", line)


def duplicate_id(custom_id: str, line: int) -> Json:
    """A custom_id that an earlier line has."""
    message = (
        f"The custom_id '{custom_id}' for this request is a duplicate of another request. The custom_id "
        "parameter must be unique for each request in a batch."
    )
    return line_fault("duplicate_custom_id", message, line, "custom_id")


def other_url(url: str, endpoint: str, line: int) -> Json:
    """A line for another endpoint than the batch's."""
    message = f"The URL '{url}' of this request does not match the endpoint of the batch, '{endpoint}'."
    return line_fault("url_mismatch", message, line, "url")


def other_method(line: int) -> Json:
    """A line that is no POST."""
    return line_fault(
        "invalid_method", "The method of each request in a batch must be 'POST'.", line, "method"
    )


def other_model(model: str, line: int) -> Json:
    """A second model in one file."""
    message = (
        f"The model '{model}' of this request does not match the rest of the batch; each batch has one model."
    )
    return line_fault("model_mismatch", message, line, "body.model")


def unknown_model(model: str, line: int) -> Json:
    """A model that does not exist."""
    message = f"The provided model '{model}' is not supported by the Batch API."
    return line_fault("model_not_found", message, line, "body.model")


def streamed(line: int) -> Json:
    """A line that asks for a stream."""
    return line_fault(
        "streaming_unsupported", "Streaming is not supported in the Batch API.", line, "body.stream"
    )


def empty_file() -> Json:
    """A file without a line."""
    message = "The batch input file is empty. Please ensure that the batch contains at least one request."
    return line_fault("empty_file", message)


def too_many_lines(most: int) -> Json:
    """More lines than a batch takes."""
    return line_fault("too_many_tasks", f"The batch input file contains more than {most:,} requests.")


def too_many_bytes(most: int) -> Json:
    """A bigger file than a batch takes."""
    return line_fault("file_too_large", f"The batch input file is larger than {most:,} bytes.")


def no_input_file(file_id: str) -> Json:
    """An input file that is not there, or is of another purpose; the create does not look."""
    return line_fault("invalid_file", f"The input file '{file_id}' cannot be used.", None, "input_file_id")


def enqueued_limit(model: str, limit: int) -> Json:
    """More tokens than the model's queue takes."""
    message = (
        f"Enqueued token limit reached for {model} in organization {ORGANIZATION}. Limit: {limit:,} enqueued "
        "tokens. Please try again once some in_progress batches have been completed."
    )
    return line_fault("token_limit_exceeded", message)


def line_expired() -> Json:
    """The `error` of a line that was not carried out in time."""
    message = "This request could not be executed before the completion window expired."
    return {"code": "batch_expired", "message": message}


def line_cancelled() -> Json:
    """The `error` of a line that was not carried out before the cancel."""
    return {
        "code": "batch_cancelled",
        "message": "This request was not executed, because the batch was cancelled.",
    }


def no_cancel_of_batch(status: str) -> ApiError:
    """Cancelling a batch that has ended."""
    return ApiError(400, f"Cannot cancel a batch with status '{status}'.")


def no_endpoint(endpoint: str) -> ApiError:
    """An endpoint that this server does not have."""
    return ApiError(404, f"Invalid URL (POST {endpoint})")
