"""Translation of redis-py's exceptions into RedisUnavailable. Its messages never show the password.

Temporary faults become RedisUnavailable: workers wait and try again. Any other error of Redis is a defect of
askmill, which a retry would only repeat, and passes through unchanged.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis.exceptions as faults
from redis.asyncio.sentinel import MasterNotFoundError

from askmill.config.redis_address import shown_address
from askmill.jobs.model.errors import RedisUnavailable
from askmill.jobs.store.redis_pool import NotWritable

_TEMPORARY = re.compile(
    r"\b(OOM|LOADING|READONLY|MISCONF|BUSY|TRYAGAIN|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|UNKILLABLE)\b"
)
"""Codes of faults that end by themselves. Older servers write a script's code in the middle of the text."""
_NO_DISK = "MISCONF"
"""The code of a server that refuses changes since it could not write to its disk."""
_NO_DATABASE = "DB index is out of range"
_NOT_ALLOWED = "ACL failure"
"""In the error of a script whose user may not use a key or a command."""
_TEMPORARY_CLASSES = (faults.ReadOnlyError, faults.TryAgainError, faults.ClusterDownError)
"""Temporary faults whose code redis-py cuts from the text."""


class NotDurable(faults.RedisError):
    """A write may be lost that a create waits for."""

    sentence = ""
    """With `{server}` for its name."""


class NotReplicated(NotDurable):
    """No replica has acknowledged a write in time."""

    sentence = (
        "no replica of {server} acknowledges writes, which ASKMILL_DURABILITY=replica needs before a run is "
        "created; check its replicas with `redis-cli info replication`"
    )


class NotOnDisk(NotDurable):
    """A server has answered that does not write through what it confirms."""

    sentence = (
        "{server} does not write through what it confirms, which ASKMILL_DURABILITY=disk needs before a run "
        "is created; `askmill doctor` says what to set there"
    )


def _server(url: str) -> str:
    return f"Redis at {shown_address(url)}"


def _refusal(server: str, fault: faults.ResponseError) -> str | None:
    """What a temporary refusal of Redis means; None for a defect."""
    if isinstance(fault, faults.NoPermissionError) or _NOT_ALLOWED in str(fault):
        return (
            f"{server} does not let this user do what askmill needs ({fault}); docs/how-to/own-redis.md has "
            "the rights"
        )
    if _NO_DATABASE in str(fault):
        return f"{server} has no database of that number; correct it at the end of ASKMILL_REDIS_URL"
    if _NO_DISK in str(fault):
        return f"{server} cannot write to its disk ({fault}): free space there, or check the disk"
    if isinstance(fault, _TEMPORARY_CLASSES) or _TEMPORARY.search(str(fault)):
        return f"{server} takes no changes just now ({fault})"
    return None


@contextmanager
def translate_redis_errors(url: str) -> Iterator[None]:
    """Turn temporary faults of Redis into RedisUnavailable.

    Raises:
        RedisUnavailable: it does not answer, refuses the password or the user's rights, is full, or takes no
            changes just now.
    """
    try:
        yield
    except faults.AuthenticationError:
        raise RedisUnavailable(
            f"{_server(url)} refuses the user or password; put the right ones into ASKMILL_REDIS_URL"
        ) from None
    except faults.OutOfMemoryError:
        raise RedisUnavailable(
            f"{_server(url)} is full: raise its maxmemory, or `askmill purge` batches that are done"
        ) from None
    except faults.ResponseError as fault:
        if (refusal := _refusal(_server(url), fault)) is None:
            raise
        raise RedisUnavailable(refusal) from None
    except NotDurable as fault:
        raise RedisUnavailable(fault.sentence.format(server=_server(url))) from None
    except NotWritable as fault:
        raise RedisUnavailable(f"{_server(url)} takes no changes just now ({fault})") from None
    except MasterNotFoundError:
        raise RedisUnavailable(
            f"no Sentinel at {shown_address(url)} answers and knows a master that is up; check with "
            "`redis-cli -p 26379 sentinel masters`, and the service's name in ASKMILL_REDIS_URL"
        ) from None
    except (faults.ConnectionError, faults.TimeoutError, faults.InvalidResponse, OSError) as fault:
        raise RedisUnavailable(
            f"{_server(url)} does not answer ({fault}); start it (docker compose up redis) or correct "
            "ASKMILL_REDIS_URL. Without that setting askmill uses its embedded Redis, which has other batches"
        ) from None
