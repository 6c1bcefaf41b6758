"""Compose the answer of a run, in the form that its outcome and settings ask for.

The same for both APIs: a `Prompt` and the tutor's reply go in, an `Answer` comes out; `RunWriter` and
`ItemWriter` turn it into the objects of their API.
"""

import math
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

import orjson

from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.file_search import Passage
from askmill.emulator.simulation.prompt import Prompt
from askmill.emulator.simulation.samples import CHART_PNG, invalid_object, sample_object

REFUSAL = "I'm sorry, but I can't help with that."
LONG_SENTENCES = 300
SHORT_CHARS = 2000
_TOKEN = re.compile(r"\w+|[^\w\s]")


class TutorReply(Protocol):
    """The tutor's text; code and the log of the code where it computed something."""

    @property
    def text(self) -> str: ...
    @property
    def code(self) -> str | None: ...
    @property
    def logs(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Echo:
    """A reply that costs nothing."""

    text: str
    code: str | None = None
    logs: str | None = None


class Tutor(Protocol):
    """Answers questions; implemented by `emulator.tutor`."""

    async def start(self) -> None: ...
    async def answer(self, question: str) -> TutorReply: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A file that the run generated."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the run produced: searches, code, then messages. `truncated`: a limit ended it."""

    messages: tuple[str, ...]
    code: str | None = None
    logs: str | None = None
    passages: tuple[Passage, ...] | None = None
    used_web_search: bool = False
    used_reasoning: bool = False
    dense_citations: bool = False
    linked_file: GeneratedFile | None = None
    unlinked_file: GeneratedFile | None = None
    """A file that code wrote and that no message mentions."""
    image: GeneratedFile | None = None
    refusal: str = ""
    truncated: bool = False
    completion_tokens: int = field(default=0)


def count_tokens(text: str) -> int:
    """Estimate tokens as words and marks plus a third; deterministic and close to real tokenizers."""
    return _count_short(text) if len(text) <= SHORT_CHARS else _count(text)


def _count(text: str) -> int:
    return math.ceil(len(_TOKEN.findall(text)) * 4 / 3)


# The same instructions and answers are counted for every run of a batch.
_count_short = lru_cache(maxsize=1024)(_count)


def truncate_text(text: str, tokens: int) -> str:
    """Return the longest beginning of at most `tokens` tokens that ends behind a word."""
    words = list(_TOKEN.finditer(text))
    keep = min(len(words), tokens * 3 // 4)
    return text[: words[keep - 1].end()] if keep else ""


def compose_answer(
    prompt: Prompt, outcome: Outcome, reply: TutorReply, passages: tuple[Passage, ...] | None
) -> Answer:
    """The answer of a run that reached its end with this outcome."""
    full = _full_text(prompt, outcome, reply, passages)
    text = full.removeprefix(prompt.answer_so_far)
    answer = Answer(messages=(text,), passages=passages)
    if reply.code is not None and "code_interpreter" in prompt.tools:
        answer = replace(answer, code=reply.code, logs=reply.logs or "")
    answer = _apply_limits(_apply_variant(answer, outcome), prompt, outcome)
    tokens = sum(map(count_tokens, (*answer.messages, answer.code or "", answer.refusal)))
    if answer.truncated and prompt.max_tokens is not None:
        tokens = prompt.max_tokens
    return replace(answer, completion_tokens=tokens)


def _full_text(
    prompt: Prompt, outcome: Outcome, reply: TutorReply, passages: tuple[Passage, ...] | None
) -> str:
    text = reply.text
    if passages:
        text = f"From {passages[0].filename}: {passages[0].text.strip()}"
    if prompt.outputs:
        text = "\n".join(("The functions returned:", *prompt.outputs))
    if outcome.arg == "long":
        text += "".join(f" This is sentence {i} of a long answer." for i in range(1, LONG_SENTENCES + 1))
    if outcome.arg == "bad_json":
        return invalid_object(prompt.schema)
    if prompt.schema is not None:
        return orjson.dumps(sample_object(prompt.schema, text, prompt.question)).decode()
    if prompt.json_object or outcome.arg == "json":
        return orjson.dumps({"answer": text}).decode()
    return text


def _apply_variant(answer: Answer, outcome: Outcome) -> Answer:
    """The answer under a variant of `completed`."""
    (text,) = answer.messages
    match outcome.arg:
        case "no_message":
            return replace(answer, messages=())
        case "two_messages":
            return replace(answer, messages=("Let me think about that.", text))
        case "refusal":
            return replace(answer, messages=(), refusal=REFUSAL, code=None, logs=None)
        case "file":
            return replace(answer, linked_file=_table(text))
        case "left_file":
            code = f'{answer.code or ""}\nopen("/mnt/data/answer.csv", "w").write(table)\n'.lstrip()
            return replace(answer, unlinked_file=_table(text), code=code, logs=answer.logs or "")
        case "citations":
            return replace(answer, dense_citations=True)
        case "image":
            return replace(answer, image=GeneratedFile("chart.png", CHART_PNG))
        case "reasoning":
            return replace(answer, used_reasoning=True)
        case "web_search":
            return replace(answer, used_web_search=True)
        case _:
            return answer


def _apply_limits(answer: Answer, prompt: Prompt, outcome: Outcome) -> Answer:
    """Truncate the answer at its token limit or where its directive says."""
    if outcome.name == "incomplete" and outcome.arg == "max_prompt_tokens":
        return replace(answer, messages=(), code=None, logs=None)
    total = sum(map(count_tokens, answer.messages))
    limit = prompt.max_tokens if prompt.max_tokens is not None else total
    if outcome.name == "incomplete" or outcome.partial:
        limit = min(limit, max(2, total // 2))
    elif total <= limit:
        return answer
    pieces = []
    for text in answer.messages:
        piece = truncate_text(text, limit)
        limit -= count_tokens(piece)
        pieces.append(piece)
    return replace(answer, messages=tuple(piece for piece in pieces if piece), truncated=True)


def _table(text: str) -> GeneratedFile:
    return GeneratedFile("answer.csv", f"answer\r\n{_quoted(text)}\r\n".encode())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
