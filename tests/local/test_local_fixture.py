"""The tests' own Redis."""

import redis

from tests.support import RedisServer


def test_every_test_starts_with_an_empty_redis_whatever_the_last_one_did(redis_server: RedisServer) -> None:
    """A killed, a frozen and a filled server are each mended for the next test."""
    for spoil in (redis_server.kill, redis_server.freeze, lambda: None):
        with redis.Redis.from_url(redis_server.url) as client:
            client.set("left", "over")
        spoil()
        redis_server.clean()
        with redis.Redis.from_url(redis_server.url) as client:
            assert client.keys() == []
