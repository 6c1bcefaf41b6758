"""Statuses as a user writes them: `failed,expired`."""

import click

from askmill.config.text import did_you_mean
from askmill.jobs.model.models import FINISHED, RETRIED_BY_DEFAULT, UNFINISHED, JobStatus


def parse_statuses(text: str | None) -> frozenset[JobStatus] | None:
    """`failed,expired` as statuses. Raises click's usage error with a list of all statuses."""
    if text is None:
        return None
    try:
        return frozenset(JobStatus(name.strip()) for name in text.split(","))
    except ValueError:
        every = ", ".join(JobStatus)
        unknown = next(name for name in map(str.strip, text.split(",")) if name not in list(JobStatus))
        raise click.BadParameter(
            f"{unknown!r} is not a status{did_you_mean(unknown, JobStatus) or '.'} Choose from {every}.",
            param_hint="--status",
        ) from None


def parse_retried(text: str | None) -> frozenset[JobStatus]:
    """The statuses of rows to retry. Raises click's usage error for one that cannot be retried."""
    statuses = parse_statuses(text) or frozenset(RETRIED_BY_DEFAULT)
    if refused := statuses & (UNFINISHED | {JobStatus.REJECTED}):
        allowed = ", ".join(sorted(FINISHED - {JobStatus.REJECTED}))
        raise click.BadParameter(
            f"rows with status {', '.join(sorted(refused))} cannot be retried. Choose from {allowed}.",
            param_hint="--status",
        )
    return statuses
