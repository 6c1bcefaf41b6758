"""The API away, silent or talking nonsense; replies of creates lost: runs are followed, not made again."""

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
    bytes_of,
    counter,
    lasting,
    wait_for_finished,
    wait_for_runs,
)
from tests.chaos.test_redis_faults import outage
from tests.stack import QUICK, Stack
from tests.support import wait_until

BOTH = pytest.mark.parametrize("api", ["assistants", "responses"])
DNS_CACHE_S = 11
"""aiohttp remembers an address for 10 s (its TCPConnector's documentation)."""
CREATES = {"assistants": "POST /threads/*/runs", "responses": "POST /responses"}


@BOTH
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_an_outage_of_the_api(tmp_path: Path, api: Api, how: str) -> None:
    """Gone, or silent, for a while with runs in flight: they are followed afterwards."""
    rows = 40
    with Stack(tmp_path, api=api) as mill:
        mill.worker(20, QUICK)
        batch = await mill.submit(lasting(1, rows))
        wait_for_finished(mill, batch, 5)
        if how == "killed":
            mill.emulator.kill()
            outage(4)
            mill.emulator.start()
        else:
            mill.emulator.freeze()
            outage(4)
            mill.emulator.thaw()
        mill.wait_for_servers()
        status = await mill.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(mill, batch, status, rows)


async def test_a_name_that_is_not_found_for_a_while(tmp_path: Path) -> None:
    """DNS fails while runs are in flight: the API is back long before its name, and then asked for the same runs."""
    with Stack(tmp_path) as mill:
        mill.base_url = mill.base_url.replace("127.0.0.1", "localhost")
        nameless = tmp_path / "no-dns"
        mill.worker(20, QUICK, MILL_NO_DNS=str(nameless))
        batch = await mill.submit(lasting(2, 40))
        wait_for_runs(mill, 20)
        nameless.touch()
        mill.emulator.kill()
        outage(DNS_CACHE_S)
        mill.emulator.start()
        mill.wait_for_servers()
        asked = mill.stats()["requests"]
        outage(3)
        assert mill.stats()["requests"] == asked, "nobody finds it"
        assert bytes_of(mill, batch)["r"] == 20
        nameless.unlink()
        status = await mill.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(mill, batch, status, 40)


class _Nonsense(BaseHTTPRequestHandler):
    """A proxy's error page with status 200, to everything."""

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
    """For a while something else answers at the API's address: its 200s are believed by nobody."""
    with Stack(tmp_path) as mill:
        mill.worker(20, QUICK)
        batch = await mill.submit(lasting(2, 40))
        wait_for_runs(mill, 20)
        mill.emulator.kill()
        nonsense = _Server(("127.0.0.1", urlsplit(mill.base_url).port or 0), _Nonsense)
        serving = threading.Thread(target=nonsense.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        outage(3)
        nonsense.shutdown()
        nonsense.server_close()
        serving.join()
        mill.emulator.start()
        mill.wait_for_servers()
        status = await mill.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(mill, batch, status, 40)


async def test_lost_replies_of_creates_cost_no_run_on_assistants(tmp_path: Path) -> None:
    """Every fifth create is carried out and its reply lost: each is found on its thread."""
    scenario = f'[latency]\nmedian_s = 0.2\n[http]\ndrop_after = 0.2\nonly = ["{CREATES["assistants"]}"]\n'
    with Stack(tmp_path, scenario=scenario) as mill:
        mill.worker(30, QUICK)
        batch = await mill.submit(["What is 1 + 1?"] * 200)
        status = await mill.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(mill, batch, status, 200)


async def test_lost_replies_of_creates_are_adopted_or_counted_on_responses(tmp_path: Path) -> None:
    """The answer is taken from the conversation; what is made twice is at most what `unknown_creates` says."""
    scenario = f'[latency]\nmedian_s = 0.2\n[http]\ndrop_after = 0.2\nonly = ["{CREATES["responses"]}"]\n'
    with Stack(tmp_path, api="responses", scenario=scenario) as mill:
        mill.worker(30, QUICK)
        batch = await mill.submit(["What is 1 + 1?"] * 200)
        status = await mill.wait_for(batch, timeout_s=60)

        assert status.counts.by_status[JobStatus.COMPLETED] == 200
        assert mill.stats()["runs_created"] - 200 <= counter(mill, batch, "unknown_creates")


async def test_creates_carried_out_late_cost_no_run_on_assistants(tmp_path: Path) -> None:
    """Carried out a second after the connection broke: within the create's time limit it is found."""
    scenario = f'[latency]\nmedian_s = 0.2\n[http]\ndrop_after = 0.2\nlate_s = 1.0\nonly = ["{CREATES["assistants"]}"]\n'
    with Stack(tmp_path, scenario=scenario) as mill:
        mill.worker(30, QUICK)
        batch = await mill.submit(["What is 1 + 1?"] * 100)
        status = await mill.wait_for(batch, timeout_s=60)

        await assert_each_paid_once(mill, batch, status, 100)


async def test_creates_carried_out_after_every_limit_are_cancelled_and_counted(tmp_path: Path) -> None:
    """A row's lost create comes after the next one's run has ended, and the row has not: found, ended, told."""
    rows = 10
    latency = "[latency]\nmedian_s = 0.5\nsigma = 0\n"
    lost = f'[http]\ndrop_after = 1.0\nlate_s = 7\nonly = ["{CREATES["assistants"]}"]\n'
    with Stack(tmp_path, scenario=latency + lost) as mill:
        batch = await mill.submit(["What is 1 + 1? [emulate: completed after=2, completed after=60]"] * rows)
        with redis.Redis.from_url(mill.redis_url) as client:
            client.hset(keys.batch(batch), "accepted", 1)  # else one row would go alone first
        worker = mill.worker(rows, {"CREATE_LIMIT_S": 3.0})
        wait_until(
            lambda: worker.log.read_text().count("connection_lost") >= rows, "all creates are lost", 20
        )
        mill.scenario(latency)
        wait_for_runs(mill, rows)
        worker.freeze()
        wait_for_runs(mill, 2 * rows)
        worker.thaw()
        status = await mill.wait_for(batch, timeout_s=60)

        assert status.counts.by_status[JobStatus.COMPLETED] == rows
        assert counter(mill, batch, "late_runs") == rows
        assert mill.stats()["runs_created"] == 2 * rows
        assert mill.stats()["runs_active"] == 0
        each, rest = divmod(counter(mill, batch, "assumed_nano"), rows)
        assert each > 0, "a run that nobody reads has cost what it may"
        assert rest == 0


async def test_creates_that_fail_for_too_long_pause_the_batch(tmp_path: Path) -> None:
    """`api_unreachable` after 5 minutes without one success (here 3 s); `resume` goes on."""
    with Stack(tmp_path) as mill:
        mill.worker(10, {**QUICK, "TROUBLE_S": 3.0})
        mill.emulator.kill()
        batch = await mill.submit(lasting(0.1, 30))
        status = await mill.wait_for(batch, ["paused"], timeout_s=60)
        assert status.batch.paused_reason == "api_unreachable"
        wait_until(lambda: bytes_of(mill, batch)["r"] == 0, "nothing is held")

        mill.emulator.start()
        mill.wait_for_servers()
        async with await Store.open(mill.redis_url) as store:
            await store.resume(batch)
        status = await mill.wait_for(batch, timeout_s=60)
        await assert_each_paid_once(mill, batch, status, 30)
