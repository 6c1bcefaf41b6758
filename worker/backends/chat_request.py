"""The body of a chat completion: the whole exchange so far, and the profile's parameters. Pure.

messages    instructions · the profile's opening messages · earlier turns · the question · this row's calls

A server that refuses a field by name is asked once without it (`field_to_drop`). Only fields that change
nothing of what the user asked for are dropped: what askmill reads for itself, and what it checks anyway.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from askmill.config.settings import is_openai
from askmill.jobs.openai_client.params import Params, chat_options
from askmill.worker.backends.base import RunRequest
from askmill.worker.lifecycle.api_types import ApiError

AZURE_HOST = re.compile(r"https://[^/]+\.(?:openai|services\.ai|cognitiveservices)\.azure\.com(?:[:/]|$)")
LIMITS = ("max_tokens", "max_completion_tokens")
"""A server that refuses one of them is asked with the other."""
DROPPED = ("stream_options", "stream", "response_format", "parallel_tool_calls", "metadata", *LIMITS)
IMAGE_REFERENCE = "askmill-image:"
"""In a stored message: the path of an image that the batch has stored once."""
REFUSED_FIELD = re.compile(
    r"unsupported|not (?:yet )?support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra "
    r"(?:fields|inputs)|additional propert|does not (?:accept|take)|invalid (?:parameter|argument|field)"
    r"|only allowed|unavailable|not available|no longer",
    re.IGNORECASE,
)
"""Words about a field as such. Words about its value, such as "too large", are none."""


def default_limit_name(base_url: str) -> str:
    """The field of the output limit: OpenAI's reasoning models refuse `max_tokens`.

    Ollama, TGI and Mistral know only that one, and Ollama ignores the other without a word.
    """
    own = is_openai(base_url) or AZURE_HOST.match(base_url) is not None
    return "max_completion_tokens" if own else "max_tokens"


def chat_body(request: RunRequest, limit_name: str, dropped: Collection[str] = ()) -> Params:
    """The body of the call, without the fields that the server has refused by name."""
    profile = request.profile
    if request.max_completion_tokens != profile.max_completion_tokens:
        profile = profile.model_copy(update={"max_completion_tokens": request.max_completion_tokens})
    limit_name = profile.token_limit_name or limit_name
    if limit_name in dropped:
        limit_name = LIMITS[1 - LIMITS.index(limit_name)]
    body: Params = {**chat_options(profile, limit_name), "messages": chat_messages(request)}
    if profile.stream and "stream" not in dropped:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body = {name: value for name, value in body.items() if name not in dropped or name == limit_name}
    return {**body, **profile.extra_body}


def chat_messages(request: RunRequest) -> list[Params]:
    """All messages of the call, the question's image as an address that the server can read."""
    profile = request.profile
    system = [{"role": "system", "content": profile.instructions}] if profile.instructions else []
    opening = [{"role": message.role, "content": message.content} for message in profile.messages]
    own = [question_message(request.question, request.image, profile.image_detail), *request.messages]
    exchange = [*request.earlier_messages, *own]
    return [*system, *opening, *(with_images(message, request.images) for message in exchange)]


def question_message(question: str, image: str | None, detail: str) -> Params:
    """The question as a message, as it is stored: an image of the batch is named, not contained."""
    if not image:
        return {"role": "user", "content": question}
    url = image if image.startswith(("http://", "https://", "data:")) else f"{IMAGE_REFERENCE}{image}"
    image_url = {"url": url} if detail == "auto" else {"url": url, "detail": detail}
    part = {"type": "image_url", "image_url": image_url}
    return {"role": "user", "content": [{"type": "text", "text": question}, part]}


def image_paths(messages: Collection[Mapping[str, Any]]) -> list[str]:
    """The paths of the batch's images that these messages name."""
    return [
        url.removeprefix(IMAGE_REFERENCE)
        for message in messages
        for part in _parts(message)
        if (url := _image_url(part)).startswith(IMAGE_REFERENCE)
    ]


def with_images(message: Params, images: Mapping[str, str]) -> Params:
    """The message with a data URL in place of each image that it names."""
    if not any(_image_url(part).startswith(IMAGE_REFERENCE) for part in _parts(message)):
        return message
    parts = []
    for part in _parts(message):
        url = _image_url(part)
        if url.startswith(IMAGE_REFERENCE):
            image_url = {**part["image_url"], "url": images[url.removeprefix(IMAGE_REFERENCE)]}
            parts.append({**part, "image_url": image_url})
        else:
            parts.append(part)
    return {**message, "content": parts}


def _parts(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content") if message.get("role") == "user" else None
    return content if isinstance(content, list) else []


def _image_url(part: Any) -> str:
    image_url = part.get("image_url") if isinstance(part, dict) else None
    return str(image_url.get("url", "")) if isinstance(image_url, dict) else ""


def field_to_drop(error: ApiError, body: Params) -> str | None:
    """The field of the body that the server refuses by name; None for any other error."""
    if error.status not in {400, 404, 415, 422, 500, 501} or not REFUSED_FIELD.search(
        f"{error.code} {error.message}".replace("_", " ")
    ):
        return None
    named = [name for name in DROPPED if name in body]
    param = (error.param or "").partition(".")[0]
    if param in named:
        return param
    if param:
        return None
    return next((name for name in named if re.search(rf"(?<![\w-]){name}(?![\w-])", error.message)), None)
