"""Reads what an error of the API is about, by the words and codes of `jobs.model.fault_table`. Pure.

Used for refused requests, runs that end `failed`, `doctor`, `chat` and uploads. Codes and types decide first.
Words count only where a sentence of the error itself begins: quoted text is removed, and the words of an
error about the row's content never count, since they may repeat the question.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

from askmill.jobs.model.fault_table import (
    CONTENT_PARAMS,
    IN_FLIGHT_CODE,
    LATER_WORDS,
    PAYMENT_CODES,
    RATE_LIMIT_CODE,
    RATE_LIMIT_WORDS,
    SPEND_LIMIT_CODE,
    TABLE,
    TOLD_WAIT,
    TOO_LARGE,
    FaultSubject,
    Place,
)
from askmill.jobs.model.nested_errors import MAX_DEPTH, duration_s, nested_texts

SENTENCE_START = r"(?:^|[.!:>\n]\s{1,4}|\s-\s)"
"""Where a sentence starts, also after a gateway's `litellm.BadRequestError: OpenAIException - `."""
GATEWAY_PREFIX = re.compile(
    r"[^:]{0,80}?\b\w*(?:error|exception|failed)\b[^:]{0,40}?(?:: | - )|\d{3}:? ", re.IGNORECASE
)
MAX_PREFIXES = 6
"""The most gateway prefixes in a row that are removed."""
ANTHROPIC_MODEL = re.compile(r"^model: \S+$")
NOT_FOUND_WORDS = re.compile(
    r"not found|does not exist|doesn't exist|unknown|no such model|invalid model", re.IGNORECASE
)
QUOTED_TEXT = re.compile(r"\"[^\"\n]*\"|“[^”]*”|«[^»]*»|`[^`\n]*`|(?<![\w])'[^'\n]*'(?!\w)")
MAX_SENTENCE_CHARACTERS = 4_000
"""Longer sentences are cut before they are searched."""
CACHED_ERRORS = 256
"""A failing API sends the same error again and again, and each is asked about several times."""
MAX_TOLD_WAIT_S = 7 * 86_400.0
"""A longer wait that a server asks for is cut to this; then it is asked again."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """One error of the API: a refused request, or the error of a run (then `status` is None)."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None
    retry_after_s: float | None = None
    """From the reply's headers."""
    nested_codes: tuple[str, ...] = ()
    """Codes deeper in the error object, such as `innererror.code` and `details.error_code`."""


@lru_cache(maxsize=CACHED_ERRORS)
def money_refused(error: ErrorReport) -> bool:
    """Whether the API refuses all requests until an account owner adds credit or raises a spend limit."""
    codes, sentences = _codes_and_sentences(error)
    if IN_FLIGHT_CODE in codes:
        return False
    if codes & _codes_of(FaultSubject.MONEY) or any(SPEND_LIMIT_CODE.search(code) for code in codes):
        return True
    if any(_found(FaultSubject.MONEY, Place.ANYWHERE, sentence) for sentence in sentences):
        return True
    if RATE_LIMIT_CODE not in codes and any(_is_money_sentence(sentence) for sentence in sentences):
        return True
    # A 402 with Retry-After clears by itself, unless its words say that money is refused.
    return requested_wait_s(error) is None and (error.status == 402 or bool(codes & PAYMENT_CODES))


def clears_by_itself(error: ErrorReport) -> bool:
    """Whether a 402 only asks to wait for the requests in flight."""
    if error.status != 402 or money_refused(error):
        return False
    return requested_wait_s(error) is not None or IN_FLIGHT_CODE in _codes_and_sentences(error)[0]


@lru_cache(maxsize=CACHED_ERRORS)
def model_missing(error: ErrorReport, model: str | None = None) -> bool:
    """Whether the error says that the model does not exist.

    Args:
        error: the error.
        model: the model that was asked for. Any words of something that does not exist count beside its name.
    """
    codes, sentences = _codes_and_sentences(error)
    if codes & _codes_of(FaultSubject.PROFILE):
        return True
    if "not_found_error" in codes and any(ANTHROPIC_MODEL.match(sentence) for sentence in sentences):
        return True
    if any(_found(FaultSubject.PROFILE, Place.SENTENCE, sentence) for sentence in sentences):
        return True
    return bool(model) and any(_names_missing_model(sentence, model or "") for sentence in sentences)


def _names_missing_model(sentence: str, model: str) -> bool:
    """Whether the sentence has the model's name, `model` and words of something that does not exist."""
    words = NOT_FOUND_WORDS.search(sentence)
    named = re.search(rf"(?<![\w.-]){re.escape(model)}(?![\w-])", sentence)
    return words is not None and named is not None and "model" in sentence.lower().replace(model.lower(), "")


@lru_cache(maxsize=CACHED_ERRORS)
def content_refused(error: ErrorReport) -> bool:
    """Whether the error is about this row's own words, pictures or length, whatever its status."""
    codes, sentences = _codes_and_sentences(error)
    if codes & _codes_of(FaultSubject.CONTENT) or too_large(error):
        return True
    return any(_found(FaultSubject.CONTENT, Place.SENTENCE, sentence) for sentence in sentences)


@lru_cache(maxsize=CACHED_ERRORS)
def too_large(error: ErrorReport) -> bool:
    """Whether the request asks for more than the limit ever allows: no wait helps."""
    _, sentences = _codes_and_sentences(error)
    for sentence in sentences:
        if match := TOO_LARGE.search(_unquoted(sentence)):
            limit, requested = (int(number.replace(",", "") or 0) for number in match.groups())
            return requested > limit
    return False


@lru_cache(maxsize=CACHED_ERRORS)
def key_refused(error: ErrorReport) -> bool:
    """Whether the error is about the key, its rights or its account."""
    codes, sentences = _codes_and_sentences(error)
    if error.status == 401 or codes & {"401", "http_401"} or codes & _codes_of(FaultSubject.KEY):
        return True
    return any(_found(FaultSubject.KEY, Place.SENTENCE, sentence) for sentence in sentences)


@lru_cache(maxsize=CACHED_ERRORS)
def overloaded(error: ErrorReport) -> bool:
    """Whether the server refused the request for its load: nothing was carried out, and a wait helps."""
    codes, sentences = _codes_and_sentences(error)
    if codes & _codes_of(FaultSubject.SERVER):
        return True
    return any(_found(FaultSubject.SERVER, Place.ANYWHERE, sentence) for sentence in sentences)


def suggests_retry(error: ErrorReport) -> bool:
    """Whether the words ask to come back later, with or without a time."""
    _, sentences = _codes_and_sentences(error)
    plain = [_unquoted(sentence).lower() for sentence in sentences]
    return any(LATER_WORDS.search(text) for text in plain) or wait_in_words_s(error) is not None


def requested_wait_s(error: ErrorReport) -> float | None:
    """How long the server asks to wait, in seconds: by its headers, else by its words; None: not at all."""
    wait_s = wait_in_words_s(error) if error.retry_after_s is None else error.retry_after_s
    return None if wait_s is None else min(wait_s, MAX_TOLD_WAIT_S)


@lru_cache(maxsize=CACHED_ERRORS)
def wait_in_words_s(error: ErrorReport) -> float | None:
    """The wait that the error's words ask for, such as `try again in 6m0s`."""
    _, sentences = _codes_and_sentences(error)
    for sentence in sentences:
        if match := TOLD_WAIT.search(sentence):
            return duration_s(match[1])
    return None


def subject_of(error: ErrorReport) -> FaultSubject:
    """What the error is about, by its words and codes alone."""
    for subject, predicate in _PREDICATES:
        if predicate(error):
            return subject
    return FaultSubject.UNCLEAR


_PREDICATES: tuple[tuple[FaultSubject, Callable[[ErrorReport], bool]], ...] = (
    (FaultSubject.MONEY, money_refused),
    (FaultSubject.CONTENT, content_refused),
    (FaultSubject.PROFILE, model_missing),
    (FaultSubject.KEY, key_refused),
    (FaultSubject.SERVER, overloaded),
)
_CANONICAL_CODE = {
    FaultSubject.MONEY: "payment_required",
    FaultSubject.PROFILE: "model_not_found",
    FaultSubject.KEY: "invalid_api_key",
}
"""The code that makes a pause reason be read as its error was."""


def reason_of(error: ErrorReport) -> str:
    """The error as a text `code: message` that `report_of_text` parses into the same classification."""
    code = error.code or error.type or (f"http_{error.status}" if error.status else "no_reply")
    subject = subject_of(error)
    if (canonical := _CANONICAL_CODE.get(subject)) is not None:
        texts = (
            f"{name}: {error.message}" if error.message else name
            for name in (code, error.type, canonical)
            if name
        )
        return next(text for text in texts if subject_of(report_of_text(text)) is subject)
    return f"{code}: {error.message}" if error.message else code


def report_of_text(reason: str) -> ErrorReport:
    """Parse a text `code: message`, as stored in pause reasons and attempts."""
    code, colon, message = reason.partition(": ")
    return ErrorReport(message, code=code) if colon and " " not in code else ErrorReport(reason, code=reason)


def next_step(error: ErrorReport) -> str:
    """Advice for the user as one sentence; empty if the error is about neither money nor the model."""
    if money_refused(error):
        return "Add credit or raise the spend limit (the API's plan and billing)."
    if model_missing(error):
        return "Set --model or ASKMILL_MODEL to a model that the API has."
    return ""


# ── searching ──


@cache
def _codes_of(subject: FaultSubject) -> frozenset[str]:
    return frozenset().union(*(words.codes for words in TABLE if words.subject is subject))


@cache
def _pattern(subject: FaultSubject, place: Place) -> re.Pattern[str] | None:
    """All words of a subject that count at this place, as one pattern for lower-case text."""
    texts = [
        words.text for words in TABLE if words.subject is subject and words.place is place and words.text
    ]
    if not texts:
        return None
    start = SENTENCE_START if place is Place.SENTENCE else ""
    return re.compile(f"{start}(?:{'|'.join(texts)})")


def _found(subject: FaultSubject, place: Place, sentence: str) -> bool:
    pattern = _pattern(subject, place)
    if pattern is None:
        return False
    plain = _unquoted(sentence).lower()
    if place is Place.START:
        return pattern.match(_without_prefix(plain)) is not None
    return pattern.search(plain) is not None


def _is_money_sentence(sentence: str) -> bool:
    if RATE_LIMIT_WORDS.search(sentence):
        return False
    return any(_found(FaultSubject.MONEY, place, sentence) for place in (Place.SENTENCE, Place.START))


def _unquoted(sentence: str) -> str:
    return QUOTED_TEXT.sub("§", sentence)


def _without_prefix(sentence: str) -> str:
    for _ in range(MAX_PREFIXES):
        if (prefix := GATEWAY_PREFIX.match(sentence)) is None:
            break
        sentence = sentence[prefix.end() :]
    return sentence


@lru_cache(maxsize=CACHED_ERRORS)
def _codes_and_sentences(error: ErrorReport) -> tuple[frozenset[str], tuple[str, ...]]:
    """All codes and types in lower case, and the sentences to search: none if they may quote the row."""
    codes = {code.lower() for code in (error.code, error.type, *error.nested_codes) if code}
    if codes & _codes_of(FaultSubject.CONTENT) or CONTENT_PARAMS.match(error.param or ""):
        return frozenset(codes), ()
    sentences = [error.message]
    for kind, text in nested_texts(error.message, MAX_DEPTH):
        if kind == "code":
            codes.add(text.lower())
        else:
            sentences.append(text)
    if codes & _codes_of(FaultSubject.CONTENT):
        return frozenset(codes), ()
    return frozenset(codes), tuple(sentence[:MAX_SENTENCE_CHARACTERS] for sentence in sentences)
