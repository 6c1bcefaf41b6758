"""What all workers together may ask of the API: requests and tokens a minute, runs in flight."""

from dataclasses import dataclass


@dataclass
class SharedLimits:
    """The limits of this Redis; nothing is limited unless set."""

    async def reserve(self) -> float:
        """Book one run. Returns 0, or the seconds to wait before asking again."""
        return 0.0

    async def throttle(self, wait_s: float) -> None:
        """The API has told somebody to wait: everybody does."""
