"""Classifies API errors: is the account out of money, or does the model not exist? Pure.

Used for refused requests, runs that end `failed`, `doctor`, `chat` and uploads. Codes and types decide first.
Words count only at the start of the error's own sentence: quoted text is removed, and the words of an error
about the row's content never count, since they may repeat the question.

Sources: docs/decisions/retries.md; every text is in tests/unit/lifecycle/refusal_texts.py.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MONEY_CODES = frozenset({
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "billing_not_active",
    "access_terminated",
    "budget_exceeded",
    "credit_limit",
    "billing_error",
    "blocked_api_access",
    "exceeded_current_quota_error",
    "arrearage",
    "insufficient_balance",
    "insufficient_credits",
    "insufficient_funds",
    "insufficient_user_quota",
    "payment_required",
})  # fmt: skip
"""Codes and types of errors that persist until somebody pays or raises a limit."""

SPEND_LIMIT_CODE = re.compile(r"(^|_)spend(ing)?_limit|^spend_")
"""Groq sends several codes of this form instead of the documented one."""

MODEL_CODES = frozenset({
    "model_not_found",
    "deploymentnotfound",
    "unknown_model",
    "unknownmodel",
    "invalid_model",
    "model_not_available",
    "model_decommissioned",
    "dedicated_endpoint_not_running",
})  # fmt: skip
"""Codes and types of errors about a model that does not exist."""

CONTENT_CODES = frozenset({
    "invalid_prompt",
    "content_filter",
    "content_policy",
    "content_policy_violation",
    "responsibleaipolicyviolation",
    "context_length_exceeded",
    "exceed_context_size_error",
    "string_above_max_length",
    "moderation",
    "moderation_blocked",
})  # fmt: skip
"""Codes of errors about a row's content: their words may quote the question."""

CONTENT_PARAMS = re.compile(r"^(input|messages|content|additional_messages|prompt)")

IN_FLIGHT_CODE = "in_flight_budget_exhausted"
"""OpenRouter: a 402 that clears when the requests in flight have ended."""
PAYMENT_CODES = frozenset({"402", "http_402"})
"""The status as a code: some servers send it, and pause reasons contain it."""

SENTENCE_START = r"(?:^|[.!:>\n]\s{1,4}|\s-\s)"
"""Where a sentence starts, also after a gateway's `litellm.BadRequestError: OpenAIException - `."""
GATEWAY_PREFIX = re.compile(
    r"[^:]{0,80}?\b\w*(?:error|exception|failed)\b[^:]{0,40}?(?:: | - )|\d{3}:? ", re.IGNORECASE
)
MAX_PREFIXES = 6
"""The most gateway prefixes in a row that are removed."""

MONEY_SENTENCES = re.compile(
    SENTENCE_START + r"(?:"
    r"you(?:'ve| have)? exceeded your current quota,? (?:please )?check your plan"  # OpenAI, Moonshot
    r"|budget has been exceeded!?"  # LiteLLM
    r"|exceededbudget:"
    r"|(?:litellm [\w -]+: ?[^,]{1,80}, )?exceeded budget for (?:model|deployment|provider|key|user|team)"
    r"|no deployments available - crossed budget"
    r"|(?:this request )?requires more credits"  # OpenRouter
    r"|prompt tokens limit exceeded: \d+ > \d+\. to increase, visit"
    r"|your credit balance is too low"  # Anthropic
    r"|you have reached your specified (?:\w+ )?api usage limits"
    r"|credit limit exceeded"  # Together
    r"|your team \S+ has either used all available credits"  # xAI
    r"|you have run out of credits"
    r"|your (?:available )?credits? (?:is|are) (?:exhausted|depleted|used up)"
    r"|you have exceeded your monthly included credits"  # Hugging Face
    r"|account \S+ is suspended, possibly due to reaching the monthly spending limit"  # Fireworks
    r"|your account (?:\S+ ){0,3}is suspended due to insufficient balance"  # Moonshot
    r"|billing hard limit has been reached"
    r"|your account is not active, please check your billing"
    r"|余额不足"  # Zhipu
    r")",
    re.IGNORECASE,
)

MONEY_WORDS = re.compile(
    r"(?:(?:sorry, )?(?:your )?account balance is (?:insufficient|too low|not enough)"
    r"|insufficient (?:account )?(?:balance|credits?|funds)\b"
    r"|payment required\b)",
    re.IGNORECASE,
)
"""Too common to count except at the very start."""

RATE_LIMIT_WORDS = re.compile(
    r"(?:try|retry)(?: again)? (?:in|after) \d|per (?:minute|min|second|day)\b"
    r"|quota ?metric|quota exceeded for|resource_exhausted|ai\.google\.dev/gemini-api/docs/rate-limits",
    re.IGNORECASE,
)
RATE_LIMIT_CODE = "resource_exhausted"
"""An ordinary rate limit. Gemini's message starts like OpenAI's message about an exhausted quota."""

MODEL_NAME = r"(?:§|[\w./:@-]+)"
MODEL_SENTENCES = re.compile(
    SENTENCE_START + r"(?:"
    rf"(?:the )?(?:requested )?model {MODEL_NAME} (?:does not exist|was not found|not found|is not found)"
    rf"|(?:the )?model {MODEL_NAME} has been (?:deprecated|decommissioned)"
    rf"|(?:the )?models/{MODEL_NAME} (?:is|was) not found"  # Gemini
    rf"|{MODEL_NAME} is not a valid model id\b"  # OpenRouter
    r"|model not exist\b"  # DeepSeek
    r"|invalid model name passed in model="  # LiteLLM
    rf"|invalid model: {MODEL_NAME}"  # Mistral
    rf"|unknown model: {MODEL_NAME}"  # Azure
    rf"|unable to access (?:non-serverless )?model {MODEL_NAME}"  # Together
    r"|the api deployment for this resource does not exist"  # Azure
    rf"|no available channel for model {MODEL_NAME}"
    r")",
    re.IGNORECASE,
)
ANTHROPIC_MODEL = re.compile(r"^model: \S+$")

QUOTED_TEXT = re.compile(r"\"[^\"\n]*\"|“[^”]*”|«[^»]*»|`[^`\n]*`|(?<![\w])'[^'\n]*'(?!\w)")
NESTED_KEYS = ("error", "message", "detail", "details", "body")
CODE_KEYS = ("code", "type", "status", "error_code")
MAX_DEPTH = 8
MAX_MESSAGE_CHARACTERS = 20_000
MAX_SENTENCE_CHARACTERS = 4_000
"""Longer sentences are cut before they are searched."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """One error of the API: a refused request, or the error of a run (then `status` is None)."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    status: int | None = None
    retry_after_s: float | None = None


def money_refused(error: ErrorReport) -> bool:
    """Whether the API refuses all requests until somebody adds credit or raises a spend limit."""
    codes, sentences = _codes_and_sentences(error)
    if IN_FLIGHT_CODE in codes:
        return False
    if any(code in MONEY_CODES or SPEND_LIMIT_CODE.search(code) for code in codes):
        return True
    if RATE_LIMIT_CODE not in codes and any(_is_money_sentence(sentence) for sentence in sentences):
        return True
    # A 402 with Retry-After clears by itself, unless its words say that money is refused.
    return error.retry_after_s is None and (error.status == 402 or bool(codes & PAYMENT_CODES))


def model_missing(error: ErrorReport) -> bool:
    """Whether the error says that the model does not exist."""
    codes, sentences = _codes_and_sentences(error)
    if any(code in MODEL_CODES for code in codes):
        return True
    if "not_found_error" in codes and any(ANTHROPIC_MODEL.match(sentence) for sentence in sentences):
        return True
    return any(MODEL_SENTENCES.search(_unquoted(sentence)) for sentence in sentences)


def clears_by_itself(error: ErrorReport) -> bool:
    """Whether a 402 only asks to wait for the requests in flight."""
    if error.status != 402 or money_refused(error):
        return False
    return error.retry_after_s is not None or IN_FLIGHT_CODE in _codes_and_sentences(error)[0]


def reason_of(error: ErrorReport) -> str:
    """The error as a text `code: message` that `report_of_text` parses into the same classification."""
    code = error.code or error.type or (f"http_{error.status}" if error.status else "no_reply")
    for predicate in (money_refused, model_missing):
        if predicate(error):
            codes = (
                code,
                error.type,
                "payment_required" if predicate is money_refused else "model_not_found",
            )
            texts = (f"{name}: {error.message}" if error.message else name for name in codes if name)
            return next(text for text in texts if predicate(report_of_text(text)))
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


def _is_money_sentence(sentence: str) -> bool:
    if RATE_LIMIT_WORDS.search(sentence):
        return False
    plain = _unquoted(sentence)
    return MONEY_SENTENCES.search(plain) is not None or MONEY_WORDS.match(_without_prefix(plain)) is not None


def _unquoted(sentence: str) -> str:
    return QUOTED_TEXT.sub("§", sentence)


def _without_prefix(sentence: str) -> str:
    for _ in range(MAX_PREFIXES):
        if (prefix := GATEWAY_PREFIX.match(sentence)) is None:
            break
        sentence = sentence[prefix.end() :]
    return sentence


def _codes_and_sentences(error: ErrorReport) -> tuple[set[str], list[str]]:
    """All codes and types in lower case, and the sentences to search: none if they may quote the row."""
    codes = {code.lower() for code in (error.code, error.type) if code}
    if codes & CONTENT_CODES or CONTENT_PARAMS.match(error.param or ""):
        return codes, []
    sentences = [error.message]
    for kind, text in _nested(error.message, MAX_DEPTH):
        if kind == "code":
            codes.add(text.lower())
        else:
            sentences.append(text)
    return codes, [] if codes & CONTENT_CODES else [
        sentence[:MAX_SENTENCE_CHARACTERS] for sentence in sentences
    ]


def _nested(message: str, depth: int) -> Iterator[tuple[str, str]]:
    """Codes and messages of an error object inside a message, written as JSON or as a Python dict."""
    start, end = message.find("{"), message.rfind("}")
    if depth and 0 <= start < end and len(message) <= MAX_MESSAGE_CHARACTERS:
        yield from _fields(_parse_object(message[start : end + 1]), depth - 1)


def _parse_object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _fields(value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield "message", value
        yield from _nested(value, depth)
    elif isinstance(value, list) and depth:
        for entry in value[:10]:
            yield from _fields(entry, depth - 1)
    elif isinstance(value, dict) and depth:
        yield from (("code", str(value[key])) for key in CODE_KEYS if isinstance(value.get(key), str | int))
        for key in NESTED_KEYS:
            yield from _fields(value.get(key), depth - 1)
