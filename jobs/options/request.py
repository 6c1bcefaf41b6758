"""The options of a batch as one request, and its estimate: for commands, the web page and the library."""

from collections.abc import Callable
from dataclasses import replace

from askmill.config.settings import Settings
from askmill.jobs.intake import Intake
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.models import EMULATOR_MODEL, Api
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.pricing import Estimate, Prices, estimate
from askmill.jobs.options.batch import changed_limits, intake_options, profile_options
from askmill.jobs.options.results import OptionValues, expectation
from askmill.jobs.submit.check import refuse_unpriced, unpriced_tier_note
from askmill.jobs.submit.profile_loader import build_profile, refuse_unsupported, warnings
from askmill.jobs.submit.request import Say, SubmitRequest
from askmill.jobs.submit.tier_estimates import with_fallback
from askmill.jobs.submit.tier_rules import refuse_tier


def without_paid_options(values: OptionValues, say: Say) -> OptionValues:
    """The options as `--offline` uses them: no model and no budget. Says which ones are ignored."""
    ignored = ["--model"] if values.get("model") else []
    ignored += ["--override model"] if "model" in values.get("overrides", ()) else []
    ignored += ["--budget"] if values.get("budget_usd") is not None else []
    if ignored:
        verb = "is" if len(ignored) == 1 else "are"
        say(
            f"Note: with --offline the emulator answers as {EMULATOR_MODEL} at no cost; "
            f"{' and '.join(ignored)} {verb} ignored."
        )
    return {**values, "model": None, "budget_usd": None}


def _profile_and_target(settings: Settings, values: OptionValues, target: Target) -> tuple[Profile, Target]:
    """The profile, and the target that serves its tier: the emulator has batches where no API is set."""

    def build(api: Api | None) -> Profile:
        options = profile_options(values)
        return build_profile(values["profile"], options, settings.model, offline=target.offline, api=api)

    profile = build(target.api)
    if target.offline and settings.api is None and profile.service_tier == "batch":
        target = replace(target, api="responses")  # the Assistants API has no batch jobs
        profile = build(target.api)
    return profile, target


def submit_request(settings: Settings, values: OptionValues, target: Target, say: Say) -> SubmitRequest:
    """The options as one request, checked before the file is read."""
    values = without_paid_options(values, say) if target.offline else values
    profile, target = _profile_and_target(settings, values, target)
    refuse_unsupported(profile, target.api, values["overrides"])
    request = SubmitRequest(
        intake=intake_options(values),
        profile=profile,
        target=target,
        limits=changed_limits(values),
        name=values["name"],
        new=values["new"],
        idempotency_key=values["idempotency_key"],
        reuse_answers=values["reuse_answers"],
        retention_days=settings.retention_days,
        expected=expectation(values),
    )
    refuse_tier(request)
    prices = Prices.read(settings.prices)
    refuse_unpriced(request, prices)
    unpriced = unpriced_tier_note(request, prices)
    for warning in [*warnings(profile, target), *([unpriced] if unpriced else [])]:
        say(f"Note: {warning}")
    return request


def estimates_of(prices: Prices, intake: Intake, request: SubmitRequest) -> Callable[[Profile], Estimate]:
    """The estimate of the batch with a profile, from its questions alone; reads the file once."""
    rows, characters = intake.rows - intake.rejected, question_characters(intake)
    return with_fallback(
        lambda profile: estimate(prices, profile, rows, characters), request.limits.get("tier_fallback")
    )


def question_characters(intake: Intake) -> int:
    """The length of all questions that will be asked; reads the file once."""
    return sum(len(intake.spec.question(row.cells)) for row in intake.rows_iter() if row.reject is None)
