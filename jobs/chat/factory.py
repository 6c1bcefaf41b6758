"""The chat backend of the API that is used."""

from askmill.jobs.chat.render import Screen
from askmill.jobs.chat.session import ChatBackend, ChatTarget
from askmill.jobs.model.errors import UsageError


def chat_backend(target: ChatTarget, screen: Screen) -> ChatBackend:
    """Return the chat backend for the API of `target`."""
    if target.api == "assistants":
        from askmill.jobs.chat.assistants import AssistantsChat  # noqa: PLC0415 -- one of the two is used

        return AssistantsChat(target, screen)
    if target.api == "chat":
        raise UsageError("`askmill chat` does not speak chat completions yet: set ASKMILL_API=responses.")
    from askmill.jobs.chat.responses import ResponsesChat  # noqa: PLC0415

    return ResponsesChat(target, screen)
