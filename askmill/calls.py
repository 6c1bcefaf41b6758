"""The use cases behind `askmill.run`, `submit`, …: coroutines on askmill's own event loop (bridge.py)."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from askmill.bridge import Call
from askmill.comparison import Comparison
from askmill.config.misspelt import misspelt_settings
from askmill.config.settings import Settings, load_settings
from askmill.errors import InputFaults, ProfileError, Unavailable
from askmill.jobs.display.stall_text import stall_reason
from askmill.jobs.display.status_text import summary_line
from askmill.jobs.intake import Intake
from askmill.jobs.local.open_store import open_store, redis_url, resolve_batch
from askmill.jobs.model.api_target import Consent, api_target
from askmill.jobs.openai_client import pricing
from askmill.jobs.openai_client.pricing import Prices
from askmill.jobs.options.batch import batch_parser
from askmill.jobs.options.request import estimates_of, submit_request
from askmill.jobs.options.results import expectation as expectation_of
from askmill.jobs.options.statuses import parse_retried, parse_statuses
from askmill.jobs.results.compare import compared_rows, open_comparison
from askmill.jobs.run.run import Run, RunSpec
from askmill.jobs.run.watch import exit_code, watch
from askmill.jobs.store import Store
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import RowView, StatusView
from askmill.jobs.submit import control
from askmill.jobs.submit.check import checked
from askmill.jobs.submit.request import SubmitRequest
from askmill.jobs.submit.submit import existing_text
from askmill.jobs.submit.submit import submit as submit_batch
from askmill.jobs.submit.tier_estimates import tier_estimates
from askmill.options import to_argv
from askmill.questions import ROWS, Questions, is_path, question_file
from askmill.results import Results
from askmill.types import Estimate, Status, TierEstimate, status_from_json

PAUSED = 3
"""The exit code of a batch that has paused itself."""
OBJECTS = ("profile", "functions", "response_schema")
"""Options that may be objects, which have no form on the command line."""
Parse = Callable[[str], Any]


async def run(
    call: Call,
    questions: Questions,
    options: Mapping[str, Any],
    *,
    offline: bool = False,
    concurrency: int | None = None,
) -> Results:
    """See `askmill.run`."""
    settings, views = load_settings(), list[RowView]()
    request = _request(call, settings, options, offline=offline)

    async def deliver(store: Store, batch: str) -> None:
        views.extend([view async for view in store.results(batch)])

    with _checked(questions, request, settings) as intake:
        execution = Run(
            RunSpec(
                settings=settings,
                submit=request,
                file=intake.name,
                plan_of=lambda _: None,
                confirm=lambda _: None,
                say=call.say,
                on_outcome=lambda outcome: call.say(summary_line(outcome.view)),
                concurrency=concurrency,
                progress=lambda: _Reporter(call),
                deliver=deliver,
            ),
            intake,
        )
        try:
            outcome = await execution.run_in_loop()
        finally:
            call.batch = execution.batch
    if outcome.code == PAUSED:
        raise _paused(outcome.view)
    return Results(outcome.view.batch, views, _parser(options.get("response_schema")))


async def submit(call: Call, questions: Questions, options: Mapping[str, Any]) -> str:
    """See `askmill.submit`."""
    settings = load_settings()
    request = _request(call, settings, options)
    with _checked(questions, request, settings) as intake, redis_url(settings) as url:
        async with await Store.open(url, durability=settings.durability_in_use) as store:
            submitted = await submit_batch(store, url, intake, request, call.say)
    if submitted.existing is not None:
        call.say(existing_text(submitted.existing))
    if submitted.stall:
        call.say(submitted.stall)
    return submitted.batch


async def estimate(call: Call, questions: Questions, options: Mapping[str, Any]) -> Estimate:
    """See `askmill.estimate`."""
    settings = load_settings()
    request = _request(call, settings, options, needs_key=False)
    with _checked(questions, request, settings) as intake:
        estimate_of = estimates_of(Prices.read(settings.prices), intake, request)
    found = estimate_of(request.profile)
    return Estimate(
        rows=found.rows,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=(found.completion_low, found.completion_high),
        cost_usd=_cost_usd(found),
        tiers=tuple(
            TierEstimate(each.tier, _cost_usd(each.estimate), each.ends, each.ends_within_s, each.refusal)
            for each in tier_estimates(request, estimate_of)
        ),
    )


async def status(_: Call, batch: str | None) -> Status:
    """See `askmill.status`."""
    async with _open(batch) as (store, found):
        return _status(await store.status(found.id))


async def collect(
    call: Call, batch: str | None, statuses: Sequence[str], *, wait: bool, response_schema: Any = None
) -> Results:
    """See `askmill.collect`."""
    chosen = parse_statuses(",".join(statuses)) if statuses else None
    async with _open(batch) as (store, found):
        if wait:
            call.batch = found.id
            async for view in watch(store, found.id):
                call.show(view)
            if exit_code(view) == PAUSED:
                raise _paused(view)
            if stall := stall_reason(view):
                call.say(stall)
        views = [view async for view in store.results(found.id, chosen)]
        return Results(await store.batch(found.id), views, _parser(response_schema))


async def compare(
    _: Call, batches: Sequence[str | Results], names: Sequence[str], expected: str | None, match: str | None
) -> Comparison:
    """See `askmill.compare`."""
    ids = [batch.batch if isinstance(batch, Results) else batch for batch in batches]
    expectation = expectation_of({"expected": expected, "match": match})
    async with open_store(load_settings()) as store:
        comparison = await open_comparison(store, ids, names, expectation)
        rows = [row async for chunk in compared_rows(store, comparison) for row in chunk]
    return Comparison(comparison, rows)


async def cancel(_: Call, batch: str, *, trust_env_file: bool) -> Status:
    """See `askmill.cancel`."""
    async with _open(batch) as (store, found):
        await control.cancel(store, found, load_settings(), Consent(granted=trust_env_file))
        return _status(await store.status(found.id))


async def retry(call: Call, batch: str | None, statuses: Sequence[str], attempts: int | None) -> Status:
    """See `askmill.retry`."""
    chosen, settings = parse_retried(",".join(statuses) or None), load_settings()
    with redis_url(settings) as url:
        async with await Store.open(url) as store:
            found = await store.batch(await resolve_batch(store, batch))
            call.say((await control.retry(store, found, url, chosen, attempts)).message)
            return _status(await store.status(found.id))


def _cost_usd(found: pricing.Estimate) -> tuple[float, float] | None:
    return None if found.low_usd is None or found.high_usd is None else (found.low_usd, found.high_usd)


class _Reporter:
    """Reports the progress of a run to its call."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the last view: the display ends with the call."""

    def show(self, view: StatusView, _: Sequence[str] = ()) -> None:
        self._call.batch = view.batch.id
        self._call.show(view, worker_starting=True)


def _request(
    call: Call,
    settings: Settings,
    options: Mapping[str, Any],
    *,
    offline: bool = False,
    needs_key: bool = True,
) -> SubmitRequest:
    """The keywords as one request, checked before the questions are read."""
    for sentence in misspelt_settings():
        call.say(sentence)
    values = option_values(options)
    consent = Consent(granted=values["trust_env_file"])
    target = api_target(settings, offline=offline, needs_key=needs_key, consent=consent)
    if target.unencrypted_key_warning is not None:
        call.say(target.unencrypted_key_warning)
    return submit_request(settings, values, target, call.say)


def option_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords as the command line's parser has them: the same checks, the same sentences.

    Raises UsageError, ProfileError, and click's errors.
    """
    objects = {name: value for name in OBJECTS if _is_object(value := options.get(name))}
    argv = to_argv({name: value for name, value in options.items() if name not in objects})
    with batch_parser.make_context("submit", [*argv, "--", ROWS]) as context:
        values = dict(context.params)
    if "functions" in objects:
        objects["functions"] = tuple(options["functions"])
    if "response_schema" in objects:
        objects["response_schema"] = _schema(objects["response_schema"])
    return values | objects


def _is_object(value: Any) -> bool:
    if isinstance(value, Mapping | type):
        return True
    return isinstance(value, Sequence) and not isinstance(value, str)


def _schema(value: Any) -> dict[str, Any]:
    """The JSON schema of a mapping or a pydantic model."""
    if isinstance(value, Mapping):
        return dict(value)
    if not hasattr(value, "model_json_schema"):
        raise ProfileError(
            f"response_schema: {value!r:.80} is neither a JSON schema, its path nor a pydantic model."
        )
    schema: dict[str, Any] = value.model_json_schema()
    return schema


def _parser(response_schema: Any) -> Parse | None:
    """What makes an instance of the pydantic model from an answer; None for plain data."""
    return getattr(response_schema, "model_validate_json", None)


@contextmanager
def _checked(questions: Questions, request: SubmitRequest, settings: Settings) -> Iterator[Intake]:
    """The questions as a validated input. Raises InputFaults, which name a file of ours `the rows`."""
    with question_file(questions) as file:
        try:
            intake = checked(file, request, settings)
        except InputFaults as faults:
            if is_path(questions):
                raise
            raise InputFaults(ROWS, faults.faults, faults.total) from None
        with intake:
            yield intake if is_path(questions) else replace(intake, name="rows")


@asynccontextmanager
async def _open(batch: str | None) -> AsyncIterator[tuple[Store, Batch]]:
    async with open_store(load_settings()) as store:
        yield store, await store.batch(await resolve_batch(store, batch))


def _status(view: StatusView) -> Status:
    return status_from_json(view.to_json())


def _paused(view: StatusView) -> Unavailable:
    batch = view.batch.id
    return Unavailable(
        f"{summary_line(view)}\n{stall_reason(view)}\naskmill.collect({batch!r}) returns the rows so far."
    )
