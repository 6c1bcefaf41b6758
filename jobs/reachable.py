"""What a person is told when Redis cannot be reached, refuses or is full. Never the password."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis.exceptions as faults

from jobs.errors import RedisUnavailable


def address(url: str) -> str:
    """The address without user and password, as messages show it."""
    parts = urlsplit(url)
    place = (
        parts.path
        if parts.scheme == "unix"
        else f"{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path}"
    )
    return f"{parts.scheme}://{place}"


@contextmanager
def reachable(url: str) -> Iterator[None]:
    """Says in our own words that Redis cannot be reached or takes no more.

    Raises:
        RedisUnavailable: it does not answer, refuses the password, or is full.
    """
    try:
        yield
    except faults.AuthenticationError:
        raise RedisUnavailable(
            f"Redis at {address(url)} refuses the user or password; put the right ones into ASKMILL_REDIS_URL"
        ) from None
    except faults.OutOfMemoryError:
        raise RedisUnavailable(
            f"Redis at {address(url)} is full: raise its maxmemory, or `askmill purge` batches that are done"
        ) from None
    except (faults.ConnectionError, faults.TimeoutError, OSError) as fault:
        raise RedisUnavailable(
            f"Redis at {address(url)} does not answer ({fault}); start it (docker compose up redis), set "
            "ASKMILL_REDIS_URL to one that runs, or unset it to use the embedded one"
        ) from None
