"""The time limits of a shard, and what its batch allows now."""

from dataclasses import dataclass

from askmill.worker.lifecycle.retry import backoff_s


@dataclass(frozen=True, slots=True)
class ShardPolicy:
    """Limits in seconds. `paused`, `cancelled`: the state of the shard's batch."""

    paused: bool = False
    cancelled: bool = False
    row_overrides: frozenset[str] = frozenset()
    """Names of the settings that rows override (`--override`)."""
    list_interval_s: float = 60.0
    """Between two lists of the API's batches."""
    create_limit_s: float = 60.0
    """Until then, a create without a reply may still be carried out, and listed."""
    unsettled_s: float = 600.0
    """How long an ended batch may show fewer results than it counts (litellm #37713)."""
    reread_s: float = 10.0
    """Between two reads of such a batch."""
    gone_s: float = 1800.0
    """How long the API may show nothing of a followed batch before its rows count as lost."""
    unreadable_s: float = 3600.0
    """How long result files may be unreadable before their rows count as lost."""
    base_s: float = 1.0
    cap_s: float = 60.0

    def wait_s(self, tries: int, jitter: float) -> float:
        """Seconds before a request is repeated: base · 2^tries up to the cap, times 0.5 to 1 by `jitter`."""
        return backoff_s(self.base_s, self.cap_s, tries, jitter)
