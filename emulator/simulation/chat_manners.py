"""The `[chat]` table of a scenario: how a server of chat completions behaves.

docs/decisions/emulator.md has the meaning of each key and the servers that behave so.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from askmill.emulator.protocol.error_shapes import SHAPES
from askmill.emulator.simulation.scenario_tables import (
    ScenarioError,
    check_keys,
    read_count,
    read_flag,
    read_number,
    read_share,
    read_word,
    read_words,
)

CUTS = ("eof", "done", "json", "abort")
FIELDS = (
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning_effort",
    "response_format",
    "seed",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
)
"""Fields of a request that a server may ignore or refuse."""


@dataclass(frozen=True, slots=True)
class ChatManners:
    """The default: OpenAI's chat completions, without limits of slots or context."""

    error_shape: str = "openai"
    usage: str = "asked"
    reasoning: str = "none"
    keep_alive: str = "none"
    keep_alive_s: float = 1.0
    cut_stream: float = 0.0
    cut_as: tuple[str, ...] = CUTS
    slots: int = 0
    """Calls at once; 0: any number."""
    queue_max: int | None = None
    """Calls that wait for a slot; None: any number."""
    context_tokens: int = 0
    """Most tokens of a prompt; 0: any number."""
    ignores: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    echo: str = "none"
    on_disconnect: str = "abort"
    loading_s: float = 0.0
    loading_status: int = 503
    models: tuple[str, ...] = ()
    """Models that are there; empty: any whose name does not begin with `no-such`."""
    no_model_status: int = 404
    needs_key: bool = True
    only: bool = False
    """Chat completions and models are all that is served."""


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "error_shape": partial(read_word, words=SHAPES),
    "usage": partial(read_word, words=("always", "asked", "never", "no_details")),
    "reasoning": partial(read_word, words=("none", "reasoning", "reasoning_content", "think", "chunks")),
    "keep_alive": partial(read_word, words=("none", "comments", "blank_lines")),
    "keep_alive_s": read_number,
    "cut_stream": read_share,
    "cut_as": partial(read_words, words=CUTS),
    "slots": read_count,
    "queue_max": read_count,
    "context_tokens": read_count,
    "ignores": partial(read_words, words=(*FIELDS, "context_tokens")),
    "refuses": partial(read_words, words=FIELDS),
    "echo": partial(read_word, words=("none", "reasoning_content", "thought_signature")),
    "on_disconnect": partial(read_word, words=("abort", "run_on")),
    "loading_s": read_number,
    "loading_status": partial(read_word, words=(503, 500)),
    "models": read_words,
    "no_model_status": partial(read_word, words=(404, 400, 500)),
    "needs_key": read_flag,
    "only": read_flag,
}


def read_manners(table: dict[str, Any]) -> ChatManners:
    """The manners that a `[chat]` table sets; ScenarioError naming the key of a bad value."""
    check_keys("chat", table, [field.name for field in fields(ChatManners)])
    manners = ChatManners(**{key: _READERS[key](f"chat.{key}", value) for key, value in table.items()})
    if manners.keep_alive != "none" and not manners.keep_alive_s:
        raise ScenarioError("chat.keep_alive_s must be above 0 with chat.keep_alive")
    if manners.cut_stream and not manners.cut_as:
        raise ScenarioError("chat.cut_as must name at least one way to cut, with chat.cut_stream")
    if manners.queue_max is not None and not manners.slots:
        raise ScenarioError("chat.queue_max needs chat.slots: without slots no call waits")
    if manners.echo == "reasoning_content" and manners.reasoning != "reasoning_content":
        raise ScenarioError('chat.echo = "reasoning_content" needs chat.reasoning = "reasoning_content"')
    return manners
