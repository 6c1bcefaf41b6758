"""What a pause reason means, and what to do about it. Pure."""

from askmill.config.text import one_line
from askmill.jobs.model.api_errors import key_refused, model_missing, money_refused, report_of_text
from askmill.jobs.openai_client.price import similar_model
from askmill.jobs.store.records import Batch

PAUSED_BY_USER = "requested by a user"
"""The reason that `askmill pause` stores."""
RERUN = (
    "run the same `askmill run` again; if you run your own workers, restart them with the new setting and "
    "run `askmill resume BATCH`."
)
VALID_KEY = f"Set OPENAI_API_KEY to a valid key, then {RERUN}"
KEY_RIGHTS = (
    "Check the rights of the key in OPENAI_API_KEY, OPENAI_PROJECT_ID and OPENAI_ORG_ID, then run "
    "`askmill resume BATCH`."
)
OTHER_PROJECT = (
    "Give all workers the same OPENAI_API_KEY, OPENAI_PROJECT_ID and OPENAI_ORG_ID, then run "
    "`askmill resume BATCH`."
)
NO_SUCH_API = (
    "Run `askmill doctor`: it says what this address offers. Then submit the file again with the right "
    "OPENAI_BASE_URL and ASKMILL_API; `askmill purge BATCH` deletes this batch."
)
MOVED = (
    "A batch keeps its address: submit the file again with the new one (`askmill purge BATCH` deletes this "
    "batch), or run `askmill resume BATCH` when the redirect is gone."
)
ADD_CREDIT = (
    "Add credit or raise the spend limit in the API's billing settings, then run `askmill resume BATCH`."
)
OTHER_MODEL = (
    "Run again with another --model or ASKMILL_MODEL, or make the model available to your account and run "
    "`askmill resume BATCH`."
)
OTHER_TIER = (
    "Submit the file again with another --tier, such as `--tier standard`; `askmill purge BATCH` deletes "
    "this batch."
)
ADVICE = (
    (PAUSED_BY_USER, "Run `askmill resume BATCH` to resume."),
    *((word, OTHER_TIER) for word in ("service_tier", "service tier")),
    ("redirected", MOVED),
    ("proxy_refused", f"Fix the proxy setting, then {RERUN}"),
    ("price", "Start the workers with an ASKMILL_PRICES that has it, then run `askmill resume BATCH`."),
    ("functions", "Restore the file and run `askmill resume BATCH`, or submit again with --new."),
    ("budget", "Run the same command with a higher --budget to resume."),
    ("another project", OTHER_PROJECT),
    ("401", VALID_KEY),
    ("403", KEY_RIGHTS),
    *((word, NO_SUCH_API) for word in ("http_404", "http_405", "http_501", "invalid url", "request url")),
    (
        "no assistant",
        "Submit the file again with the right --assistant-id; `askmill purge BATCH` deletes this batch.",
    ),
    ("model", OTHER_MODEL),
    ("api_unreachable", "Check the API with `askmill doctor`, then run `askmill resume BATCH`."),
)
"""A word of the pause reason → what to do about it; the first match counts."""


def advice(batch: str, reason: str | None) -> str:
    """What to do about a paused batch."""
    report = report_of_text(reason or "")
    if money_refused(report):
        text = ADD_CREDIT
    elif model_missing(report):
        text = OTHER_MODEL
    elif key_refused(report):
        text = KEY_RIGHTS if "permission" in (reason or "").lower() else VALID_KEY
    else:
        lower = (reason or "").lower()
        default = "Fix it, then run `askmill resume BATCH`."
        text = next((advised for word, advised in ADVICE if word in lower), default)
    return text.replace("BATCH", batch)


def pause_cause(batch: Batch, reason: str) -> str:
    """The API's words, introduced by their meaning where it is known."""
    report = report_of_text(batch.paused_reason or "")
    if money_refused(report):
        return f"the account at the API has no credit or has reached a spend limit ({reason})"
    if model_missing(report):
        similar = similar_model(batch.model)
        hint = f"; did you mean {similar!r}?" if similar else ""
        return f"the API does not have the model {one_line(batch.model, 80)}{hint} ({reason})"
    if key_refused(report):
        return f"the API refuses the key in OPENAI_API_KEY ({reason})"
    return reason
