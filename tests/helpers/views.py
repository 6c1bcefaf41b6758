"""Status views without a Redis, for tests of what is shown."""

from askmill.jobs.model.models import BatchState, InputSpec, Limits
from askmill.jobs.model.profile import Profile, Resources
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import Counts, StatusView


def status_view(
    counts: dict[str, int], state: BatchState = BatchState.RUNNING, *, model: str = "m"
) -> StatusView:
    """The view of a batch `sums` with so many rows per status byte; without workers."""
    batch = Batch(
        id="b_000001",
        name="sums",
        file="sums.csv",
        rows=sum(counts.values()),
        spec=InputSpec(("question",), "question"),
        profile=Profile(model=model),
        resources=Resources(),
        api="assistants",
        base_url="http://api",
        model=model,
        limits=Limits(),
        identity="",
        options={},
        state=state,
        paused_reason=None,
        accepted=True,
        submitted_at_ms=0,
        started_at_ms=0,
        finished_at_ms=None,
    )
    return StatusView(batch, Counts(counts, {}), (), (), 1.0, 1.0)
