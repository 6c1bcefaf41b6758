"""From a claimed row to the request for a backend: its profile, retry policy and question. Pure."""

from typing import Any

from askmill.jobs.model.models import EMULATOR_MODEL, Limits
from askmill.jobs.model.profile import Profile
from askmill.jobs.model.tiers import STANDARD
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.records import Batch
from askmill.worker.backends.base import RunRequest
from askmill.worker.lifecycle.kept_answer import CONTINUE_PROMPT
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState


def row_overrides(batch: Batch, claim: Claim) -> dict[str, str]:
    """The settings that the row overrides (`--override`): the named columns that are not blank."""
    if not batch.spec.overrides:
        return {}
    cells = {name: batch.spec.cell(name, claim.cells).strip() for name in batch.spec.overrides}
    return {name: text for name, text in cells.items() if text}


def row_profile(batch: Batch, claim: Claim) -> Profile:
    """The batch's profile with the row's overrides. With `--offline` every row has the emulator's model."""
    overrides = row_overrides(batch, claim)
    changed: dict[str, Any] = {
        name: overrides[name] for name in ("model", "instructions") if name in overrides
    }
    if "max_completion_tokens" in overrides:
        changed["max_completion_tokens"] = int(overrides["max_completion_tokens"])
    if "temperature" in overrides:
        changed["temperature"] = float(overrides["temperature"])
    if batch.options.get("offline"):
        changed["model"] = EMULATOR_MODEL
    return batch.effective_profile.model_copy(update=changed) if changed else batch.effective_profile


def attempt_profile(batch: Batch, claim: Claim, state: JobState) -> Profile:
    """The row's profile with doubled token limits (`raise-limit`) and the tier that it fell back to."""
    profile = row_profile(batch, claim)
    changed: dict[str, Any] = {name: 2 * getattr(profile, name) for name in state.doubled_limits}
    if state.tier_fallen_back:
        changed["service_tier"] = STANDARD
    return profile.model_copy(update=changed) if changed else profile


def row_policy(batch: Batch, limits: Limits, claim: Claim) -> RetryPolicy:
    """The batch's limits, as they are now, and the row's token limits."""
    profile = row_profile(batch, claim)
    return RetryPolicy(
        attempts=limits.attempts,
        deadline_s=limits.deadline_s,
        on_incomplete=limits.on_incomplete,
        on_unknown=limits.on_unknown,
        stateless=batch.api == "chat",
        completion_limit=profile.max_completion_tokens,
        prompt_limit=profile.max_prompt_tokens,
        row_overrides=frozenset(row_overrides(batch, claim)),
        model=profile.model,
        tier=profile.service_tier,
        tier_fallback=limits.tier_fallback is not None,
    )


def build_request(batch: Batch, claim: Claim, state: JobState, assistant_id: str | None) -> RunRequest:
    """This attempt, in the form a backend takes."""
    profile, overrides = attempt_profile(batch, claim, state), row_overrides(batch, claim)
    # On chat completions the prompt to continue is one of `state.messages`, behind the question.
    asks_for_rest = state.continuing and batch.api != "chat"
    return RunRequest(
        batch=batch.id,
        row=claim.row,
        attempt=state.attempt,
        question=CONTINUE_PROMPT if asks_for_rest else batch.spec.question(claim.cells),
        profile=profile,
        resources=batch.resources,
        assistant_id=assistant_id,
        image=None if asks_for_rest else overrides.get("image"),
        file=None if asks_for_rest else overrides.get("file"),
        max_completion_tokens=profile.max_completion_tokens,
        follow_up=state.follow_up,
        after_message_id=state.last_message_id_before,
        messages=state.messages,
    )
