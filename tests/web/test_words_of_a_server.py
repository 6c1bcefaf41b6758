"""The words of a server are shown in many places, and are inert in each: no markup, no control codes (15.5, E5)."""

import asyncio

import httpx2
import pytest
from click.testing import CliRunner

from askmill.config.logs import set_up_logs
from askmill.jobs.cli.root import askmill
from askmill.jobs.model.models import JobStatus
from askmill.jobs.store import Store
from askmill.jobs.store.records import NewRow
from askmill.jobs.store.waits import Fault
from tests.helpers.batches import claim_row, make_result, submit_batch, worker_info

CODES = "\x1b[2J\x1b]0;gone\x07\x9b31m\u202e\u2066\r"
WORDS = f"http_500: <script>alert(1)</script><img src=x onerror=alert(1)> {CODES} the end"
COMMANDS = (
    ("status",),
    ("status", "--json"),
    ("list",),
    ("list", "--json"),
    ("show", "BATCH", "1"),
    ("show", "BATCH", "1", "--json"),
    ("show", "BATCH", "2"),
    ("doctor",),
    ("report", "BATCH", "-o", "-"),
)


async def batch_with_words(store: Store) -> str:
    """Row 1 has failed with the words, in every field that a server fills; the batch is paused by them."""
    batch = await submit_batch(store, [NewRow(["first"]), NewRow(["second"])])
    await store.heartbeat(worker_info())
    claim = await claim_row(store, (await store.dispatch(0))[0])
    await store.save(claim, b"{}", run_created=True)
    words = {"error": WORDS, "model": WORDS, "answer": WORDS}
    await store.finish(claim, make_result(1, JobStatus.FAILED, **words))
    await store.record_fault(batch, Fault(WORDS, WORDS, f"POST /{WORDS}", 3, "a"))
    await store.pause_from_worker(batch, WORDS, 3600.0)
    return batch


def is_inert(text: str) -> bool:
    """No character that a terminal obeys; a carriage return ends a line of a file alone."""
    return not {*CODES} - {"[", "2", "J", "]", "0", ";", "3", "1", "m", *"gone"} & {
        *text.replace("\r\n", "\n")
    }


async def test_no_page_and_no_answer_of_the_web_runs_them(client: httpx2.AsyncClient, store: Store) -> None:
    """Escaped in pages, without control codes there and in the live parts."""
    batch = await batch_with_words(store)
    for path in ("/", f"/batches/{batch}", f"/batches/{batch}/rows/1", f"/batches/{batch}?view=charts"):
        page = (await client.get(path)).text
        assert path == "/" or "the end" in page, path
        assert "<script>alert" not in page, path
        assert "<img" not in page, path
        assert is_inert(page), path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_no_command_writes_their_control_codes(
    store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """On a terminal, in a pipe, as JSON and in a report."""
    batch = await batch_with_words(store)
    monkeypatch.setenv("ASKMILL_REDIS_URL", redis_url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    arguments = [part.replace("BATCH", batch) for part in command]
    shown = await asyncio.to_thread(CliRunner().invoke, askmill, arguments)
    text = shown.output
    assert text, shown.exception
    assert is_inert(text)
    assert "<script>alert" not in text or command[0] != "report"


def test_no_log_line_holds_them(capsys: pytest.CaptureFixture[str]) -> None:
    """In both formats."""
    import structlog  # noqa: PLC0415 -- configured here

    for form in ("json", "console"):
        set_up_logs(form, "info")
        structlog.get_logger().info("request.failed", fault=WORDS, request=WORDS)
        text = capsys.readouterr().err
        assert "the end" in text
        assert is_inert(text)
        assert "\\u001b" not in text
