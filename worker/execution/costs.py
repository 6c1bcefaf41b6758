"""What a row's runs cost, in nano-dollars (billionths) as the store counts them. Pure.

A run whose cost is unknown is assumed at its worst case: the budget counts it, no result shows it.
"""

from dataclasses import dataclass, replace

from askmill.jobs.model.models import Attempt, JobStatus, Result, Usage
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.price import STANDARD_TIERS
from askmill.jobs.openai_client.pricing import Prices, estimate_tokens
from askmill.jobs.store.claim_records import Claim
from askmill.jobs.store.records import NANO, Batch
from askmill.worker.execution.request_builder import attempt_profile, row_profile
from askmill.worker.lifecycle.state import JobState

DEFAULT_COMPLETION_TOKENS = 1000
"""The estimated length of an answer where the profile sets no limit."""


def to_nano(usd: float | None) -> int | None:
    """Dollars in nano-dollars, rounded; None where unknown."""
    return None if usd is None else round(usd * NANO)


@dataclass(frozen=True, slots=True)
class RowCosts:
    """The costs of one claimed row."""

    batch: Batch
    claim: Claim
    prices: Prices

    def worst_case_nano(self, state: JobState) -> int | None:
        """What this attempt's run may cost: exact where token limits bound it, else an estimate.

        None where the model's price is unknown.
        """
        profile = attempt_profile(self.batch, self.claim, state)
        prompt = self.batch.spec.question(self.claim.cells) + (profile.instructions or "")
        usage = Usage(
            prompt_tokens=profile.max_prompt_tokens or 2 * estimate_tokens(prompt) + 200,
            completion_tokens=profile.max_completion_tokens or DEFAULT_COMPLETION_TOKENS,
        )
        price = self.prices.price_of(profile.model)
        return None if price is None else to_nano(price.worst_usd(usage, profile.service_tier))

    def priced(self, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """The attempts with their costs, each by the model, the tier and the tokens that its reply names."""
        profile = row_profile(self.batch, self.claim)
        return tuple(
            attempt
            if attempt.cost_usd is not None
            else replace(attempt, cost_usd=self._cost_usd(attempt, profile))
            for attempt in attempts
        )

    def _cost_usd(self, attempt: Attempt, profile: Profile) -> float | None:
        price = self.prices.price_of(attempt.model, profile.model)
        if price is None:
            return None
        if attempt.tier is None and (profile.service_tier or "") not in STANDARD_TIERS:
            return None  # another tier was asked for, and the reply does not say which one was served
        return price.run_usd(attempt.usage, attempt.tier, profile.completion_window)

    def spent_nano(self, state: JobState) -> int | None:
        """Cost of earlier attempts, which the batch counts only at the row's end; None without any."""
        attempts = self._uncounted(state.past_attempts)
        if not attempts:
            return None
        priced = self.priced(attempts)
        known_nano = sum(to_nano(attempt.cost_usd) or 0 for attempt in priced)
        return known_nano + self.assumed_nano(priced, state)

    def assumed_nano(self, attempts: tuple[Attempt, ...], state: JobState) -> int:
        """The worst case of those of the attempts whose cost is unknown."""
        unknown = sum(attempt.cost_usd is None for attempt in attempts)
        return unknown * (self.worst_case_nano(state) or 0) if unknown else 0

    def unknown_create_counters(self, state: JobState) -> dict[str, int]:
        """What a create that may have been carried out counts, by counter.

        On chat completions its attempt is recorded, and its unknown cost is counted with it.
        """
        recorded = self.batch.api == "chat"
        return {
            "unknown_creates": 1,
            "assumed_nano": 0 if recorded else self.worst_case_nano(state) or 0,
        }

    def final_counters(self, result: Result, state: JobState) -> dict[str, int]:
        """Tokens and money of the row that the batch has not counted yet, by counter."""
        before = self.claim.previous or Result(row=result.row, status=JobStatus.QUEUED)
        totals = (
            ("prompt", result.usage.prompt_tokens, before.usage.prompt_tokens),
            ("completion", result.usage.completion_tokens, before.usage.completion_tokens),
            ("cost_nano", to_nano(result.cost_usd), to_nano(before.cost_usd)),
        )
        counters = {counter: now - (then or 0) for counter, now, then in totals if now is not None}
        if assumed_nano := self.assumed_nano(self._uncounted(result.attempts), state):
            counters["assumed_nano"] = assumed_nano
        return counters

    def _uncounted(self, attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        """The attempts after those of an earlier result of the row."""
        return attempts[len(self.claim.previous.attempts) if self.claim.previous else 0 :]
