"""What a person is told when Redis cannot be reached, refuses or is full. Never the password.

Here is judged what may pass: those faults come out as RedisUnavailable, and workers wait; any other error of
Redis stays what it is, a fault of ours that asking again would only repeat.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis.exceptions as faults

from askmill.jobs.model.errors import RedisUnavailable

PASSING = re.compile(
    r"\b(OOM|LOADING|READONLY|MISCONF|BUSY|TRYAGAIN|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|UNKILLABLE)\b"
)
"""Codes of what Redis takes back by itself; older servers write a script's in the middle of their text."""
NOT_ALLOWED = "ACL failure"
"""What a script says that is not allowed a key or a command."""
NO_CODE = (faults.ReadOnlyError, faults.TryAgainError, faults.ClusterDownError)
"""The same as redis-py has them, without the code in the text."""


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
def translate_redis_errors(url: str) -> Iterator[None]:
    """Says in our own words that Redis cannot be reached or takes no more.

    Raises:
        RedisUnavailable: it does not answer, refuses the password or the user's rights, is full, or takes no
            changes just now.
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
    except faults.ResponseError as fault:
        if isinstance(fault, faults.NoPermissionError) or NOT_ALLOWED in str(fault):
            raise RedisUnavailable(
                f"Redis at {address(url)} does not let this user do what askmill needs ({fault}); "
                "docs/how-to/own-redis.md has the rights"
            ) from None
        if isinstance(fault, NO_CODE) or PASSING.search(str(fault)):
            raise RedisUnavailable(f"Redis at {address(url)} takes no changes just now ({fault})") from None
        raise
    except (faults.ConnectionError, faults.TimeoutError, faults.InvalidResponse, OSError) as fault:
        raise RedisUnavailable(
            f"Redis at {address(url)} does not answer ({fault}); start it (docker compose up redis), set "
            "ASKMILL_REDIS_URL to one that runs, or unset it to use the embedded one"
        ) from None
