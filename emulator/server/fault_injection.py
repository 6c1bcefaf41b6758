"""HTTP faults, drawn from a seeded generator for each request. Pure."""

import random
from dataclasses import dataclass
from fnmatch import fnmatchcase

from askmill.emulator.protocol.errors import overloaded, queue_full, rate_limited, server_error
from askmill.emulator.protocol.routing import ApiError
from askmill.emulator.simulation.scenario import SHARES, Http


@dataclass(frozen=True, slots=True)
class Fault:
    """`refusal`: sent as the reply · `drop`: close `before` or `after` execution · `slow_s`: delay."""

    refusal: ApiError | None = None
    drop: str = ""
    late_s: float = 0.0
    slow_s: float = 0.0


NONE = Fault()


class Faults:
    """Draws the faults of one `[http]` table."""

    def __init__(self, http: Http, seed: int) -> None:
        self._http = http
        self._random = random.Random(seed)  # noqa: S311 - a rehearsal, not a secret
        self._shares = [(name, getattr(http, name)) for name in SHARES]
        self._any = any(share for _, share in self._shares) or bool(http.late_s or http.slow_s)

    def draw(self, method: str, path: str) -> Fault:
        """The fault of a request; `path` is without `/v1`."""
        http = self._http
        if not self._any or not self._applies_to(f"{method} {path}"):
            return NONE
        at = self._random.random()
        for name, share in self._shares:
            if at < share:
                return self._fault(name)
            at -= share
        if http.late_s and not http.drop_after:
            return self._fault("drop_after")
        return Fault(slow_s=http.slow_s)

    def _applies_to(self, request: str) -> bool:
        return not self._http.only or any(fnmatchcase(request, glob) for glob in self._http.only)

    def _fault(self, name: str) -> Fault:
        match name:
            case "rate_429":
                return Fault(refusal=rate_limited(self._http.retry_after_s))
            case "rate_500":
                return Fault(refusal=server_error())
            case "rate_503":
                return Fault(refusal=overloaded())
            case "rate_full":
                return Fault(refusal=queue_full())
            case "drop_before":
                return Fault(drop="before")
            case _:
                return Fault(drop="after", late_s=self._http.late_s)
