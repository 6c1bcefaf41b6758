"""Status text: shares that add up, advice for every pause reason, no control codes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from askmill.config.text import about_usd, format_duration, format_rate, format_usd, one_line, strip_control
from askmill.jobs.display.progress import panel
from askmill.jobs.display.shards_text import shards_line
from askmill.jobs.display.stall_text import stall_reason
from askmill.jobs.display.status_text import (
    bar,
    format_time_left,
    log_line,
    retry_command,
    status_lines,
    summary_line,
)
from askmill.jobs.model.models import Api, BatchState, InputSpec, Limits
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.run.watch import exit_code, is_over
from askmill.jobs.store.eta import TimeLeft
from askmill.jobs.store.records import Batch
from askmill.jobs.store.shard_views import ShardSummary
from askmill.jobs.store.views import Counts, StatusView, WorkerInfo
from askmill.jobs.store.waits import LastFault, Waiting

BYTES = "qpwhrciefxj"
COUNTS = st.lists(st.integers(0, 10**6), min_size=len(BYTES), max_size=len(BYTES)).filter(any)


def _worker(api: Api = "assistants", project: str = "") -> WorkerInfo:
    return WorkerInfo("w", "host", 1, 10, api, "http://api", project=project)


def _view(
    counts: dict[str, int],
    state: BatchState = BatchState.RUNNING,
    reason: str | None = None,
    workers: tuple[WorkerInfo, ...] = (),
    other_workers: tuple[WorkerInfo, ...] = (),
) -> StatusView:
    batch = Batch(
        id="b_000001",
        name="sums",
        file="sums.csv",
        rows=sum(counts.values()),
        spec=InputSpec(("question",), "question"),
        profile=Profile(),
        resources=Resources(),
        api="assistants",
        base_url="http://api",
        model="m",
        limits=Limits(),
        identity="",
        options={},
        state=state,
        paused_reason=reason,
        accepted=True,
        submitted_at_ms=0,
        started_at_ms=0,
        finished_at_ms=None,
    )
    return StatusView(batch, Counts(counts, {}), workers, other_workers, 1.0, 1.0)


@given(COUNTS, st.integers(10, 200))
def test_the_bar_is_as_wide_as_asked(numbers: list[int], width: int) -> None:
    """For all counts: no row is drawn twice, and none beyond the end."""
    view = _view(dict(zip(BYTES, numbers, strict=True)))

    assert len(bar(view, width)) == width
    assert all(status_lines(view, width))


@given(st.text())
def test_text_from_files_and_the_api_cannot_control_the_terminal(text: str) -> None:
    """Escape codes and direction marks are removed, and one line stays one line."""
    assert not set("\x1b\x07\x08\r\x9b\u202e") & set(strip_control(text))
    assert "\n" not in one_line(text, 50)
    assert len(one_line(text, 50)) <= 50


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("requested by a user", "resume b_000001"),
        ("budget", "--budget"),
        ("insufficient_quota: You exceeded your quota", "billing"),
        ("429: Budget has been exceeded! Current cost: 26, Max budget: 25", "has no credit"),
        ("402: Insufficient credits", "Add credit"),
        ("project_spend_limit_exceeded", "resume b_000001"),
        ("server_error: The model 'x' does not exist", "does not have the model m ("),
        ("DeploymentNotFound: The API deployment for this resource does not exist", "ASKMILL_MODEL"),
        ("invalid_api_key: Incorrect API key", "OPENAI_API_KEY"),
        ("401", "the same `askmill run`"),
        ("unauthorized: no", "refuses the key in OPENAI_API_KEY"),
        ("permission_denied: no permission for this", "OPENAI_PROJECT_ID"),
        ("another project: the server has none of 3 runs", "the same OPENAI_API_KEY"),
        ("http_404: Not Found (POST /conversations)", "`askmill doctor`"),
        ("http_403: blocked, refused for rows 1, 2 and 3 in the same way", "resume b_000001"),
        ("api_unreachable", "doctor"),
        (
            "redirected: set OPENAI_BASE_URL to https://api.example.com/v1",
            "submit the file again with the new one",
        ),
        ("proxy_refused: the proxy wants a user", "the same `askmill run`"),
        ("something new", "resume b_000001"),
    ],
)
def test_a_paused_batch_says_what_to_do(reason: str, hint: str) -> None:
    """It names the reason, and the command or setting that fixes it."""
    text = stall_reason(_view({"q": 1}, BatchState.PAUSED, reason))

    assert reason in text
    assert hint in text


def test_a_pause_with_an_end_says_when_and_is_not_the_end_of_the_batch() -> None:
    """A10: `run` and `collect --wait` go on as long as a worker can resume it."""
    paused = _view({"q": 1}, BatchState.PAUSED, "rate_limit_exceeded: try again in 1d", workers=(_worker(),))
    until_ms = 1_795_914_061_000
    view = replace(paused, batch=replace(paused.batch, paused_until_ms=until_ms))

    assert "Paused until 2026-11-29 01:01:01 UTC: rate_limit_exceeded" in stall_reason(view)
    assert not is_over(view)
    alone = replace(view, workers=())
    assert is_over(alone)
    assert not is_over(alone, worker_expected=True)


def test_the_last_fault_and_a_wait_of_all_batches_are_lines_of_their_own() -> None:
    """E5, A10: the words without control codes, how often, since when until when; an old fault is not shown."""
    fault = LastFault("http_500: no\x1b[31m", "POST /threads", 12, 1_795_914_061_000, 1_795_914_071_000)
    wait = Waiting("all batches", "rate_limit_exceeded: slow", 1_795_914_061_000, 1_795_914_081_000)
    view = _view({"q": 1}, workers=(_worker(),))
    view = replace(view, batch=replace(view.batch, last_fault=fault), waiting=wait, now_ms=fault.at_ms)

    for text in ("\n".join(status_lines(view)), log_line(view)):
        assert "Last fault: POST /threads: http_500: no" in text
        assert "12 times since 2026-11-29 01:01:01 UTC, the last at 2026-11-29 01:01:11 UTC" in text
        assert "New runs wait since 2026-11-29 01:01:01 UTC until 2026-11-29 01:01:21 UTC: rate_limit" in text
        assert "\x1b" not in text
    assert "Last fault" not in log_line(replace(view, now_ms=fault.at_ms + 3_600_000))


def test_a_batch_without_a_matching_worker_says_how_to_start_one() -> None:
    """No worker is alive, or only workers for another API: both messages name the fix."""
    assert "askmill worker" in stall_reason(_view({"q": 1}))
    assert "ASKMILL_API=assistants" in stall_reason(_view({"q": 1}, other_workers=(_worker("responses"),)))
    other_project = stall_reason(_view({"q": 1}, other_workers=(_worker(project="proj_2"),)))
    assert other_project.endswith(
        "one on host uses assistants at http://api (project proj_2). Start one with ASKMILL_API=assistants, "
        "OPENAI_BASE_URL=http://api and without OPENAI_PROJECT_ID."
    )
    assert stall_reason(_view({"q": 1}, workers=(_worker(),))) == ""
    assert stall_reason(_view({"c": 1}, BatchState.DONE)) == ""


@pytest.mark.parametrize(
    ("counts", "state", "workers", "over", "code"),
    [
        ({"c": 2}, BatchState.DONE, 0, True, 0),
        ({"c": 1, "f": 1}, BatchState.DONE, 0, True, 1),
        ({"c": 1, "j": 1}, BatchState.DONE, 0, True, 1),
        ({"c": 1, "x": 1}, BatchState.CANCELLED, 1, True, 1),
        ({"x": 1, "r": 1}, BatchState.CANCELLED, 1, False, 1),
        ({"x": 1, "r": 1}, BatchState.CANCELLED, 0, True, 1),
        ({"q": 1, "r": 1}, BatchState.PAUSED, 1, False, 3),
        ({"q": 2}, BatchState.PAUSED, 1, True, 3),
        ({"q": 1, "c": 1}, BatchState.RUNNING, 0, False, 1),
    ],
)
def test_when_waiting_ends_and_how(
    counts: dict[str, int], state: BatchState, workers: int, over: bool, code: int
) -> None:
    """The documented exit codes; runs in flight are waited for while a live worker can end them."""
    view = _view(counts, state, workers=(_worker(),) * workers)

    assert is_over(view) is over
    assert exit_code(view) == code


@pytest.mark.parametrize(
    ("counts", "option"),
    [
        ({"c": 2}, ""),
        ({"c": 1, "f": 1, "i": 1, "e": 1}, ""),
        ({"f": 1, "j": 1}, ""),
        ({"c": 1, "x": 1}, " --status cancelled"),
        ({"f": 1, "x": 1}, " --status failed,cancelled"),
    ],
)
def test_the_retry_command_names_statuses_that_are_not_retried_by_default(
    counts: dict[str, int], option: str
) -> None:
    """Plain `retry` does not include cancelled rows."""
    view = _view(counts, BatchState.DONE)

    assert retry_command(view.batch, view.counts) == f"askmill retry b_000001{option}"


def test_a_command_that_starts_workers_waits_for_a_cancelled_batch() -> None:
    """`run` starts a worker that records how the runs ended; `status` says that no worker is alive."""
    unfinished = _view({"x": 1, "w": 2}, BatchState.CANCELLED)

    assert not is_over(unfinished, worker_expected=True)
    assert is_over(_view({"x": 3}, BatchState.CANCELLED), worker_expected=True)
    assert "to record how 2 rows ended" in stall_reason(unfinished)


def test_durations_and_sums_are_readable() -> None:
    """Durations have units, sums have suitable digits, and unknown is not 0."""
    assert [format_duration(s) for s in (4.21, 185, 7800)] == ["4.2 s", "3 min 05 s", "2 h 10 min"]
    assert [format_usd(x) for x in (None, 0.0, 0.00001, 0.0123, 1234.5)] == [
        "no known price",
        "$0.00",
        "under $0.0001",
        "$0.0123",
        "$1,234.50",
    ]


def test_estimates_have_two_digits_and_rates_their_own_unit() -> None:
    """No false precision: an estimate is rounded; a slow batch is `5 rows/min`, not 0.1 rows/s."""
    assert [about_usd(x) for x in (0, 0.00001, 0.00974, 0.214, 5.555, 1234.5)] == [
        "$0",
        "under $0.0001",
        "about $0.0097",
        "about $0.21",
        "about $5.60",
        "about $1,200",
    ]
    assert [format_rate(x) for x in (1234.5, 3.21, 0.09, 1 / 60, 0.0009, 0.00001)] == [
        "1,234 rows/s",
        "3.2 rows/s",
        "5 rows/min",
        "1 row/min",
        "3 rows/h",
        "under 1 row/h",
    ]


def test_the_log_line_and_the_summary_are_one_line_with_the_id() -> None:
    """So that they can be searched for."""
    view = _view({"c": 3, "f": 1}, BatchState.DONE)
    for text in (log_line(view), summary_line(view)):
        assert text.startswith("b_000001")
        assert "3 completed · 1 failed" in text
        assert "\n" not in text


@pytest.mark.parametrize(
    ("low_s", "high_s", "text"),
    [
        (0.2, 0.9, "under 1 s left"),
        (40, 95, "40 to 95 s left"),
        (30, 170, "under 3 min left"),
        (185, 470, "3 to 8 min left"),
        (7200, 9000, "2 to 3 h left"),
        (86400 * 2, 86400 * 3.5, "2 to 4 days left"),
    ],
)
def test_the_time_left_is_a_range(low_s: float, high_s: float, text: str) -> None:
    """It is rounded outwards, in one unit."""
    assert format_time_left(TimeLeft(low_s, high_s)) == text


TOTALS = {
    "runs": 1234,
    "requests": 98765,
    "throttled": 17,
    "retries:server_error": 12,
    "retries:expired": 3,
    "prompt": 1_234_567,
    "completion": 234_567,
    "cost_nano": 1_234_000_000,
    "unknown_creates": 2,
}


def _panel(width: int, numbers: dict[str, int]) -> list[str]:
    view = _view(numbers, workers=(_worker(),))
    view = replace(view, counts=Counts(numbers, TOTALS), time_left=TimeLeft(185, 470))
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(panel(view, width, 310.4))
    return captured.get().splitlines()


@given(COUNTS, st.sampled_from([40, 80, 200]))
def test_the_panel_fits_its_terminal(numbers: list[int], width: int) -> None:
    """For all counts: no line is wider than the terminal, and the bar is one line."""
    lines = _panel(width, dict(zip(BYTES, numbers, strict=True)))

    assert max(map(len, lines)) <= width
    assert lines[1].endswith(" %")


def test_the_panel_has_all_parts() -> None:
    """Counts, pace, time left, requests per minute, workers, tokens, cost, rate limits, retries by reason."""
    text = "\n".join(_panel(200, {"c": 60, "f": 2, "r": 8, "q": 30}))

    for part in (
        "60 completed · 8 running · 30 queued · 2 failed",
        "1.0 rows/s · 3 to 8 min left · 1,234 runs · 98,765 requests (310/min) · 1 worker",
        "1,234,567 tokens in, 234,567 out · $1.23 · about $2.00 in total",
        "rate limited 17 times · retries: expired 3, server_error 12 · 2 creates of unknown outcome",
    ):
        assert part in text


def test_shards_show_how_far_the_api_is() -> None:
    """No row ends before its whole job has: until then the API's own counts show that something moves."""
    summary = ShardSummary({"followed": 2, "done": 1}, {"in_progress": 2}, lines=4000, lines_ended=1234)
    line = shards_line(replace(_view({"r": 4000}), shards=summary))
    assert line == "shards: 2 followed (2 in_progress), 1 done · the API has ended 1,234 of 4,000 lines"


def test_the_log_line_says_that_no_worker_is_alive() -> None:
    """A CI log shows it if no worker was started."""
    assert "askmill worker" in log_line(_view({"q": 1}))
    assert "askmill worker" not in log_line(_view({"q": 1}), worker_starting=True)


def test_a_starting_worker_is_announced_with_the_rows_it_takes_over() -> None:
    """Case E8: after kill -9 of `run` and its worker, rows are still held by the dead one."""
    dead = replace(_view({"q": 1, "r": 12}), workers=())
    assert "Starting a worker … It continues 12 rows" in log_line(dead, worker_starting=True)
    assert "No worker is alive" not in log_line(dead, worker_starting=True)


def test_a_redis_that_refuses_writes_is_named_instead_of_the_missing_worker() -> None:
    """Case D14: a full disk under Redis ends all heartbeats; asking for a worker would not help."""
    full = replace(
        _view({"q": 1}), workers=(), write_refusal="Redis takes no changes (No space left on device)"
    )
    for starting in (False, True):
        text = log_line(full, worker_starting=starting)
        assert "No space left on device" in text
        assert "o worker" not in text.replace("0 workers", "")
        assert "Starting" not in text
