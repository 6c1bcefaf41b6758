"""Directives in a question, which set the outcomes of its runs.

    [emulate: expired, failed(server_error), completed after=2]

One outcome per attempt; the last one repeats. `after=SECONDS` behind an outcome is the duration of that run;
as an item of its own it applies to all outcomes without one. Pure.

    item    = NAME [ "(" arguments ")" ] [ "rounds=" NUMBER ] [ "after=" SECONDS ]  |  "after=" SECONDS
    arguments of requires_action = FUNCTION "," JSON { "," FUNCTION "," JSON }
    arguments of failed          = CODE [ "," MESSAGE, a JSON string ] [ ", partial" ]
    arguments of refused         = a word of REFUSALS: no run is created, and none counts
"""

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache

OPENING = "[emulate:"
# Ways in which the create of a run is refused for its content; emulator.protocol.errors has the replies.
REFUSALS = ("content_filter", "image_url", "firewall", "too_large", "too_long", "bad_request")

# Every outcome and the arguments it takes; None: any word, () : none.
VARIANTS: dict[str, tuple[str, ...] | None] = {
    "completed": (
        "no_message",
        "two_messages",
        "long",
        "file",
        "left_file",  # written by code, not mentioned in the message
        "image",
        "citations",  # in every awkward place
        "refusal",
        "json",
        "bad_json",
        "reasoning",
        "web_search",
    ),
    "failed": None,
    "expired": ("partial",),  # a message cut short stays on the thread
    "cancelled": ("partial",),
    "incomplete": ("max_completion_tokens", "max_prompt_tokens", "content_filter"),
    "requires_action": None,
    "stuck": (),
    "unknown": None,
    "refused": REFUSALS,
}
_NEEDS_ARGUMENT = frozenset({"failed", "incomplete", "requires_action", "unknown", "refused"})

_NAME = re.compile(r"\s*([a-z_]+)")
_ROUNDS = re.compile(r"\s*rounds=([1-9][0-9]*)")
_AFTER = re.compile(r"\s*after=([0-9]+(?:\.[0-9]+)?)")
_MESSAGE = re.compile(r'\s*([A-Za-z0-9_.-]+)\s*,\s*"')
_CLOSED = re.compile(r"\s*(?:,\s*(partial)\s*)?\)")
_DECODER = json.JSONDecoder()


class DirectiveError(ValueError):
    """A misspelt directive; the message names the word and the valid ones."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ends. `arg` is the text in brackets; `calls` are (function, arguments as JSON text).

    `rounds`: how often a run that calls functions calls them, each time after the outputs of the time before.
    """

    name: str = "completed"
    arg: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    after_s: float | None = None
    rounds: int = 1
    message: str = ""
    """The error message, where the directive has one."""

    @property
    def partial(self) -> bool:
        """Whether a run that dies leaves a message cut short: `expired(partial)`, `failed(CODE, partial)`."""
        return self.arg.endswith("partial")


@lru_cache(maxsize=4096)
def parse_directives(text: str) -> tuple[tuple[Outcome, ...], str]:
    """Return the directed outcomes and the question without the directive; DirectiveError if misspelt."""
    start = text.find(OPENING)
    if start < 0:
        return (), text
    outcomes, end = _items(text, start + len(OPENING))
    return outcomes, (text[:start] + text[end:]).strip()


def parse_outcome(text: str) -> Outcome:
    """One outcome by itself, as the keys of a scenario's `[outcomes]` are written."""
    outcomes, end = _items(text + "]", 0)
    if len(outcomes) != 1 or end != len(text) + 1:
        raise DirectiveError(f"`{text}` is not one outcome")
    return outcomes[0]


def _items(text: str, at: int) -> tuple[tuple[Outcome, ...], int]:
    outcomes: list[Outcome] = []
    common_s: float | None = None
    while True:
        if alone := _AFTER.match(text, at):
            common_s, at = float(alone[1]), alone.end()
        else:
            outcome, at = _outcome(text, at)
            outcomes.append(outcome)
        at = _skip_space(text, at)
        mark = text[at : at + 1]
        if mark == "]":
            break
        if mark != ",":
            raise DirectiveError(f"`{OPENING}` expects `,` or `]` before `{text[at : at + 20]}`")
        at += 1
    timed = (replace(o, after_s=common_s) if o.after_s is None else o for o in outcomes or [Outcome()])
    return tuple(timed), at + 1


def _outcome(text: str, at: int) -> tuple[Outcome, int]:
    named = _NAME.match(text, at)
    name = named[1] if named else text[at : at + 20].strip()
    if named is None or name not in VARIANTS:
        raise DirectiveError(f"`{name}` is no outcome; known: {', '.join(VARIANTS)}")
    at = named.end()
    outcome = Outcome(name)
    if text[at : at + 1] == "(":
        outcome, at = _arguments(name, text, at + 1)
    elif name in _NEEDS_ARGUMENT:
        raise DirectiveError(f"`{name}` needs an argument in brackets")
    if outcome.calls and (rounds := _ROUNDS.match(text, at)):
        outcome, at = replace(outcome, rounds=int(rounds[1])), rounds.end()
    if after := _AFTER.match(text, at):
        outcome, at = replace(outcome, after_s=float(after[1])), after.end()
    return outcome, at


def _arguments(name: str, text: str, at: int) -> tuple[Outcome, int]:
    if name == "requires_action":
        return _calls(text, at)
    if name == "failed" and (coded := _MESSAGE.match(text, at)):
        return _failure(coded[1], text, coded.end() - 1)
    end = text.find(")", at)
    arg = text[at:end].strip()
    variants = VARIANTS[name]
    if end < 0 or not arg or (variants is not None and arg not in variants):
        raise DirectiveError(
            f"`{name}({arg})` is not known; `{name}` takes {', '.join(variants or ('a word',))}"
        )
    return Outcome(name, arg), end + 1


def _failure(code: str, text: str, at: int) -> tuple[Outcome, int]:
    """`failed(CODE, "MESSAGE")`; the message begins at `at`."""
    try:
        message, at = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise DirectiveError(f"the message of `failed({code}, ...` is no JSON string: {error}") from None
    closed = _CLOSED.match(text, at)
    if closed is None:
        raise DirectiveError(f"`failed({code}, ...` is not closed behind its message")
    arg = f"{code}, partial" if closed[1] else code
    return Outcome("failed", arg, message=message), closed.end()


def _calls(text: str, at: int) -> tuple[Outcome, int]:
    calls = []
    while True:
        named = re.compile(r"\s*([A-Za-z0-9_-]+)\s*,\s*").match(text, at)
        if named is None:
            raise DirectiveError("`requires_action` is written requires_action(FUNCTION, JSON)")
        try:
            _, end = _DECODER.raw_decode(text, named.end())
        except json.JSONDecodeError as error:
            raise DirectiveError(f"the arguments of `{named[1]}` are not JSON: {error}") from None
        calls.append((named[1], text[named.end() : end]))
        at = _skip_space(text, end)
        if text[at : at + 1] == ")":
            return Outcome("requires_action", calls=tuple(calls)), at + 1
        if text[at : at + 1] != ",":
            raise DirectiveError("`requires_action(` is not closed")
        at += 1


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at
