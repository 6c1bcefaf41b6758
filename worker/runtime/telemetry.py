"""Metrics for Prometheus and traces for OpenTelemetry, each through its own library; both are off by default.

Prometheus      with ASKMILL_METRICS_PORT: counters of this worker at http://HOST:PORT/metrics
OpenTelemetry   with OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT): one span per finished row, with child
                spans per attempt and per step. The API's clock times the steps, so only their distances are
                used: the first step begins with its attempt
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from askmill.config.settings import BadSetting, Settings
from askmill.jobs.model.models import Attempt, Result, Step

Times = tuple[float | None, float | None]
"""Start and end, Unix seconds."""
Attributes = Mapping[str, Any]
Observer = Callable[[str, Result], None]
OTLP = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
RUN_BUCKETS_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
NANO = 1_000_000_000

_observers: list[Observer] = []


def row_finished(batch: str, result: Result) -> None:
    """Report a row that has ended and is stored. Does nothing while telemetry is off."""
    for observe in _observers:
        observe(batch, result)


def set_up(settings: Settings, rows_held: Callable[[], int], slots: int) -> None:
    """Start the exporters that the settings and the environment ask for.

    Args:
        settings: the worker's settings.
        rows_held: returns how many rows this worker holds.
        slots: how many rows it can hold.

    Raises:
        BadSetting: a library is not installed, or the port is taken.
    """
    try:
        if settings.metrics_port is not None:
            _observers.append(_prometheus(settings.metrics_port, rows_held, slots))
        if any(os.environ.get(name) for name in OTLP):
            _observers.append(_opentelemetry())
    except ImportError as missing:
        raise BadSetting(
            f"{missing.name} is not installed. Install it with: pip install 'askmill[metrics]'"
        ) from None
    except OSError as error:
        raise BadSetting(
            f"ASKMILL_METRICS_PORT: port {settings.metrics_port} cannot be used: {error.strerror}. Give each "
            "worker of a machine its own port."
        ) from None


def _prometheus(port: int, rows_held: Callable[[], int], slots: int) -> Observer:
    from prometheus_client import Counter, Gauge, Histogram, start_http_server  # noqa: PLC0415 -- an extra

    rows = Counter("askmill_rows_finished", "Rows finished by this worker.", ["status"])
    attempts = Counter("askmill_attempts", "Runs created for them.")
    tokens = Counter("askmill_tokens", "Tokens of these runs.", ["direction"])
    cost = Counter("askmill_cost_usd", "Cost of these runs in US dollars, where the price is known.")
    seconds = Histogram(
        "askmill_run_seconds", "Seconds from a row's first run to the end of its last.", buckets=RUN_BUCKETS_S
    )
    Gauge("askmill_rows_held", "Rows this worker holds.").set_function(rows_held)
    Gauge("askmill_slots", "Rows this worker can hold.").set(slots)
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

    service = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "askmill-worker")}
    provider = TracerProvider(resource=Resource.create(service))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("askmill")

    def span(name: str, times: Times, attributes: Attributes, parent: Any) -> Any:
        context = None if parent is None else trace.set_span_in_context(parent)
        values = {f"askmill.{key}": value for key, value in attributes.items() if value is not None}
        started, ended = (None if at is None else int(at * NANO) for at in times)
        created = tracer.start_span(name, context, attributes=values, start_time=started)
        created.end(ended)
        return created

    def observe(batch: str, result: Result) -> None:
        row = span("askmill.row", _row_times(result), _row_attributes(batch, result), None)
        for attempt in result.attempts:
            times = (attempt.started_at, attempt.finished_at)
            run = span("askmill.attempt", times, _attempt_attributes(attempt), row)
            offset_s = _steps_offset_s(result, attempt)
            for step in (step for step in result.steps if step.attempt == attempt.number):
                times = (_shifted(step.started_at, offset_s), _shifted(step.finished_at, offset_s))
                span(f"askmill.step.{step.type}", times, _step_attributes(step), run)

    return observe


def _row_times(result: Result) -> Times:
    """From the first run's start to the last one's end."""
    started = [attempt.started_at for attempt in result.attempts if attempt.started_at is not None]
    ended = [attempt.finished_at for attempt in result.attempts if attempt.finished_at is not None]
    return min(started, default=None), max(ended, default=None)


def _steps_offset_s(result: Result, attempt: Attempt) -> float | None:
    """Our clock less the API's, for the attempt's steps; None where one of the two is unknown."""
    api_s = result.steps_began_at(attempt.number)
    return None if api_s is None or attempt.started_at is None else attempt.started_at - api_s


def _shifted(at: float | None, offset_s: float | None) -> float | None:
    return None if at is None or offset_s is None else at + offset_s


def _row_attributes(batch: str, result: Result) -> Attributes:
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


def _attempt_attributes(attempt: Attempt) -> Attributes:
    ids = {"run": attempt.run_id, "thread": attempt.thread_id}
    return {"attempt": attempt.number, "status": attempt.status, **ids}


def _step_attributes(step: Step) -> Attributes:
    return {"status": step.status, "completion_tokens": step.usage.completion_tokens}
