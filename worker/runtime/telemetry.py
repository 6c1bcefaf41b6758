"""What a worker tells Prometheus and OpenTelemetry, each through its own library; both are off by default.

Prometheus      ASKMILL_METRICS_PORT is set: counters of this worker at http://HOST:PORT/metrics
OpenTelemetry   OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) is set: a span a finished row, below
                it one an attempt and one a step. Steps are timed by the API's clock: only how they lie to
                each other is taken from it, the first one begins with its attempt
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from askmill.config.settings import BadSetting, Settings
from askmill.jobs.model.models import Attempt, Result, Step

Times = tuple[float | None, float | None]
"""From when to when, Unix seconds."""
Told = Mapping[str, Any]
Observer = Callable[[str, Result], None]
OTLP = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
RUN_BUCKETS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
NANO = 1_000_000_000

_observers: list[Observer] = []


def finished(batch: str, result: Result) -> None:
    """A row has ended and is stored. Costs nothing while nobody listens."""
    for observe in _observers:
        observe(batch, result)


def set_up(settings: Settings, held: Callable[[], int], slots: int) -> None:
    """Start what the settings ask for; `held` says how many rows this worker has in hand.

    Raises BadSetting when its library is not installed or the port is taken.
    """
    try:
        if settings.metrics_port is not None:
            _observers.append(_prometheus(settings.metrics_port, held, slots))
        if any(os.environ.get(name) for name in OTLP):
            _observers.append(_opentelemetry())
    except ImportError as missing:
        told = f"{missing.name} is not installed; pip install 'askmill[metrics]' brings it."
        raise BadSetting(told) from None
    except OSError as taken:
        raise BadSetting(
            f"ASKMILL_METRICS_PORT: port {settings.metrics_port} cannot be used: {taken.strerror}. Give each "
            "worker of a machine its own."
        ) from None


def _prometheus(port: int, held: Callable[[], int], slots: int) -> Observer:
    from prometheus_client import Counter, Gauge, Histogram, start_http_server  # noqa: PLC0415 -- an extra

    rows = Counter("askmill_rows_finished", "Rows finished by this worker.", ["status"])
    attempts = Counter("askmill_attempts", "Runs made for them.")
    tokens = Counter("askmill_tokens", "Tokens they took.", ["direction"])
    cost = Counter("askmill_cost_usd", "US dollars they cost, where the price is known.")
    seconds = Histogram("askmill_run_seconds", "Time of their last run.", buckets=RUN_BUCKETS_S)
    Gauge("askmill_rows_held", "Rows in this worker's hands.").set_function(held)
    Gauge("askmill_slots", "Rows it can hold.").set(slots)
    start_http_server(port)

    def observe(_: str, result: Result) -> None:
        rows.labels(result.status.value).inc()
        attempts.inc(result.attempt_count)
        tokens.labels("prompt").inc(result.usage.prompt_tokens or 0)
        tokens.labels("completion").inc(result.usage.completion_tokens or 0)
        cost.inc(result.cost_usd or 0.0)
        if result.duration_s is not None:
            seconds.observe(result.duration_s)

    return observe


def _opentelemetry() -> Observer:
    from opentelemetry import trace  # noqa: PLC0415 -- an extra
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "askmill-worker")}
    provider = TracerProvider(resource=Resource.create(name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("askmill")

    def span(said: str, times: Times, told: Told, above: Any) -> Any:
        context = None if above is None else trace.set_span_in_context(above)
        known = {f"askmill.{key}": value for key, value in told.items() if value is not None}
        begun, ended = (None if at is None else int(at * NANO) for at in times)
        made = tracer.start_span(said, context, attributes=known, start_time=begun)
        made.end(ended)
        return made

    def observe(batch: str, result: Result) -> None:
        row = span("askmill.row", _around(result), _of_row(batch, result), None)
        for attempt in result.attempts:
            times = (attempt.started_at, attempt.finished_at)
            run = span("askmill.attempt", times, _of_attempt(attempt), row)
            later_s = _later_s(result, attempt)
            for step in (step for step in result.steps if step.attempt == attempt.number):
                times = (_shifted(step.started_at, later_s), _shifted(step.finished_at, later_s))
                span(f"askmill.step.{step.type}", times, _of_step(step), run)

    return observe


def _around(result: Result) -> Times:
    """From its first run's start to its last one's end, Unix seconds."""
    begun = [attempt.started_at for attempt in result.attempts if attempt.started_at is not None]
    ended = [attempt.finished_at for attempt in result.attempts if attempt.finished_at is not None]
    return min(begun, default=None), max(ended, default=None)


def _later_s(result: Result, attempt: Attempt) -> float | None:
    """What turns the API's times of the attempt's steps into ours; None: one of the two is unknown."""
    api_s = result.steps_began_at(attempt.number)
    return None if api_s is None or attempt.started_at is None else attempt.started_at - api_s


def _shifted(at: float | None, later_s: float | None) -> float | None:
    return None if at is None or later_s is None else at + later_s


def _of_row(batch: str, result: Result) -> Told:
    return {
        "batch": batch,
        "row": result.row,
        "status": result.status.value,
        "error": result.error,
        "model": result.model,
        "cost_usd": result.cost_usd,
        "prompt_tokens": result.usage.prompt_tokens,
        "completion_tokens": result.usage.completion_tokens,
    }


def _of_attempt(attempt: Attempt) -> Told:
    ids = {"run": attempt.run_id, "thread": attempt.thread_id}
    return {"attempt": attempt.number, "status": attempt.status, **ids}


def _of_step(step: Step) -> Told:
    return {"status": step.status, "completion_tokens": step.usage.completion_tokens}
