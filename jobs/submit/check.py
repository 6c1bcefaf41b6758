"""Checks a request before anything is stored: its prices, its file, its column of expected answers."""

from collections.abc import Callable
from dataclasses import replace

from askmill.config.settings import Settings
from askmill.jobs.intake import Intake, check
from askmill.jobs.intake.reader import PassFactory
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.profile import MIN_COMPLETION_TOKENS
from askmill.jobs.model.tiers import STANDARD
from askmill.jobs.openai_client.price import similar_model
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.results.expected import check_column
from askmill.jobs.submit.request import SubmitRequest

PRICE_ADVICE = "Put its price into a file and name that file in ASKMILL_PRICES, or leave --budget out."


def refuse_unpriced(request: SubmitRequest, prices: Prices) -> None:
    """Raise UsageError for a budget on a model without a known price, in the service tier asked for."""
    model, tier = request.profile.model, request.profile.service_tier
    if "budget_usd" in request.limits and not prices.has_price(model, tier):
        what = f"The price of {model!r} is not known" if model else "A stored assistant's model is not known"
        if prices.has_price(model):
            what += f" in the service tier {tier}"
        elif model and (similar := similar_model(model)):
            what += f" (did you mean {similar!r}?)"
        raise UsageError(f"{what}, so --budget cannot be kept. {PRICE_ADVICE}")


def unpriced_tier_note(request: SubmitRequest, prices: Prices) -> str | None:
    """A warning about a tier without a known price for a model that has one; None without reason."""
    model, tier = request.profile.model, request.profile.service_tier
    # Loading the prices takes 200 ms, which the standard tier does without.
    if tier in {None, "auto", STANDARD} or not prices.has_price(model) or prices.has_price(model, tier):
        return None
    return (
        f"{model} has no known price in the tier {tier}: the API may refuse it, and the cost stays unknown. "
        "`askmill estimate` shows the tiers with a price."
    )


def checked(
    file: str,
    request: SubmitRequest,
    settings: Settings,
    on_open: Callable[[PassFactory], None] | None = None,
) -> Intake:
    """Validate the file for this request: with a budget, each row's own model needs a known price.

    `on_open` is that of `askmill.jobs.intake.check`. Raises InputFaults and UsageError.
    """
    # Where the server is still to be asked for its API, what every API refuses is refused here (find_api.py).
    least = MIN_COMPLETION_TOKENS[request.target.api or "chat"]
    options = replace(request.intake, min_completion_tokens=least)
    intake = check(file, options, _price_check(request, settings), on_open)
    try:
        if request.expected is not None:
            check_column(request.expected, intake.spec)
    except UsageError:
        intake.close()
        raise
    return intake


def _price_check(request: SubmitRequest, settings: Settings) -> Callable[[str], str | None] | None:
    """What is wrong with a row's model under a budget; None without a budget."""
    if "budget_usd" not in request.limits:
        return None
    prices = Prices.read(settings.prices)

    def model_fault(model: str) -> str | None:
        if prices.has_price(model, request.profile.service_tier):
            return None
        return f"has no known price, so --budget cannot be kept. {PRICE_ADVICE}"

    return model_fault
