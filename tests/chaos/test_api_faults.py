"""The API is down, silent or replaced, or loses the replies of creates: runs are followed, not created again."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.store import Store, keys
from tests.chaos.support import (
    assert_each_paid_once,
    counter,
    outage,
    questions_lasting,
    status_bytes,
    wait_for_finished,
    wait_for_runs,
)
from tests.stack import QUICK, Stack
from tests.support import wait_until

BOTH = pytest.mark.parametrize("api", ["assistants", "responses"])
DNS_CACHE_S = 11
"""aiohttp caches an address for 10 s (documentation of its TCPConnector)."""
CREATES = {"assistants": "POST /threads/*/runs", "responses": "POST /responses"}


@BOTH
@pytest.mark.parametrize("outage_kind", ["killed", "frozen"])
async def test_an_outage_of_the_api(tmp_path: Path, api: Api, outage_kind: str) -> None:
    """Killed or frozen for a while with runs in flight: the same runs are followed afterwards."""
    rows = 40
    with Stack(tmp_path, api=api) as stack:
        stack.worker(20, QUICK)
        batch = await stack.submit(questions_lasting(1, rows))
        wait_for_finished(stack, batch, 5)
        if outage_kind == "killed":
            stack.emulator.kill()
            outage(4)
            stack.emulator.start()
        else:
            stack.emulator.freeze()
            outage(4)
            stack.emulator.thaw()
        stack.wait_for_servers()
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, rows)


async def test_a_name_that_is_not_found_for_a_while(tmp_path: Path) -> None:
    """DNS fails with runs in flight. The API is back before its name, then the same runs are polled."""
    with Stack(tmp_path) as stack:
        stack.base_url = stack.base_url.replace("127.0.0.1", "localhost")
        no_dns = tmp_path / "no-dns"
        stack.worker(20, QUICK, MILL_NO_DNS=str(no_dns))
        batch = await stack.submit(questions_lasting(2, 40))
        wait_for_runs(stack, 20)
        no_dns.touch()
        stack.emulator.kill()
        outage(DNS_CACHE_S)
        stack.emulator.start()
        stack.wait_for_servers()
        requests = stack.stats()["requests"]
        outage(3)
        assert stack.stats()["requests"] == requests, "the name is not found"
        assert status_bytes(stack, batch)["r"] == 20
        no_dns.unlink()
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, 40)


class _ErrorPage(BaseHTTPRequestHandler):
    """Replies to everything with a proxy's error page and status 200."""

    def do_GET(self) -> None:
        body = b"<html>Checking your browser</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True


async def test_replies_that_are_not_json(tmp_path: Path) -> None:
    """Another server answers at the API's address for a while: its 200s are not accepted."""
    with Stack(tmp_path) as stack:
        stack.worker(20, QUICK)
        batch = await stack.submit(questions_lasting(2, 40))
        wait_for_runs(stack, 20)
        stack.emulator.kill()
        error_page = _Server(("127.0.0.1", urlsplit(stack.base_url).port or 0), _ErrorPage)
        serving = threading.Thread(target=error_page.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        outage(3)
        error_page.shutdown()
        error_page.server_close()
        serving.join()
        stack.emulator.start()
        stack.wait_for_servers()
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, 40)


async def test_lost_replies_of_creates_cost_no_run_on_assistants(tmp_path: Path) -> None:
    """Every fifth create is carried out and its reply lost: each run is found on its thread."""
    scenario = f'[latency]\nmedian_s = 0.2\n[http]\ndrop_after = 0.2\nonly = ["{CREATES["assistants"]}"]\n'
    with Stack(tmp_path, scenario=scenario) as stack:
        stack.worker(30, QUICK)
        batch = await stack.submit(["What is 1 + 1?"] * 200)
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, 200)


async def test_lost_replies_of_creates_are_adopted_or_counted_on_responses(tmp_path: Path) -> None:
    """Answers are adopted from the conversation. `unknown_creates` limits the runs created twice."""
    scenario = f'[latency]\nmedian_s = 0.2\n[http]\ndrop_after = 0.2\nonly = ["{CREATES["responses"]}"]\n'
    with Stack(tmp_path, api="responses", scenario=scenario) as stack:
        stack.worker(30, QUICK)
        batch = await stack.submit(["What is 1 + 1?"] * 200)
        status = await stack.wait_for(batch, timeout_s=60)

        assert status.counts.by_status[JobStatus.COMPLETED] == 200
        assert stack.stats()["runs_created"] - 200 <= counter(stack, batch, "unknown_creates")


async def test_creates_carried_out_late_cost_no_run_on_assistants(tmp_path: Path) -> None:
    """Carried out a second after the connection broke: the run is found within the create's time limit."""
    scenario = f'[latency]\nmedian_s = 0.2\n[http]\ndrop_after = 0.2\nlate_s = 1.0\nonly = ["{CREATES["assistants"]}"]\n'
    with Stack(tmp_path, scenario=scenario) as stack:
        stack.worker(30, QUICK)
        batch = await stack.submit(["What is 1 + 1?"] * 100)
        status = await stack.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(stack, batch, status, 100)


async def test_creates_carried_out_after_every_limit_are_cancelled_and_counted(tmp_path: Path) -> None:
    """A lost create arrives after the next run has ended, while the row goes on: its run is found, cancelled and counted."""
    rows = 10
    latency = "[latency]\nmedian_s = 0.5\nsigma = 0\n"
    lost = f'[http]\ndrop_after = 1.0\nlate_s = 7\nonly = ["{CREATES["assistants"]}"]\n'
    with Stack(tmp_path, scenario=latency + lost) as stack:
        batch = await stack.submit(["What is 1 + 1? [emulate: completed after=2, completed after=60]"] * rows)
        with redis.Redis.from_url(stack.redis_url) as client:
            client.hset(keys.batch(batch), "accepted", 1)  # otherwise one row runs alone first
        worker = stack.worker(rows, {"CREATE_LIMIT_S": 3.0})
        wait_until(
            lambda: worker.log.read_text().count("connection_lost") >= rows, "all creates are lost", 20
        )
        stack.scenario(latency)
        wait_for_runs(stack, rows)
        worker.freeze()
        wait_for_runs(stack, 2 * rows)
        worker.thaw()
        status = await stack.wait_for(batch, timeout_s=60)

        assert status.counts.by_status[JobStatus.COMPLETED] == rows
        assert counter(stack, batch, "late_runs") == rows
        assert stack.stats()["runs_created"] == 2 * rows
        assert stack.stats()["runs_active"] == 0
        each, rest = divmod(counter(stack, batch, "assumed_nano"), rows)
        assert each > 0, "an unread run is booked at its maximum cost"
        assert rest == 0


async def test_creates_that_fail_for_too_long_pause_the_batch(tmp_path: Path) -> None:
    """`api_unreachable` after 5 minutes without a success (here 3 s). `resume` continues."""
    with Stack(tmp_path) as stack:
        stack.worker(10, {**QUICK, "CREATE_FAILURE_PATIENCE_S": 3.0})
        stack.emulator.kill()
        batch = await stack.submit(questions_lasting(0.1, 30))
        status = await stack.wait_for(batch, ["paused"], timeout_s=60)
        assert status.batch.paused_reason == "api_unreachable"
        wait_until(lambda: status_bytes(stack, batch)["r"] == 0, "no row is held")

        stack.emulator.start()
        stack.wait_for_servers()
        async with await Store.open(stack.redis_url) as store:
            await store.resume(batch)
        status = await stack.wait_for(batch, timeout_s=60)
        await assert_each_paid_once(stack, batch, status, 30)
