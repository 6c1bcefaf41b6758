"""What a tier cannot do, reported before anything is stored."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from askmill.jobs.model.errors import UsageError

if TYPE_CHECKING:
    from askmill.jobs.submit.request import SubmitRequest

FLEX_INSTEAD = "or use --tier flex, which costs the same."


def refuse_tier(request: "SubmitRequest") -> None:
    """Raise UsageError for all options that do not go with the tier asked for or its fallback."""
    faults = list(_fallback_faults(request))
    if request.profile.service_tier == "batch":
        faults += batch_faults(request)
    if faults:
        raise UsageError("\n".join(faults))


def _fallback_faults(request: "SubmitRequest") -> Iterator[str]:
    if request.limits.get("tier_fallback") is not None and request.profile.service_tier != "flex":
        yield "--tier-fallback says what follows if flex has no capacity: give --tier flex, or leave it out."


def batch_faults(request: "SubmitRequest") -> Iterator[str]:
    """Why this request cannot travel as a batch job: one sentence each, with what to do."""
    profile, api, limits = request.profile, request.target.api, request.limits
    if api == "assistants":
        yield "--tier batch: the Assistants API has no batch jobs. Set ASKMILL_API=responses."
    if profile.functions is not None:
        yield (
            "--tier batch cannot call functions: each call would take another batch job. Leave --functions "
            f"out, {FLEX_INSTEAD}"
        )
    for tool in profile.tools:
        yield f"--tier batch has no hosted tools. Leave --tool {tool} out, {FLEX_INSTEAD}"
    if request.intake.conversation_column is not None:
        yield (
            "--tier batch answers rows in any order, so no row can follow another. Leave "
            f"--conversation-column out, {FLEX_INSTEAD}"
        )
    if limits.get("deadline_s") is not None:
        yield (
            "--tier batch answers within 24 hours, and no row can be ended before. Leave --deadline out, "
            f"{FLEX_INSTEAD}"
        )
    if profile.completion_window in {"2h", "8h"}:
        yield (
            "--tier batch has no completion_window: it ends within 24 hours. Leave completion_window out of "
            "the profile, or leave --tier batch out."
        )
    if api == "responses" and limits.get("on_incomplete") == "continue":
        yield (
            "--tier batch keeps no conversation in which an answer could continue. Use --on-incomplete "
            "raise-limit."
        )
