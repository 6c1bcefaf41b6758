"""Which fields of a profile an API does not support. Does not import the SDK, which takes half a second."""

from collections.abc import Callable, Iterable

from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import MIN_COMPLETION_TOKENS, Profile
from askmill.jobs.model.tiers import STANDARD

Check = tuple[bool, str]
"""Whether a profile has something that the API lacks, and the reason to give."""
SET_BY_ASKMILL = frozenset({"messages", "n", "stream", "tools"})
"""Fields of a chat completion that `extra_body` must not set: the reply could not be read."""


FILE_TOOLS = frozenset({"code_interpreter", "file_search"})
UNREAD_FILES = "no tool reads them; add --tool code_interpreter or --tool file_search"


def unsupported(profile: Profile, api: Api) -> list[str]:
    """Why this API cannot serve the profile: one text per reason; empty if it can."""
    return [reason for holds, reason in CHECKS[api](profile) if holds]


def _chat_only(profile: Profile) -> Iterable[Check]:
    """Fields that describe one call of chat completions, and images that only a call carries."""
    fields = ("first_byte_s", "idle_s", "token_limit_name", "extra_body")
    for name in fields:
        yield bool(getattr(profile, name)), f"{name} exists on chat completions only"
    yield not profile.stream, "stream exists on chat completions only"
    unread = profile.files and profile.assistant_id is None and not FILE_TOOLS & set(profile.tools)
    yield bool(unread), f"files: {UNREAD_FILES}"


def _not_on_assistants(profile: Profile) -> Iterable[Check]:
    least, limit = MIN_COMPLETION_TOKENS["assistants"], profile.max_completion_tokens
    return (
        *_chat_only(profile),
        (limit is not None and limit < least, f"max_completion_tokens {limit} is below this API's {least}"),
        ("web_search" in profile.tools, "the tool web_search exists on the Responses API only"),
        (profile.truncation == "disabled", "truncation disabled exists on the Responses API only; use auto"),
        (
            profile.service_tier not in {None, STANDARD},
            "--tier (service_tier) exists on the Responses API and chat completions only",
        ),
        (profile.completion_window is not None, "completion_window exists on the Responses API only"),
        (
            profile.functions is not None and len(profile.functions.tools) + len(profile.tools) > 128,
            "an assistant has at most 128 tools",
        ),
        (len(profile.messages) > 31, "a thread starts with at most 32 messages, the question included"),
        (len(profile.metadata) > 13, "metadata has room for 13 pairs besides askmill's own"),
    )


def _not_on_responses(profile: Profile) -> Iterable[Check]:
    least, limit = MIN_COMPLETION_TOKENS["responses"], profile.max_completion_tokens
    window, tier = profile.completion_window, profile.service_tier
    return (
        *_chat_only(profile),
        (limit is not None and limit < least, f"max_completion_tokens {limit} is below this API's {least}"),
        (profile.assistant_id is not None, "stored assistants exist on the Assistants API only"),
        (
            profile.max_prompt_tokens is not None,
            "max_prompt_tokens exists on the Assistants API only; Responses cannot limit the prompt",
        ),
        (
            (profile.truncation or "").startswith("last_messages"),
            "truncation last_messages exists on the Assistants API only; use auto",
        ),
        (
            window in {"2h", "8h"} and tier not in {None, STANDARD},
            f"completion_window {window} is a discount of the standard tier: leave it or --tier {tier} out",
        ),
        (len(profile.messages) > 20, "a conversation starts with at most 20 messages"),
        (len(profile.metadata) > 11, "metadata has room for 11 pairs besides askmill's own"),
    )


def _not_on_chat(profile: Profile) -> Iterable[Check]:
    for tool in profile.tools:
        yield True, f"chat completions do not have the tool {tool}; they call Python functions (--functions)"
    yield profile.assistant_id is not None, "stored assistants exist on the Assistants API only"
    yield profile.max_prompt_tokens is not None, "max_prompt_tokens exists on the Assistants API only"
    yield profile.truncation is not None, "truncation exists on the Assistants and Responses APIs only"
    yield profile.completion_window is not None, "completion_window exists on the Responses API only"
    if taken := SET_BY_ASKMILL & set(profile.extra_body):
        yield True, f"extra_body names {', '.join(sorted(taken))}, which askmill sets itself"


CHECKS: dict[Api, Callable[[Profile], Iterable[Check]]] = {
    "assistants": _not_on_assistants,
    "responses": _not_on_responses,
    "chat": _not_on_chat,
}
