"""Which fields of a profile an API does not support. Does not import the SDK, which takes half a second."""

from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import MIN_COMPLETION_TOKENS, Profile


def unsupported(profile: Profile, api: Api) -> list[str]:
    """Why this API cannot serve the profile: one text per reason; empty if it can."""
    return _not_on_assistants(profile) if api == "assistants" else _not_on_responses(profile)


def _not_on_assistants(profile: Profile) -> list[str]:
    least, limit = MIN_COMPLETION_TOKENS["assistants"], profile.max_completion_tokens
    checks = (
        (limit is not None and limit < least, f"max_completion_tokens {limit} is below this API's {least}"),
        ("web_search" in profile.tools, "the tool web_search exists on the Responses API only"),
        (profile.truncation == "disabled", "truncation disabled exists on the Responses API only; use auto"),
        (profile.service_tier is not None, "service_tier exists on the Responses API only"),
        (profile.completion_window is not None, "completion_window exists on the Responses API only"),
        (
            profile.functions is not None and len(profile.functions.tools) + len(profile.tools) > 128,
            "an assistant has at most 128 tools",
        ),
        (len(profile.messages) > 31, "a thread starts with at most 32 messages, the question included"),
        (len(profile.metadata) > 13, "metadata has room for 13 pairs besides askmill's own"),
    )
    return [reason for holds, reason in checks if holds]


def _not_on_responses(profile: Profile) -> list[str]:
    checks = (
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
            profile.completion_window in {"2h", "8h"} and profile.service_tier not in {None, "default"},
            "completion_window 2h and 8h need standard processing: remove service_tier",
        ),
        (len(profile.messages) > 20, "a conversation starts with at most 20 messages"),
        (len(profile.metadata) > 11, "metadata has room for 11 pairs besides askmill's own"),
    )
    return [reason for holds, reason in checks if holds]
