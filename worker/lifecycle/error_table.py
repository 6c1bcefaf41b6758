"""The table of API errors: what each is about and what follows. Read from the top; the first rule decides.

The servers' own words and codes are in `jobs.model.fault_table`; this table adds the request that failed and
the status. `worker.lifecycle.retry.classify` reads it.
"""

import re

from askmill.jobs.model.api_errors import (
    clears_by_itself,
    content_refused,
    key_refused,
    model_missing,
    money_refused,
    overloaded,
    suggests_retry,
)
from askmill.jobs.model.fault_table import PROFILE_PARAMS, ROW_PARAMS, FaultSubject
from askmill.worker.lifecycle.api_types import TOO_LARGE
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind, Rule

NO_ASSISTANT = re.compile(r"No assistant found with id")
"""What the API says of one that was deleted, with status 404."""

NO_STORE = re.compile(r"vector store[^.]*not found|No vector store found", re.IGNORECASE)
"""What the API says of a deleted vector store that a create names (Azure: with status 400)."""

ACTIVE_RUN = re.compile(
    r"(?:already has an active run|while a run\b)(?:[ :'\"`(]+((?=[\w-]*[\d_])[\w-]+))?", re.IGNORECASE
)
"""FORUM 511382, openai-python #1023: status 400, code null, mostly with the run's id in the text. An id has a
digit or an underscore; a word that follows, as in "while a run is active", has neither."""

CREATES = frozenset({RequestKind.SETUP, RequestKind.THREAD, RequestKind.CREATE})
ROW_CREATES = frozenset({RequestKind.THREAD, RequestKind.CREATE})
SENDS_CONTENT = frozenset({RequestKind.THREAD, RequestKind.CREATE, RequestKind.SUBMIT})
LOOKS = frozenset({RequestKind.READ, RequestKind.CANCEL})


def _statuses(*statuses: int | None) -> frozenset[int | None]:
    return frozenset(statuses)


UNCLEAR_STATUSES = _statuses(None, 200, 408, 409, *(status for status in range(500, 600) if status != 501))
"""No reply, a reply that is not the API's (200 without JSON), or a failing server."""
REFUSED = _statuses(*(status for status in range(400, 500) if status not in {408, 409}))
BUSY = REFUSED | _statuses(503, 529)
"""Statuses under which a request to come back means that nothing was carried out."""

TABLE: tuple[Rule, ...] = (
    Rule(
        ErrorClass.ROW,
        FaultSubject.SERVER,
        "askmill's bounds: a reply that is too large will not be smaller next time",
        codes=frozenset({TOO_LARGE}),
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.WAY,
        "a redirect or a proxy's refusal concerns the way to the API, which every row takes",
        codes=frozenset({"redirected", "proxy_refused"}),
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.MONEY,
        "anchors.md pain 4: money, whatever the status or code",
        matches_report=money_refused,
    ),
    Rule(
        ErrorClass.THROTTLED,
        FaultSubject.SERVER,
        "OpenRouter: a limit of requests in flight, with a Retry-After",
        matches_report=clears_by_itself,
    ),
    Rule(
        ErrorClass.ROW,
        FaultSubject.CONTENT,
        "a content filter, a picture, a length, `Requested` above `Limit`: whatever the status",
        requests=SENDS_CONTENT,
        matches_report=content_refused,
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.KEY,
        "OpenAI error guide: 401 is the key, at every request",
        statuses=_statuses(401),
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.KEY,
        "key, permission, region: OpenAI and Azure 403, Gemini's API_KEY_INVALID 400",
        statuses=_statuses(400, 403),
        page=False,
        matches_report=key_refused,
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.PROFILE,
        "an unknown model, in every server's words: the profile names it",
        matches_report=model_missing,
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.PROFILE,
        "issues: the stored assistant is unknown",
        text=NO_ASSISTANT.pattern,
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.PROFILE,
        "a create that names a deleted vector store",
        text=NO_STORE.pattern,
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.PROFILE,
        "a vector store that cannot be created again (worker/backends/files.py)",
        codes=frozenset({"vector_store"}),
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.SERVER,
        "Assistants v2 guide: beta header refused",
        text=r"OpenAI-Beta",
    ),
    Rule(
        ErrorClass.LOCKED,
        FaultSubject.SERVER,
        "careme #379, FORUM 1367791: a conversation's lock",
        codes=frozenset({"conversation_locked"}),
    ),
    Rule(
        ErrorClass.LOCKED,
        FaultSubject.SERVER,
        "FORUM 511382, openai-python #1023",
        text=ACTIVE_RUN.pattern,
    ),
    Rule(ErrorClass.THROTTLED, FaultSubject.SERVER, "FORUM 1366574: rate limit", statuses=_statuses(429)),
    Rule(
        ErrorClass.THROTTLED,
        FaultSubject.SERVER,
        "Groq's error guide: 498, the flex tier is at capacity",
        statuses=_statuses(498),
    ),
    Rule(
        ErrorClass.THROTTLED,
        FaultSubject.SERVER,
        "llama-stack 400, SGLang 503, Ollama 500: a full queue, a busy server, a model that loads",
        requests=CREATES | {RequestKind.SUBMIT},
        statuses=REFUSED | _statuses(*range(500, 600)),
        matches_report=overloaded,
    ),
    Rule(
        ErrorClass.THROTTLED,
        FaultSubject.SERVER,
        "`try again later`, `in 20 s`: a refusal, so nothing was carried out",
        requests=CREATES | {RequestKind.SUBMIT},
        statuses=BUSY,
        matches_report=suggests_retry,
    ),
    Rule(
        ErrorClass.ENDED,
        FaultSubject.SERVER,
        'Azure reports: Runs in status "expired" do not accept tool outputs',
        text=r"do not accept tool outputs",
    ),
    Rule(
        ErrorClass.ENDED,
        FaultSubject.SERVER,
        "issues: Cannot cancel run with status 'completed'; a 2nd cancel answered 409 by compatible servers",
        requests=frozenset({RequestKind.CANCEL}),
        statuses=_statuses(400, 404, 409, 422),
    ),
    Rule(
        ErrorClass.NOT_SENT,
        FaultSubject.WAY,
        "refused connection, DNS: nothing left this machine",
        sent=False,
    ),
    Rule(
        ErrorClass.GONE,
        FaultSubject.SERVER,
        "a 404 right after a create has been seen (dotnet/extensions #7704): grace first",
        requests=frozenset({RequestKind.READ, RequestKind.SUBMIT}),
        statuses=_statuses(404),
    ),
    Rule(
        ErrorClass.GONE,
        FaultSubject.SERVER,
        "api-semantics A3: the thread is gone",
        requests=frozenset({RequestKind.CREATE}),
        statuses=_statuses(400, 404),
        text=r"No (thread|conversation) found|(thread|conversation)[^.]* not found",
    ),
    Rule(
        ErrorClass.ROW,
        FaultSubject.CONTENT,
        "CONTRACT: a refusal that names this row's input by its parameter (Azure: prompt; pictures: url)",
        requests=ROW_CREATES,
        statuses=_statuses(400, 403, 404, 413, 415, 422),
        param=ROW_PARAMS.pattern,
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.PROFILE,
        "a refused setting of the profile, which every row has",
        requests=CREATES,
        statuses=_statuses(400, 403, 404, 413, 422),
        param=PROFILE_PARAMS.pattern,
    ),
    Rule(
        ErrorClass.UNCLEAR,
        FaultSubject.UNCLEAR,
        "`No such File object`: the profile's file, or one that this row names",
        requests=ROW_CREATES,
        statuses=_statuses(404),
        text=r"\bfile\b",
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.SERVER,
        "langroid 0.68.0: 404 on every endpoint, a server without this API",
        requests=CREATES,
        statuses=_statuses(404, 405, 501),
    ),
    Rule(
        ErrorClass.REPLY_LOST,
        FaultSubject.WAY,
        "openai-python #1727: a create without a reply may have been carried out",
        requests=frozenset({RequestKind.CREATE, RequestKind.SUBMIT}),
        statuses=UNCLEAR_STATUSES,
    ),
    Rule(
        ErrorClass.RETRY,
        FaultSubject.WAY,
        "reading, cancelling and free creates can be repeated",
        statuses=UNCLEAR_STATUSES,
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.KEY,
        "OpenAI error guide: a 403 of the API itself at a poll is about the key",
        requests=LOOKS,
        statuses=_statuses(403),
        page=False,
    ),
    Rule(
        ErrorClass.RETRY,
        FaultSubject.UNCLEAR,
        "a read that is refused says nothing about the run",
        requests=LOOKS,
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.PROFILE,
        "what all rows share is refused, for whatever reason",
        requests=frozenset({RequestKind.SETUP}),
    ),
    Rule(
        ErrorClass.BATCH,
        FaultSubject.KEY,
        "OpenAI error guide: a 403 of the API itself at tool outputs is about the key",
        requests=frozenset({RequestKind.SUBMIT}),
        statuses=_statuses(403),
        page=False,
    ),
    Rule(
        ErrorClass.ROW,
        FaultSubject.CONTENT,
        "tool outputs are this row's own, as is a body that is too large",
        requests=frozenset({RequestKind.SUBMIT}),
    ),
    Rule(
        ErrorClass.ROW,
        FaultSubject.CONTENT,
        "RFC 9110: 413 and 415 are about the body that was sent",
        statuses=_statuses(413, 414, 415),
    ),
    Rule(
        ErrorClass.UNCLEAR,
        FaultSubject.UNCLEAR,
        "words that nobody knows, or a firewall's page: this row's content, or the batch's fault",
    ),
)
