"""The corrected Redis transport: used for every Redis address, or not installed at all."""

import subprocess
import sys

import pytest

PROGRAM = """
from kombu import Connection
from askmill.worker.celery import kombu_transport
{before}
kombu_transport.install()
for url in {urls}:
    print(type(Connection(url).transport).__module__)
"""


def run(before: str, *urls: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, because kombu's table of transports is global."""
    program = PROGRAM.format(before=before, urls=urls)
    return subprocess.run([sys.executable, "-P", "-c", program], text=True, capture_output=True, check=False)


@pytest.mark.parametrize(
    "url", ["redis://h:1/0", "rediss://h:1/0?ssl_cert_reqs=required", "redis+socket:///tmp/s?virtual_host=1"]
)
def test_every_kind_of_redis_address_uses_the_transport(url: str) -> None:
    """Plain, TLS and unix socket."""
    assert run("", url).stdout.split() == ["askmill.worker.celery.kombu_transport"]


def test_a_late_install_is_refused() -> None:
    """After a first connection kombu would silently keep its own transport."""
    done = run("Connection('redis://h:1/0').transport", "redis://h:1/0")

    assert done.returncode == 1
    assert "install() came after the first redis:// connection" in done.stderr


CUT = """
import threading, time
import redis
from kombu import Connection
from askmill.worker.celery import kombu_transport
kombu_transport.install()

def cut_while_one_waits():
    with redis.Redis.from_url({url!r}) as client:
        while not any(each["cmd"] == "brpop" for each in client.client_list()):
            time.sleep(0.01)
    kombu_transport.disconnect_all()

with Connection({url!r}) as connection:
    queue = connection.SimpleQueue("askmill-test")
    threading.Thread(target=cut_while_one_waits).start()
    try:
        queue.get(timeout=120)
    except connection.connection_errors as error:
        print("cut", type(error).__name__)
"""


def test_connections_to_a_master_that_is_left_are_cut(redis_url: str) -> None:
    """Also one on which a BRPOP waits: its consumer meets a connection error, on which Celery connects anew."""
    program = CUT.format(url=redis_url)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], text=True, capture_output=True, check=False, timeout=240
    )
    assert done.stdout.split() == ["cut", "ConnectionError"], done.stderr
