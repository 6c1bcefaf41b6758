"""Which workers run another version of askmill than this command. Pure."""

from collections.abc import Collection

from askmill.config.text import count_of, one_line
from askmill.jobs.store.views import WorkerInfo


def other_versions_line(workers: Collection[WorkerInfo], own: str) -> str:
    """`1 of 3 workers runs askmill 1.0.0, this command 1.1.0 …`; empty where all run the same version.

    Args:
        workers: living workers.
        own: the version of this command.
    """
    others = [worker for worker in workers if worker.version != own]
    if not others:
        return ""
    versions = sorted({one_line(worker.version, 40) or "a build before 1.0.0" for worker in others})
    share = f"{len(others):,} of {count_of(len(workers), 'worker')} {'runs' if len(others) == 1 else 'run'}"
    return (
        f"{share} askmill {' and '.join(versions)}, this command {own}. Upgrade and restart workers before "
        "commands."
    )
