"""A Redis with users, rights and TLS: the rights in docs/how-to/own-redis.md suffice; missing ones are named."""

import csv
import io
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.local.redis_service import server_binary
from tests.helpers.command_line import CommandLine, terminal
from tests.helpers.tcp_relay import PlainOrTls, over_tls
from tests.stack import QUICK, Child, Stack

HOW_TO = Path(__file__).parents[2] / "docs/how-to/own-redis.md"
RECIPES = HOW_TO.with_name("recipes.md")
RULES = re.compile(r"ACL SETUSER mill on (.+)")
PASSWORD = "w0rd-of-mill"
STEPS = (
    ("status",),
    ("show", "1"),
    ("list",),
    ("doctor",),
    ("worker", "--check"),
    ("report",),
    ("retry", "--status", "completed"),
    ("pause",),
    ("resume",),
    ("collect", "--wait", "-o", "again.csv"),
    ("cancel", "BATCH"),
    ("purge", "BATCH"),
)
"""Every other command, in an order in which each can succeed."""


@pytest.fixture
def user(tmp_path: Path, stack: Stack) -> CommandLine:
    settings = {**stack.settings(), "ASKMILL_RETENTION_DAYS": "1"}
    return terminal(tmp_path).with_settings(**settings)


def _allow(stack: Stack, rules: str) -> str:
    """Create the user with these rights and return its address."""
    with redis.Redis.from_url(stack.redis_url) as client:
        client.execute_command("ACL", "SETUSER", "mill", "reset", "on", *rules.split())
    return stack.redis_url.replace("://", f"://mill:{PASSWORD}@")


def _denied(stack: Stack) -> list[object]:
    with redis.Redis.from_url(stack.redis_url) as client:
        return list(client.acl_log())


def _sums(user: CommandLine) -> str:
    return user.write(
        "sums.csv", "question,ticket", "What is 1 + 1?,a", "What is 2 + 3?,a", "What is 4 + 5?,b"
    )


def _answer_by(user: CommandLine, stack: Stack, url: str, **env: str) -> str:
    """Submit at this address, have a worker there answer, collect; returns the batch."""
    stack.worker(5, QUICK, ASKMILL_REDIS_URL=url, ASKMILL_REQUESTS_PER_MINUTE="6000", **env)
    submitted = user.askmill("submit", _sums(user), "--conversation-column", "ticket", "--budget", "1")
    assert submitted.returncode == 0, submitted.stderr
    collected = user.askmill("collect", "--wait", "-o", "-")
    assert collected.returncode == 0, collected.stderr
    rows = list(csv.DictReader(io.StringIO(collected.stdout)))
    assert [row["status"] for row in rows] == ["completed"] * 3
    return submitted.stdout.strip()


def test_a_user_with_the_rights_in_the_guide_can_do_everything(user: CommandLine, stack: Stack) -> None:
    """Exactly the rights of docs/how-to/own-redis.md: every command and a worker run; only CONFIG GET is denied."""
    rule = RULES.search(HOW_TO.read_text())
    assert rule, "the guide has the rule"
    url = _allow(stack, rule[1].replace(">PASSWORD", f">{PASSWORD}"))
    user = user.with_settings(ASKMILL_REDIS_URL=url)

    batch = _answer_by(user, stack, url)
    for step in STEPS:
        done = user.askmill(*[batch if word == "BATCH" else word for word in step])
        assert done.returncode == 0, f"{step}: {done.stderr or done.stdout}"
    again = user.askmill("run", _sums(user), "--new", "-o", "-")
    assert again.returncode == 0, again.stderr
    stack.workers[0].leave()

    # Without the right to read the configuration, INFO says whether this Redis forgets.
    assert {entry["object"] for entry in _denied(stack)} == {"config|get"}
    assert batch not in user.askmill("list").stdout


def test_teams_of_one_valkey_cannot_read_each_other(user: CommandLine, stack: Stack) -> None:
    """The users of docs/how-to/recipes.md, a database each: everything in one's own, nothing in the other's."""
    rules = re.findall(r"ACL SETUSER (red|blue) on (.+)", RECIPES.read_text())
    assert [name for name, _ in rules] == ["red", "blue"]
    with redis.Redis.from_url(stack.redis_url) as client:
        for name, rule in rules:
            rights = rule.replace(">PASSWORD", f">{PASSWORD}").split()
            client.execute_command("ACL", "SETUSER", name, "reset", "on", *rights)
    base = stack.redis_url.rsplit("/", 1)[0]
    red, blue = (base.replace("://", f"://{name}:{PASSWORD}@") for name, _ in rules)

    _answer_by(user.with_settings(ASKMILL_REDIS_URL=f"{red}/1"), stack, f"{red}/1")

    assert user.with_settings(ASKMILL_REDIS_URL=f"{blue}/2").askmill("list").stdout == ""
    refused = user.with_settings(ASKMILL_REDIS_URL=f"{blue}/1").askmill("list")
    assert refused.returncode == 3
    assert "does not let this user" in refused.stderr
    stack.workers[0].leave()


def test_missing_rights_are_named(user: CommandLine, stack: Stack) -> None:
    """One sentence with Redis' error and the page that lists the rights; exit code 3; no password in it."""
    url = _allow(stack, f">{PASSWORD} ~askmill* +@all -evalsha")

    refused = user.with_settings(ASKMILL_REDIS_URL=url).askmill("submit", _sums(user))

    assert refused.returncode == 3
    assert "does not let this user do what askmill needs" in refused.stderr
    assert "evalsha" in refused.stderr
    assert "docs/how-to/own-redis.md" in refused.stderr
    assert PASSWORD not in refused.stderr


def test_a_wrong_password_is_reported_without_showing_it(user: CommandLine, stack: Stack) -> None:
    url = _allow(stack, ">another ~* &* +@all")

    refused = user.with_settings(ASKMILL_REDIS_URL=url).askmill("status")

    assert refused.returncode == 3
    assert "refuses the user or password" in refused.stderr
    assert PASSWORD not in refused.stderr


def test_all_connections_use_tls(user: CommandLine, stack: Stack, tmp_path: Path) -> None:
    """`rediss://` with a private certificate authority named in the address: client, worker, Celery's broker."""
    with over_tls(stack.redis_url, tmp_path) as (bare, authority):
        url = f"{bare}?ssl_ca_certs={authority}"
        _answer_by(user.with_settings(ASKMILL_REDIS_URL=url), stack, url)
        stack.workers[0].leave()


def test_an_authority_may_be_trusted_by_the_environment(
    user: CommandLine, stack: Stack, tmp_path: Path
) -> None:
    """`SSL_CERT_FILE`, as OpenSSL reads it, if the address names no authority."""
    with over_tls(stack.redis_url, tmp_path) as (url, authority):
        trusting = {"SSL_CERT_FILE": str(authority)}
        _answer_by(user.with_settings(ASKMILL_REDIS_URL=url, **trusting), stack, url, **trusting)
        stack.workers[0].leave()


def test_an_untrusted_certificate_is_refused(user: CommandLine, stack: Stack, tmp_path: Path) -> None:
    """Nothing is sent, not even the password; the message names the certificate's error."""
    with over_tls(stack.redis_url, tmp_path) as (bare, _):
        url = bare.replace("://", f"://mill:{PASSWORD}@")
        refused = user.with_settings(ASKMILL_REDIS_URL=url).askmill("status")

    assert refused.returncode == 3
    assert "certificate" in refused.stderr.lower()
    assert PASSWORD not in refused.stderr
    assert "Traceback" not in refused.stderr


def test_sentinels_and_master_over_tls(user: CommandLine, stack: Stack, tmp_path: Path) -> None:
    """`rediss+sentinel://` (case D7): client, worker and Celery's broker ask the Sentinel and the master over TLS."""
    folders = [tmp_path / name for name in ("master", "sentinel")]
    for folder in folders:
        folder.mkdir()
    sentinel_port = free_port()
    configuration = folders[1] / "sentinel.conf"
    with over_tls(stack.redis_url, folders[0], HOST) as (master_url, master_authority):
        plain_port, tls_port = (urlsplit(url).port or 0 for url in (stack.redis_url, master_url))
        with PlainOrTls(plain_port, tls_port) as master:
            configuration.write_text(
                f"port {sentinel_port}\nsentinel monitor answers {HOST} {master.port} 1\n"
            )
            command = [str(server_binary()), str(configuration), "--sentinel"]
            sentinel = Child(command, folders[1] / "log").start()
            try:
                with over_tls(f"redis://{HOST}:{sentinel_port}/0", folders[1], HOST) as (by_tls, authority):
                    authorities = tmp_path / "authorities.pem"
                    authorities.write_bytes(master_authority.read_bytes() + authority.read_bytes())
                    place = by_tls.removeprefix("rediss://").removesuffix("/0")
                    url = f"rediss+sentinel://{place}/answers/0?ssl_ca_certs={authorities}"
                    _answer_by(user.with_settings(ASKMILL_REDIS_URL=url), stack, url)
                    stack.workers[0].leave()
            finally:
                sentinel.kill()
