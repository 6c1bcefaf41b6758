"""What a run says: the tutor's answer (or a file's passage), in the form its outcome and settings ask for.

The same for both APIs: an `Ask` goes in, an `Answer` comes out, `runs` and `responses` write it down in their
own objects.
"""

import math
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import orjson

from askmill.emulator.simulation.bm25 import Passage
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.samples import CHART_PNG, sample_object, spoiled_object

REFUSAL = "I'm sorry, but I can't help with that."
LONG_SENTENCES = 300
SHORT_CHARS = 2000
_TOKEN = re.compile(r"\w+|[^\w\s]")


class Tutored(Protocol):
    """What the tutor says: the text, and the code it ran with its log, when it computed."""

    @property
    def text(self) -> str: ...
    @property
    def code(self) -> str | None: ...
    @property
    def logs(self) -> str | None: ...


class Tutor(Protocol):
    """Who is asked; as `emulator.tutor`."""

    async def start(self) -> None: ...
    async def answer(self, question: str) -> Tutored: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """What one run was asked, fixed at creation.

    `already` is what an earlier, cut answer to the same question has said; `outputs` what the functions it
    called returned; `max_tokens` the completion limit; `prompt_tokens` what was read.
    """

    question: str
    already: str = ""
    tools: tuple[str, ...] = ()
    vector_store_ids: tuple[str, ...] = ()
    file_ids: tuple[str, ...] = ()
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    as_object: bool = False
    outputs: tuple[str, ...] = ()
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file that the run generated."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the run did and said: searches, code, then messages. `cut`: a limit ended it."""

    messages: tuple[str, ...]
    code: str | None = None
    logs: str | None = None
    passages: tuple[Passage, ...] | None = None
    searched_web: bool = False
    reasoned: bool = False
    cites_often: bool = False
    made: MadeFile | None = None
    left: MadeFile | None = None
    """Left where the code ran, without a word about it."""
    image: MadeFile | None = None
    refusal: str = ""
    cut: bool = False
    completion_tokens: int = field(default=0)


def count_tokens(text: str) -> int:
    """Words and marks, with a third on top: near what real tokenizers count, and always the same."""
    return _count_short(text) if len(text) <= SHORT_CHARS else _count(text)


def _count(text: str) -> int:
    return math.ceil(len(_TOKEN.findall(text)) * 4 / 3)


# The same instructions and answers are counted for every run of a batch.
_count_short = lru_cache(maxsize=1024)(_count)


def cut_to(text: str, tokens: int) -> str:
    """The longest beginning of at most so many tokens, ending behind a word."""
    words = list(_TOKEN.finditer(text))
    keep = min(len(words), tokens * 3 // 4)
    return text[: words[keep - 1].end()] if keep else ""


def shape_answer(ask: Ask, outcome: Outcome, said: Tutored, passages: tuple[Passage, ...] | None) -> Answer:
    """The answer of a run that reached its end with this outcome."""
    full = _full_text(ask, outcome, said, passages)
    text = full.removeprefix(ask.already)
    answer = Answer(messages=(text,), passages=passages)
    if said.code is not None and "code_interpreter" in ask.tools:
        answer = replace(answer, code=said.code, logs=said.logs or "")
    answer = _limited(_varied(answer, outcome), ask, outcome)
    tokens = sum(map(count_tokens, (*answer.messages, answer.code or "", answer.refusal)))
    if answer.cut and ask.max_tokens is not None:
        tokens = ask.max_tokens
    return replace(answer, completion_tokens=tokens)


def _full_text(ask: Ask, outcome: Outcome, said: Tutored, passages: tuple[Passage, ...] | None) -> str:
    text = said.text
    if passages:
        text = f"From {passages[0].filename}: {passages[0].text.strip()}"
    if ask.outputs:
        text = "\n".join(("The functions returned:", *ask.outputs))
    if outcome.arg == "long":
        text += "".join(f" This is sentence {i} of a long answer." for i in range(1, LONG_SENTENCES + 1))
    if outcome.arg == "bad_json":
        return spoiled_object(ask.schema)
    if ask.schema is not None:
        return orjson.dumps(sample_object(ask.schema, text)).decode()
    if ask.as_object or outcome.arg == "json":
        return orjson.dumps({"answer": text}).decode()
    return text


def _varied(answer: Answer, outcome: Outcome) -> Answer:
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
            return replace(answer, made=_table(text))
        case "left_file":
            code = f'{answer.code or ""}\nopen("/mnt/data/answer.csv", "w").write(table)\n'.lstrip()
            return replace(answer, left=_table(text), code=code, logs=answer.logs or "")
        case "citations":
            return replace(answer, cites_often=True)
        case "image":
            return replace(answer, image=MadeFile("chart.png", CHART_PNG))
        case "reasoning":
            return replace(answer, reasoned=True)
        case "web_search":
            return replace(answer, searched_web=True)
        case _:
            return answer


def _limited(answer: Answer, ask: Ask, outcome: Outcome) -> Answer:
    """The answer cut where its token limit, or its direction, ends it."""
    if outcome.name == "incomplete" and outcome.arg == "max_prompt_tokens":
        return replace(answer, messages=(), code=None, logs=None)
    total = sum(map(count_tokens, answer.messages))
    limit = ask.max_tokens if ask.max_tokens is not None else total
    if outcome.name == "incomplete" or outcome.partial:
        limit = min(limit, max(2, total // 2))
    elif total <= limit:
        return answer
    kept = []
    for text in answer.messages:
        piece = cut_to(text, limit)
        limit -= count_tokens(piece)
        kept.append(piece)
    return replace(answer, messages=tuple(piece for piece in kept if piece), cut=True)


def _table(text: str) -> MadeFile:
    return MadeFile("answer.csv", f"answer\r\n{_quoted(text)}\r\n".encode())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
