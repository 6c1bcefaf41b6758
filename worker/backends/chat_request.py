"""The body of a chat completion: the whole exchange so far, and the profile's parameters. Pure.

messages    instructions · the profile's opening messages · earlier turns · the question · this row's calls

A server that refuses a field by name is asked once without it (`field_to_drop`). Only fields that change
nothing of what the user asked for are dropped: what askmill reads for itself, what it checks anyway, and the
standard tier, which a server without tiers has anyway.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from askmill.jobs.model.profile import profile_image
from askmill.jobs.model.tiers import STANDARD
from askmill.jobs.openai_client.params import Params, chat_options, limit_name, opening_messages
from askmill.worker.backends.base import RunRequest
from askmill.worker.lifecycle.api_types import ApiError

LIMITS = ("max_tokens", "max_completion_tokens")
"""A server that refuses one of them is asked with the other."""
DROPPED = ("stream_options", "stream", "response_format", "parallel_tool_calls", "metadata", *LIMITS)
IMAGE_REFERENCE = "askmill-image:"
"""In a stored message: the path of an image that the batch has stored once."""
REFUSED_FIELD = re.compile(
    r"unsupported|not (?:yet )?support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed|extra "
    r"(?:fields|inputs)|additional propert|does not (?:accept|take)|invalid (?:parameter|argument|field)"
    r"|only allowed|unavailable|not available|no longer|literal error",
    re.IGNORECASE,
)
"""Words about a field as such. Words about its value, such as "too large", are none.

`literal_error` is pydantic's for a kind that the server does not have: llama.cpp's Python server
has no `json_schema`.
"""


def chat_body(request: RunRequest, base_url: str, dropped: Collection[str] = ()) -> Params:
    """The body of a call to this server, without the fields that it has refused by name."""
    profile = request.profile
    if request.max_completion_tokens != profile.max_completion_tokens:
        profile = profile.model_copy(update={"max_completion_tokens": request.max_completion_tokens})
    limit_field = limit_name(profile, base_url)
    if limit_field in dropped:
        limit_field = LIMITS[1 - LIMITS.index(limit_field)]
    body: Params = {**chat_options(profile, limit_field), "messages": chat_messages(request)}
    if profile.stream and "stream" not in dropped:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body = {name: value for name, value in body.items() if name not in dropped or name == limit_field}
    return {**body, **profile.extra_body}


def chat_messages(request: RunRequest) -> list[Params]:
    """All messages of the call, the question's image as an address that the server can read."""
    profile = request.profile
    own = [own_question(request), *request.messages]
    exchange = [*request.earlier_messages, *own]
    return [*opening_messages(profile), *(with_images(message, request.images) for message in exchange)]


def own_question(request: RunRequest, *, first_turn: bool | None = None) -> Params:
    """The row's question as a message, as it is stored: images of the batch are named, not contained.

    The first turn of a conversation carries the profile's images (`--file`) for all of them.
    """
    profile, first = request.profile, not request.earlier_messages if first_turn is None else first_turn
    images = [profile_image(number) for number in range(len(profile.files))] if first else []
    images += [request.image] if request.image else []
    if not images:
        return {"role": "user", "content": request.question}
    parts = [_image_part(image, profile.image_detail) for image in images]
    return {"role": "user", "content": [{"type": "text", "text": request.question}, *parts]}


def _image_part(image: str, detail: str) -> Params:
    url = image if image.startswith(("http://", "https://", "data:")) else f"{IMAGE_REFERENCE}{image}"
    return {
        "type": "image_url",
        "image_url": {"url": url} if detail == "auto" else {"url": url, "detail": detail},
    }


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
    named += ["service_tier"] if body.get("service_tier") == STANDARD else []
    param = (error.param or "").partition(".")[0]
    if param in named:
        return param
    if param:
        return None
    return next((name for name in named if re.search(rf"(?<![\w-]){name}(?![\w-])", error.message)), None)
