"""The chat backend of the API that is used."""

from askmill.jobs.chat.render import Screen
from askmill.jobs.chat.session import ChatBackend, ChatTarget


def chat_backend(target: ChatTarget, screen: Screen) -> ChatBackend:
    """Return the chat backend for the API of `target`."""
    if target.api == "assistants":
        from askmill.jobs.chat.assistants import AssistantsChat  # noqa: PLC0415 -- one of the three is used

        return AssistantsChat(target, screen)
    if target.api == "chat":
        from askmill.jobs.chat.completions import CompletionsChat  # noqa: PLC0415

        return CompletionsChat(target, screen)
    from askmill.jobs.chat.responses import ResponsesChat  # noqa: PLC0415

    return ResponsesChat(target, screen)
