"""Whether a server may have cut what it was sent, without a word. Pure.

Ollama drops the oldest messages over `num_ctx`, then the beginning of the last one, and answers what is left.
Its `prompt_tokens` are those that were left.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from askmill.worker.lifecycle.api_types import Answer, Run

MIN_CHARACTERS = 2_000
"""Shorter prompts fit every context."""
UNUSUAL_RATIO, IMPOSSIBLE_RATIO = 5.5, 9.0
"""Characters a token: 3.5 to 5 in texts of most languages, fewer in Chinese or Japanese, up to 8 in tables of
blanks."""
CONTEXT_STEP, BELOW = 1024, 0.01
"""Contexts are multiples of 1,024 tokens; a cut prompt fills its own, but for some tokens."""
WARNING = "warning"
"""In the details of a message step."""


def with_cut_warning(run: Run, messages: Collection[Mapping[str, Any]]) -> Run:
    """The run with a warning in its message step, if its prompt seems to have been cut."""
    characters, tokens = sum(map(_characters, messages)), run.usage.prompt_tokens
    if run.answer is None or tokens is None or not seems_cut(characters, tokens):
        return run
    words = (
        f"the context may have been cut: {characters:,} characters were sent, and the server counts "
        f"{tokens:,} prompt tokens; give it a longer context (Ollama: num_ctx)"
    )
    steps = [
        replace(step, details={**step.details, WARNING: words}) if step.type == "message" else step
        for step in run.answer.steps
    ]
    return replace(run, answer=replace(run.answer, steps=tuple(steps)))


def seems_cut(characters: int, prompt_tokens: int) -> bool:
    """Whether so few prompt tokens can hardly stand for so many characters."""
    if characters < MIN_CHARACTERS or prompt_tokens <= 0:
        return False
    ratio = characters / prompt_tokens
    missing = -prompt_tokens % CONTEXT_STEP
    fills_a_context = missing <= BELOW * prompt_tokens
    return ratio > IMPOSSIBLE_RATIO or (ratio > UNUSUAL_RATIO and fills_a_context)


def warnings_in(answer: Answer | None) -> int:
    """How many steps of the answer have a warning."""
    return 0 if answer is None else sum(WARNING in step.details for step in answer.steps)


def _characters(message: Mapping[str, Any]) -> int:
    """The text of a message: images and function calls are counted in other ways."""
    content = message.get("content")
    if isinstance(content, str):
        return len(content)
    parts = content if isinstance(content, list) else []
    return sum(len(str(part.get("text") or "")) for part in parts if isinstance(part, dict))
