"""From a claimed row to what is asked: its first state, its policy, and the Ask for a backend. Pure."""

from dataclasses import replace
from typing import Any

import orjson
from pydantic import TypeAdapter

from askmill.jobs.model.models import EMULATOR_MODEL, Attempt, Limits, Usage
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.pricing import Prices, tokens_of
from askmill.jobs.store.records import Batch, Claim, RowDetail
from askmill.worker.backends.base import RunRequest
from askmill.worker.execution.result_builder import nano
from askmill.worker.lifecycle.retry import RetryPolicy
from askmill.worker.lifecycle.state import JobState

KNOWN = TypeAdapter(JobState)
"""Reads and writes what is known of a job, as JSON."""

RUNS_TOLD = 8
"""How many runs a turn is told of those before it: enough to see where its own begin on the thread."""

GO_ON = "Your answer was cut off. Go on exactly where it stopped, repeating nothing."


def initial_state(claim: Claim, batch: Batch) -> JobState:
    """What is known at the claim: the last worker's state, or the start, after earlier attempts and turns."""
    if claim.state:
        return KNOWN.validate_json(claim.state)
    shared = bool(batch.spec.cell(batch.spec.conversation_column, claim.cells).strip())
    seed: dict[str, Any] = orjson.loads(claim.previous_turn) if claim.previous_turn else {}
    known = JobState(
        shared_thread=shared,
        thread_id=seed.get("thread_id"),
        last_message_id_before=seed.get("anchor"),
        earlier_runs=tuple(seed.get("runs", ())),
        follow_up=bool(seed),
    )
    before = claim.previous
    if before is None or not before.attempts:
        return known
    made = len(before.attempts)
    again = shared and seed.get("thread_id") is not None
    return replace(
        known,
        attempt=made + 1,
        attempts_before_retry=made,
        past_attempts=before.attempts,
        steps=before.steps,
        delete_failed_turn=again,
    )


def previous_turn_of(known: JobState) -> bytes | None:
    """What the next turn of a conversation starts from."""
    if not known.shared_thread or known.thread_id is None:
        return None
    anchor = known.answer.last_message_id if known.answer else None
    made = (*known.earlier_runs, *(attempt.run_id for attempt in known.past_attempts), known.run_id)
    runs = [run for run in made if run][-RUNS_TOLD:]
    return orjson.dumps({"thread_id": known.thread_id, "anchor": anchor, "runs": runs})


def belongs_to(detail: RowDetail, run_id: str, attempt: int) -> bool:
    """Whether the row follows, has ended with, or will still find this run of its `attempt`."""
    if detail.view.result and run_id in {made.run_id for made in detail.view.result.attempts}:
        return True
    if detail.state is None:
        return False
    known = KNOWN.validate_json(detail.state)
    if run_id == known.run_id or run_id in known.known_run_ids:
        return True
    return known.run_id is None and known.attempt == attempt


def overrides_of(batch: Batch, claim: Claim) -> dict[str, str]:
    """What the row chose itself: the named columns that are not blank."""
    cells = {name: batch.spec.cell(name, claim.cells) for name in batch.spec.overrides}
    return {name: text.strip() for name, text in cells.items() if text.strip()}


def profile_of(batch: Batch, claim: Claim) -> Profile:
    """The batch's profile with the row's overrides. With `--offline` every row has the emulator's model."""
    chosen: dict[str, Any] = {
        name: text for name, text in overrides_of(batch, claim).items() if name in {"model", "instructions"}
    }
    numbers = overrides_of(batch, claim)
    if "max_completion_tokens" in numbers:
        chosen["max_completion_tokens"] = int(numbers["max_completion_tokens"])
    if "temperature" in numbers:
        chosen["temperature"] = float(numbers["temperature"])
    if batch.options.get("offline"):
        chosen["model"] = EMULATOR_MODEL
    return batch.effective_profile.model_copy(update=chosen) if chosen else batch.effective_profile


def doubled(profile: Profile, limits: tuple[str, ...]) -> Profile:
    """The profile with the token limits doubled that `raise-limit` has chosen."""
    if not limits:
        return profile
    return profile.model_copy(update={name: 2 * getattr(profile, name) for name in limits})


def run_request_for(batch: Batch, claim: Claim, known: JobState, assistant_id: str | None) -> RunRequest:
    """This attempt, for a backend."""
    profile = doubled(profile_of(batch, claim), known.doubled_limits)
    chosen = overrides_of(batch, claim)
    return RunRequest(
        batch=batch.id,
        row=claim.row,
        attempt=known.attempt,
        question=GO_ON if known.continuing else batch.spec.question(claim.cells),
        profile=profile,
        resources=batch.resources,
        assistant_id=assistant_id,
        image=None if known.continuing else chosen.get("image"),
        file=None if known.continuing else chosen.get("file"),
        max_completion_tokens=profile.max_completion_tokens,
        follow_up=known.follow_up,
        after=known.last_message_id_before,
    )


def policy_for(batch: Batch, limits: Limits, claim: Claim) -> RetryPolicy:
    """The batch's limits, as they are now, and the row's token limits."""
    profile = profile_of(batch, claim)
    return RetryPolicy(
        attempts=limits.attempts,
        deadline_s=limits.deadline_s,
        on_incomplete=limits.on_incomplete,
        completion_limit=profile.max_completion_tokens,
        prompt_limit=profile.max_prompt_tokens,
        row_fields=frozenset(overrides_of(batch, claim)),
    )


def schema_error(profile: Profile, text: str) -> str | None:
    """How the answer misses the profile's response schema; None when it does not, or there is none."""
    if profile.response_schema is None:
        return None
    import jsonschema  # noqa: PLC0415 -- a twentieth of a worker's start

    schema = profile.response_schema.get("schema", profile.response_schema)
    try:
        jsonschema.validate(orjson.loads(text), schema)
    except orjson.JSONDecodeError:
        return "the answer is not JSON"
    except jsonschema.ValidationError as missed:
        place = ".".join(str(part) for part in missed.absolute_path)
        return f"{place}: {missed.message}" if place else missed.message
    return None


def worst_case_nano(batch: Batch, claim: Claim, known: JobState, prices: Prices) -> int | None:
    """Nano-dollars this attempt's run may cost: exact where token limits bound it, else an estimate.

    None where the model's price is not known.
    """
    profile = doubled(profile_of(batch, claim), known.doubled_limits)
    asked = batch.spec.question(claim.cells) + (profile.instructions or "")
    usage = Usage(
        prompt_tokens=profile.max_prompt_tokens or 2 * tokens_of(asked) + 200,
        completion_tokens=profile.max_completion_tokens or 1000,
    )
    return nano(prices.cost_usd(profile.model, usage, profile.completion_window))


def spent_nano(batch: Batch, claim: Claim, known: JobState, prices: Prices) -> int | None:
    """Nano-dollars of earlier attempts that the batch has not counted yet: it does at the row's end.

    An attempt whose cost nobody told is assumed at its worst. None where there is no such attempt.
    """
    attempts = uncounted(claim, known.past_attempts)
    if not attempts:
        return None
    told = priced(attempts, None, profile_of(batch, claim), prices)
    return sum(nano(one.cost_usd) or 0 for one in told) + assumed_nano(batch, claim, known, told, prices)


def assumed_nano(
    batch: Batch, claim: Claim, known: JobState, attempts: tuple[Attempt, ...], prices: Prices
) -> int:
    """Nano-dollars for those of the attempts whose cost nobody told: their runs were made all the same."""
    untold = sum(attempt.cost_usd is None for attempt in attempts)
    return untold * (worst_case_nano(batch, claim, known, prices) or 0) if untold else 0


def uncounted(claim: Claim, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The attempts that an earlier result of the row does not have."""
    return attempts[len(claim.previous.attempts) if claim.previous else 0 :]


def priced(
    attempts: tuple[Attempt, ...], model: str | None, profile: Profile, prices: Prices
) -> tuple[Attempt, ...]:
    """The attempts, each with its cost: by the price of the model that ran, else of the one asked for."""
    billed = model if prices.of(model) else profile.model
    return tuple(
        attempt
        if attempt.cost_usd is not None
        else replace(attempt, cost_usd=prices.cost_usd(billed, attempt.usage, profile.completion_window))
        for attempt in attempts
    )
