"""How the server was started."""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_UPLOAD_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Options:
    """How the server was started.

    `hosts` are names that requests may have in `Host`, beside loopback and addresses. `prefix` is the path
    that a reverse proxy serves it under, without a slash at its end. `functions` are the modules that batches
    may name.
    """

    token: str
    port: int
    hosts: frozenset[str] = frozenset()
    prefix: str = ""
    max_upload: int = MAX_UPLOAD_BYTES
    functions: Sequence[str] = ()
