"""Addresses of Sentinels: what is read from them, what is refused, and that no password is ever shown."""

import pytest

from askmill.config.redis_address import check_redis_url, passwords_of, sentinel_address, shown_address
from askmill.jobs.model.errors import RedisUnavailable
from askmill.jobs.store.broker import broker_settings
from askmill.jobs.store.redis_errors import MasterNotFoundError, translate_redis_errors

FULL = (
    "rediss+sentinel://mill:p%40ss@one:26380,two,[::1]:26379/answers/3"
    "?sentinel_username=watch&sentinel_password=s3cret&ssl_ca_certs=/etc/ours.pem"
)


def test_an_address_is_read() -> None:
    """Hosts with their default port, IPv6, service, database, both users, and TLS options."""
    address = sentinel_address(FULL)
    assert address.sentinels == (("one", 26380), ("two", 26379), ("::1", 26379))
    assert (address.service, address.database, address.over_tls) == ("answers", 3, True)
    assert (address.sentinel_username, address.sentinel_password) == ("watch", "s3cret")
    assert address.node_url == "rediss://mill:p%40ss@localhost/3?ssl_ca_certs=%2Fetc%2Fours.pem"


def test_no_password_is_shown() -> None:
    """Neither in the address that messages show, nor in an error; both passwords count as secrets."""
    assert shown_address(FULL) == "rediss+sentinel://one:26380,two:26379,[::1]:26379/answers/3"
    assert passwords_of(FULL) == {"p%40ss", "p@ss", "s3cret"}
    assert "s3cret" not in repr(sentinel_address(FULL))
    with pytest.raises(RedisUnavailable, match="no Sentinel at") as fault, translate_redis_errors(FULL):
        raise MasterNotFoundError("<Redis(password=s3cret)>")
    assert "s3cret" not in str(fault.value)
    assert passwords_of("redis://localhost/0") == set()


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis+sentinel://host:26379", "must name the service"),
        ("redis+sentinel://host:26379/", "must name the service"),
        ("redis+sentinel://host:26379/answers/db", "must name the service"),
        ("redis+sentinel://host:99999/answers/0", "must name the Sentinels"),
        ("redis+sentinel://one,,two/answers", "must name the Sentinels"),
        ("redis+sentinel://u:hush@/answers", "must name the Sentinels"),
        ("sentinel://host:26379/answers/0", "must begin with"),
        ("redis+socket:///tmp/s", "must begin with"),
    ],
)
def test_a_wrong_address_is_refused(url: str, fault: str) -> None:
    """With what is wrong, and nothing of the address."""
    with pytest.raises(ValueError, match=fault) as refused:
        check_redis_url(url)
    assert "hush" not in str(refused.value)


def test_the_broker_reads_the_same_address() -> None:
    """kombu's list with semicolons, each with user and database; its own options for the Sentinels and TLS."""
    settings = broker_settings(FULL)
    assert settings["broker_url"] == (
        "sentinel://mill:p%40ss@one:26380/3;sentinel://mill:p%40ss@two:26379/3;sentinel://mill:p%40ss@[::1]:26379/3"
    )
    assert settings["broker_use_ssl"] == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/etc/ours.pem"}
    options = settings["broker_transport_options"]
    assert options["master_name"] == "answers"
    expected = {"username": "watch", "password": "s3cret", "ssl": True, "ssl_ca_certs": "/etc/ours.pem"}
    assert options["sentinel_kwargs"].items() >= expected.items()
    plain = broker_settings("redis+sentinel://one/answers")
    assert plain["broker_use_ssl"] is None
    assert "ssl" not in plain["broker_transport_options"]["sentinel_kwargs"]
