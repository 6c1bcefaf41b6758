"""Prometheus and OpenTelemetry as an operator turns them on: by environment variables, off otherwise."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from askmill.jobs.local.ports import free_port
from tests.stack import Stack
from tests.support import wait_until

KEY = "Zq7.distinctive.KEY.0123456789"
"""Nothing about it looks like a key; the API quotes it in a run's error."""


class _Collector(HTTPServer):
    """Takes OTLP over HTTP, as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[object] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        assert isinstance(self.server, _Collector)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[_Collector]:
    server = _Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_worker_exports_metrics_and_traces(tmp_path: Path, collector: _Collector) -> None:
    """Counters by status at its port; one trace per row, with child spans for attempts and steps, in the API's times; none has the key (15.1)."""
    port = free_port()
    settings = {
        "ASKMILL_METRICS_PORT": str(port),
        "OPENAI_API_KEY": KEY,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with Stack(tmp_path) as stack:
        stack.worker(concurrency=7, **settings)
        batch = await stack.submit(["What is 6 * 7?", f'1 [emulate: failed(content_policy, "{KEY}?")]'])
        await stack.wait_for(batch)

        metrics = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
        wait_until(lambda: len(collector.spans) >= 6, "the spans have been exported")

    spans = str(collector.spans)
    assert "content_policy" in spans
    assert KEY not in spans + metrics
    assert 'askmill_rows_finished_total{status="completed"} 1.0' in metrics
    assert 'askmill_rows_finished_total{status="failed"} 1.0' in metrics
    assert "askmill_attempts_total 2.0" in metrics
    assert "askmill_slots 7.0" in metrics
    by_name: dict[str, list[object]] = {}
    for span in collector.spans:
        by_name.setdefault(span.name, []).append(span)  # type: ignore[attr-defined]
    assert len(by_name["askmill.row"]) == len(by_name["askmill.attempt"]) == 2
    rows = {span.span_id for span in by_name["askmill.row"]}  # type: ignore[attr-defined]
    assert {span.parent_span_id for span in by_name["askmill.attempt"]} == rows  # type: ignore[attr-defined]
    assert "askmill.step.code_interpreter" in by_name
    for span in by_name["askmill.attempt"]:
        assert span.end_time_unix_nano >= span.start_time_unix_nano > 0  # type: ignore[attr-defined]


def test_a_port_in_use_is_an_error_before_any_row_is_claimed(tmp_path: Path, collector: _Collector) -> None:
    """Exit code 2 and a message that names the variable; no traceback."""
    with Stack(tmp_path) as stack:
        child = stack.worker(ASKMILL_METRICS_PORT=str(collector.server_port))

        wait_until(lambda: not child.alive, "the worker has ended", timeout_s=60)

        assert child.process is not None
        assert child.process.returncode == 2
        log = child.log.read_text()
        assert "ASKMILL_METRICS_PORT" in log
        assert "Traceback" not in log
