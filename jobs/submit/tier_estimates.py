"""What a batch would cost in each tier that its API has, and when it would end, side by side."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from askmill.config.settings import is_openai
from askmill.config.text import about_usd
from askmill.jobs.model.models import Api
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.params import AZURE_HOST
from askmill.jobs.openai_client.pricing import Estimate
from askmill.jobs.submit.request import SubmitRequest
from askmill.jobs.submit.tier_rules import batch_faults

DAY_S = 86_400.0


@dataclass(frozen=True)
class TierEstimate:
    """The estimate in one tier.

    Attributes:
        tier: `standard`, `flex`, `2h window`, `8h window`, `priority` or `batch`.
        estimate: Tokens and cost; the cost is None where the tier has no known price.
        ends: When the batch ends, in words.
        ends_within_s: The time after which the API promises an end, where it does.
        refusal: Why this batch cannot use the tier, and what to do; None where it can.
        selected: It is the tier that the profile asks for.
    """

    tier: str
    estimate: Estimate
    ends: str
    ends_within_s: float | None
    refusal: str | None
    selected: bool

    def to_json(self) -> dict[str, Any]:
        """An entry of `tiers` in `estimate --json`."""
        return {
            "tier": self.tier,
            "rows": self.estimate.rows,
            "cost_usd": {"low": self.estimate.low_usd, "high": self.estimate.high_usd},
            "ends": self.ends,
            "ends_within_s": self.ends_within_s,
            "refusal": self.refusal,
            "selected": self.selected,
        }


@dataclass(frozen=True)
class _Offer:
    fields: dict[str, Any]
    ends: str
    ends_within_s: float | None = None
    apis: frozenset[Api] = frozenset({"responses", "chat"})


RESPONSES = frozenset[Api]({"responses"})
OFFERS = (
    _Offer({}, "as fast as the API's limits allow", apis=frozenset[Api]({"assistants", "responses", "chat"})),
    _Offer({"service_tier": "flex"}, "slower than standard, waits for capacity"),
    _Offer({"completion_window": "2h"}, "about 2 hours after each request", apis=RESPONSES),
    _Offer({"completion_window": "8h"}, "about 8 hours after each request", apis=RESPONSES),
    _Offer({"service_tier": "priority"}, "faster than standard"),
    _Offer({"service_tier": "batch"}, "within 24 hours", DAY_S),
)
"""Source of the times: OpenAI's guides on flex, priority and background processing, and on the Batch API."""


def tier_estimates(
    request: SubmitRequest, estimate_of: Callable[[Profile], Estimate]
) -> Iterator[TierEstimate]:
    """Yield the estimate in each tier that the request's API has.

    A server other than OpenAI's and Azure's may have no tiers: of these, only tiers with a price are shown.

    Args:
        request: The batch.
        estimate_of: The estimate with another profile.
    """
    has_tiers = is_openai(request.target.base_url) or AZURE_HOST.match(request.target.base_url) is not None
    for offer in OFFERS:
        # An API that is still to be found out may have any tier with a price.
        if request.target.api is not None and request.target.api not in offer.apis:
            continue
        profile = request.profile.model_copy(
            update={"service_tier": None, "completion_window": None, **offer.fields}
        )
        selected, estimated = profile.tier_name == request.profile.tier_name, estimate_of(profile)
        if estimated.low_usd is None and not has_tiers and not selected:
            continue
        faults = batch_faults(replace(request, profile=profile)) if "batch" in offer.fields.values() else ()
        yield TierEstimate(
            profile.tier_name, estimated, offer.ends, offer.ends_within_s, next(iter(faults), None), selected
        )


def with_fallback(
    estimate_of: Callable[[Profile], Estimate], fallback: str | None
) -> Callable[[Profile], Estimate]:
    """The estimates, with flex up to the price of the tier that it may fall back to (`--tier-fallback`)."""
    if fallback is None:
        return estimate_of

    def estimate(profile: Profile) -> Estimate:
        found = estimate_of(profile)
        if profile.service_tier != "flex":
            return found
        dearer = estimate_of(profile.model_copy(update={"service_tier": "default"}))
        return replace(found, high_usd=None if found.low_usd is None else dearer.high_usd)

    return estimate


def tier_lines(estimates: list[TierEstimate]) -> list[str]:
    """The estimates as a table of text; empty for a single tier."""
    if len(estimates) < 2:
        return []
    rows = [("tier", "rows", "cost", "ends")]
    for found in estimates:
        name = f"{found.tier} (selected)" if found.selected else found.tier
        ends = found.ends if found.refusal is None else f"not possible: {found.refusal}"
        rows.append((name, f"{found.estimate.rows:,}", cost_text(found.estimate), ends))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def cost_text(estimated: Estimate) -> str:
    """The cost as a range; one number where both ends are the same."""
    if estimated.low_usd is None or estimated.high_usd is None:
        return "price unknown"
    low, high = (about_usd(usd).removeprefix("about ") for usd in (estimated.low_usd, estimated.high_usd))
    return low if low == high else f"{low} to {high}"
