"""The `[chat]` table of a scenario: how a server of chat completions behaves.

The text under each field is its line in docs/reference/scenario.md (`python docs/remake.py`).
docs/decisions/emulator.md has the servers that behave so.
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
    """Shape of error bodies; only `openai` refuses unknown fields. `detail`: bad requests are 422.
    `ok_with_error`: a failed call is HTTP 200 with the error as body or only event. `mid_stream`: it
    fails behind its first chunk.
    """
    usage: str = "asked"
    """When a reply has usage. `asked`: unstreamed, and streamed with `stream_options`. `no_details`:
    three numbers.
    """
    reasoning: str = "none"
    """Where visible reasoning stands: in a field of that name, in a block of the content (`think`), or
    in content as a list (`chunks`).
    """
    keep_alive: str = "none"
    """What is sent until the first chunk. `none`: nothing, not even the head. `comments`: in streams.
    `blank_lines`: before JSON too.
    """
    keep_alive_s: float = 1.0
    """Seconds between two of them."""
    cut_stream: float = 0.0
    """Share of streams that end without a `finish_reason`."""
    cut_as: tuple[str, ...] = CUTS
    """How they end, one drawn for each: a clean end, `[DONE]`, half a line, a dead connection."""
    slots: int = 0
    """Calls at once; the others wait. 0: any number."""
    queue_max: int | None = None
    """Calls that may wait for a slot; the others get 503 without `Retry-After`. Unset: any number."""
    context_tokens: int = 0
    """Most tokens of a prompt; longer ones are 400 `context_length_exceeded`. 0: any number."""
    ignores: tuple[str, ...] = ()
    """Fields that are ignored without a word. `context_tokens`: too long a prompt loses its oldest
    messages, then its beginning.
    """
    refuses: tuple[str, ...] = ()
    """Fields that are refused with 400 by name."""
    echo: str = "none"
    """What the client has to send back, else 400: `reasoning_content` (needs `reasoning` of that name;
    empty passes, null does not), or the `thought_signature` of the first tool call.
    """
    on_disconnect: str = "abort"
    """What a call does when its client goes."""
    loading_s: float = 0.0
    """How long calls are refused after the scenario is set, because the model loads."""
    loading_status: int = 503
    """Status of that refusal."""
    models: tuple[str, ...] = ()
    """Models that there are; empty: any whose name does not begin with `no-such`."""
    no_model_status: int = 404
    """Status for a model that there is not."""
    needs_key: bool = True
    """Whether a request without a key is refused."""
    only: bool = False
    """Whether chat completions and models are all that is served."""


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
