"""The table of faults: the codes and words by which servers say what an error is about. Data only.

    subject   what the error is about                     what askmill does
    content   this row's own content                      the row fails
    profile   the profile's model or another setting      the batch pauses
    money     this account's money                        the batch pauses
    key       this account's key and its rights           the batch pauses
    server    the server's state: load, a full queue      wait, and slow down
    way       the connection to the server                repeat, or pause
    unclear   nothing says what                           other rows are tried, each alone (on_refusal.py)

`jobs.model.api_errors` reads this table; `worker.lifecycle.error_table` adds the status and the request that
failed, and says what follows. Every text has its source here and its test in
tests/unit/lifecycle/refusal_texts.py.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class FaultSubject(StrEnum):
    """What an error is about."""

    CONTENT = "content"
    PROFILE = "profile"
    MONEY = "money"
    KEY = "key"
    SERVER = "server"
    WAY = "way"
    UNCLEAR = "unclear"


class Place(StrEnum):
    """Where in an error's text the words must stand. Quoted text never counts."""

    SENTENCE = "sentence"
    """At the start of a sentence, also after a gateway's prefix."""
    START = "start"
    """At the very start, behind a gateway's prefixes: these words are too common to count elsewhere."""
    ANYWHERE = "anywhere"


@dataclass(frozen=True)
class Words:
    """What one server, or several, say about one subject. Codes, and types, are compared in lower case."""

    subject: FaultSubject
    source: str
    codes: frozenset[str] = frozenset()
    text: str = ""
    """A regular expression, in lower case."""
    place: Place = Place.SENTENCE


def _codes(names: str) -> frozenset[str]:
    return frozenset(names.split())


MODEL_NAME = r"(?:§|[\w./:@-]+)"
"""A model's name; § stands for quoted text."""

TABLE: tuple[Words, ...] = (
    # ── money: persists until somebody pays or raises a limit ──
    Words(
        FaultSubject.MONEY,
        "OpenAI, error guide; dataline #175; image API",
        _codes("""insufficient_quota credit_balance_exhausted organization_spend_limit_exceeded
            project_spend_limit_exceeded organization_usage_limit_exceeded billing_hard_limit_reached
            billing_not_active access_terminated"""),
        r"you(?:'ve| have)? exceeded your current quota,? (?:please )?check your plan"
        r"|billing hard limit has been reached|your account is not active, please check your billing",
    ),
    Words(
        FaultSubject.MONEY,
        "LiteLLM #4208, #14144, #37000, #40002; OpenCRE #1102",
        _codes("budget_exceeded"),
        r"budget has been exceeded!?|exceededbudget:|no deployments available - crossed budget"
        r"|(?:litellm [\w -]+: ?[^,]{1,80}, )?"
        r"exceeded budget for (?:model|deployment|provider|key|user|team)",
    ),
    Words(
        FaultSubject.MONEY,
        "OpenRouter: openclaude #1125, API reference (limits of a key)",
        _codes("insufficient_credits payment_required"),
        r"(?:this request )?requires more credits"
        r"|prompt tokens limit exceeded: \d+ > \d+\. to increase, visit"
        r"|key limit exceeded \((?:total|daily|weekly|monthly) limit\)",
    ),
    Words(
        FaultSubject.MONEY,
        "Anthropic: claude-code #66314, API reference",
        _codes("billing_error"),
        r"your credit balance is too low|you have reached your specified (?:\w+ )?api usage limits",
    ),
    Words(
        FaultSubject.MONEY,
        "Gemini: gemini-cli #22486 (`limit: 0`: there is no free tier, waiting is in vain); RA.Aid #182",
        text=r"quota exceeded for metric: [^\s,]+, limit: 0(?![\d.])"
        r"|gemini [^\n]{1,60} doesn't have a free quota tier",
        place=Place.ANYWHERE,
    ),
    Words(FaultSubject.MONEY, "Together: edsl #2098", _codes("credit_limit"), r"credit limit exceeded"),
    Words(
        FaultSubject.MONEY,
        "xAI: continue #10373, pi-xai #10",
        text=r"your team \S+ has either used all available credits|you have run out of credits",
    ),
    Words(
        FaultSubject.MONEY,
        "Hugging Face, Fireworks (pollinations #12136), prepaid gateways",
        _codes("insufficient_user_quota insufficient_funds"),
        r"your (?:available )?credits? (?:is|are) (?:exhausted|depleted|used up)"
        r"|you have exceeded your monthly included credits"
        r"|account \S+ is suspended, possibly due to reaching the monthly spending limit",
    ),
    Words(
        FaultSubject.MONEY,
        "Moonshot; Zhipu 1113; Alibaba; Groq's spend limits (console.groq.com/docs/spend-limits)",
        _codes("exceeded_current_quota_error arrearage blocked_api_access"),
        r"your account (?:\S+ ){0,3}is suspended due to insufficient balance|余额不足",
    ),
    Words(
        FaultSubject.MONEY,
        "DeepSeek: api-docs error codes, also behind gateways",
        _codes("insufficient_balance"),
        r"(?:sorry, )?(?:your )?account balance is (?:insufficient|too low|not enough)"
        r"|insufficient (?:account )?(?:balance|credits?|funds)\b|payment required\b",
        Place.START,
    ),
    # ── content: this row's own words, pictures and length ──
    Words(
        FaultSubject.CONTENT,
        "OpenAI: RunObject.last_error, response_error.py, error guide",
        _codes("""invalid_prompt content_policy content_policy_violation context_length_exceeded
            string_above_max_length bio_policy misalignment_policy_violation moderation moderation_blocked
            invalid_image invalid_image_url invalid_image_format invalid_base64_image image_too_large
            image_too_small image_parse_error image_content_policy_violation invalid_image_mode
            image_file_too_large unsupported_image_media_type empty_image_file failed_to_download_image
            image_file_not_found request_too_large"""),
        r"invalid prompt: |your (?:prompt|input|request) (?:was|has been) (?:flagged|rejected|blocked)"
        r"|this model's maximum context length is|your input exceeds the context window"
        r"|(?:error while|failed to|could not|unable to) download(?:ing)? (?:the )?(?:file|image|multimodal)"
        r"|the image (?:data )?you provided",
    ),
    Words(
        FaultSubject.CONTENT,
        "Azure: helm #3327, openai-python #331",
        _codes("content_filter responsibleaipolicyviolation"),
        r"the response was filtered due to the prompt triggering",
    ),
    Words(
        FaultSubject.CONTENT,
        "LiteLLM: guardrails and ContentPolicyViolationError; OpenRouter's moderation (403)",
        _codes("contentpolicyviolationerror contextwindowexceedederror"),
        r"(?:litellm\.)?contentpolicyviolationerror|(?:litellm\.)?contextwindowexceedederror"
        r"|violated (?:content safety|guardrail) policy|content blocked by"
        r"|(?:§|[\w./:-]+) requires moderation",
    ),
    Words(
        FaultSubject.CONTENT,
        "Gemini, DeepSeek (Content Exists Risk), Alibaba (data_inspection_failed), Zhipu 1301",
        _codes("data_inspection_failed datainspectionfailed 1301"),
        r"content exists risk|input data may contain inappropriate content|the input token count \(?\d+"
        r"|系统检测到输入或生成内容可能包含不安全或敏感内容",
    ),
    Words(
        FaultSubject.CONTENT,
        "llama.cpp, vLLM, SGLang, TGI, Anthropic, Ollama: longer than the context",
        _codes("exceed_context_size_error"),
        r"(?:the )?request \(\d+ tokens\) exceeds|the (?:decoder )?prompt \((?:total )?length \d+\)"
        r"|(?:the )?input \(?\d* ?tokens?\)? is longer than the model's context length"
        r"|input length \d+ exceeds|prompt is too long|`?inputs`? tokens \+ `?max_new_tokens`? must be",
    ),
    # ── the profile's model ──
    Words(
        FaultSubject.PROFILE,
        "the model does not exist: OpenAI, vLLM, Ollama, llama-stack, Azure, Groq",
        _codes("""model_not_found deploymentnotfound unknown_model unknownmodel invalid_model
            model_not_available model_decommissioned dedicated_endpoint_not_running"""),
        rf"(?:the )?(?:requested )?model {MODEL_NAME} (?:does not exist|was not found|not found|is not found)"
        rf"|(?:the )?model {MODEL_NAME} has been (?:deprecated|decommissioned)"
        r"|the api deployment for this resource does not exist",
    ),
    Words(
        FaultSubject.PROFILE,
        "the same: Gemini, OpenRouter, DeepSeek, LiteLLM, Mistral, Azure AI, Together, one-api",
        text=rf"(?:the )?models/{MODEL_NAME} (?:is|was) not found|{MODEL_NAME} is not a valid model id\b"
        rf"|no endpoints found for {MODEL_NAME}|model not exist\b|invalid model name passed in model="
        rf"|invalid model: {MODEL_NAME}|unknown model: {MODEL_NAME}"
        rf"|unable to access (?:non-serverless )?model {MODEL_NAME}"
        rf"|no available channel for model {MODEL_NAME}",
    ),
    # ── the key: no other row would fare better ──
    Words(
        FaultSubject.KEY,
        "OpenAI error guide, Anthropic, Azure, Gemini, DeepSeek, Mistral, LiteLLM",
        _codes("""invalid_api_key invalid_authentication authentication_error unauthorized token_expired
            authenticationerror permissiondenied permission_denied permission_error insufficient_permissions
            unsupported_country_region_territory request_forbidden api_key_invalid
            invalid_organization
            mismatched_organization invalid_project ip_not_authorized account_deactivated
            key_model_access_denied team_model_access_denied"""),
        r"incorrect api key|invalid (?:api key|authentication|bearer token)|no api[- ]key"
        r"|authentication fails"
        r"|you (?:have insufficient permissions|do not have (?:access|permission))|missing scopes"
        r"|country, region,? or territory|(?:the )?api key .{0,40}(?:not valid|invalid|expired|disabled)"
        r"|your (?:ip|account|organization|project) .{0,60}"
        r"(?:not authorized|not allowed|deactivated|does not have access)"
        r"|user not found|permission .{0,60}denied"
        r"|access denied due to (?:invalid subscription|virtual network)",
    ),
    # ── the server's state: the request was refused before it was carried out ──
    Words(
        FaultSubject.SERVER,
        "a full queue or too much load: llama-stack, SGLang, vLLM, OpenAI, Anthropic, Groq (498), DeepSeek",
        _codes("""overloaded_error rate_limit_exceeded rate_limit_error capacity_exceeded server_overloaded
            resource_unavailable engine_overloaded too_many_requests toomanyrequests overloaded"""),
        r"queue (?:is )?(?:full|too long)|queue size exceeded|maximum queue|too many (?:concurrent )?requests"
        r"|(?:is|are) (?:currently |temporarily )?(?:overloaded|at capacity|over capacity|busy)|^overloaded\b"
        r"|no (?:available )?(?:capacity|slots?)\b|rate limit (?:reached|exceeded)|resource unavailable",
        Place.ANYWHERE,
    ),
    Words(
        FaultSubject.SERVER,
        "a model that is being loaded: llama.cpp (503), Ollama (instructor #1597: 500), TGI, Hugging Face",
        text=r"loading (?:the )?model|model (?:\S+ )?is (?:currently |still )?loading"
        r"|(?:server|llm) is (?:still )?loading",
        place=Place.ANYWHERE,
    ),
)

LATER_WORDS = re.compile(
    r"(?:try|retry)(?: your request| the request)?(?: again)? "
    r"(?:later|shortly|soon|in a (?:few|while|moment))"
)
"""A request to come back. Under a 5xx it does not say whether the request was carried out."""

SPEND_LIMIT_CODE = re.compile(r"(^|_)spend(ing)?_limit|^spend_")
"""Groq sends several codes of this form instead of the documented one."""
PAYMENT_CODES = frozenset({"402", "http_402"})
"""The status as a code: some servers send it, and pause reasons contain it."""
IN_FLIGHT_CODE = "in_flight_budget_exhausted"
"""OpenRouter: a 402 that clears when the requests in flight have ended."""
RATE_LIMIT_CODE = "resource_exhausted"
"""An ordinary rate limit. Gemini's message starts like OpenAI's message about an exhausted quota."""

RATE_LIMIT_WORDS = re.compile(
    r"(?:try|retry)(?: again)? (?:in|after) \d|per (?:minute|min|second|day)\b"
    r"|quota ?metric|quota exceeded for|resource_exhausted|ai\.google\.dev/gemini-api/docs/rate-limits",
    re.IGNORECASE,
)
"""Such a sentence asks to wait, whatever it says of quotas."""

CONTENT_PARAMS = re.compile(r"^(input|messages|content|additional_messages|prompt)")
"""Parameters whose errors may quote the question: their words never count."""
ROW_PARAMS = re.compile(
    r"^(input|messages|content|additional_messages|thread|attachments|file|image|items|prompt|url|question)"
)
"""Parameters that carry a row's own input. `prompt`: Azure's filter; `url`: a picture that cannot be had."""
PROFILE_PARAMS = re.compile(
    r"^(model|temperature|top_p|top_k|min_p|tools?\b|tool_|reasoning|instructions|response_format|text\b"
    r"|truncation"
    r"|max_|metadata|service_tier|store|background|include|assistant_id|parallel_tool_calls|stream|stop|seed|n$"
    r"|user|safety_identifier|prompt_cache|logprobs|top_logprobs|presence_|frequency_|verbosity|modalities)"
)
"""Parameters that come from the profile, so every row has them."""

TOO_LARGE = re.compile(
    r"(?:too large|tokens per|\btp[md]\b)[^\n]{0,160}?limit:? ([\d,]+)[^\n]{0,120}?requested:? ([\d,]+)",
    re.IGNORECASE,
)
"""OpenAI (continue #10602), Groq (413): `Request too large for gpt-4o … Limit 30000, Requested 61337`. With
`Requested` above `Limit`, no wait helps."""

UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION_PART = (
    r"\d+(?:\.\d+)?\s*(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])"
)
TOLD_WAIT = re.compile(
    r"(?:try|retry|wait|retrying)(?: again)?(?: your request| the request)?"
    r"(?: in| after| for| at least| about){0,3}[: ]\s*"
    rf"((?:{DURATION_PART}[\s,]*(?:and )?){{1,4}})",
    re.IGNORECASE,
)
"""`Please try again in 20s`, `6m0s`, `1h2m`, `250ms` (OpenAI, Groq); `retry after 60 seconds` (Azure,
LiteLLM); `Please retry in 17.3s` (Gemini)."""
