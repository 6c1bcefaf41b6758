"""Why a batch makes no progress, and what to do about it.

Pure: from a StatusView to text. Control codes are removed from whatever comes from a file or the API.
"""

import shlex

from askmill.config.text import count_of, format_time, one_line, strip_control
from askmill.jobs.display.pause_advice import advice, pause_cause
from askmill.jobs.model.models import BatchState, JobStatus, Server
from askmill.jobs.store.records import Batch
from askmill.jobs.store.views import StatusView


def server_text(server: Server) -> str:
    """The API and its address, and the account where one is set."""
    account = [
        f"{name} {value}"
        for name, value in (("organization", server.organization), ("project", server.project))
        if value
    ]
    return f"{server.api or 'any API'} at {server.base_url}" + (f" ({', '.join(account)})" if account else "")


def server_settings(server: Server, other: Server) -> str:
    """The settings of a worker for `server`, as far as the account differs from that of the other one."""
    settings = [f"ASKMILL_API={server.api}", f"OPENAI_BASE_URL={server.base_url}"]
    for variable, value, others in (
        ("OPENAI_ORG_ID", server.organization, other.organization),
        ("OPENAI_PROJECT_ID", server.project, other.project),
    ):
        if value:
            settings.append(f"{variable}={value}")
        elif others:
            settings.append(f"without {variable}")
    return ", ".join(settings[:-1]) + f" and {settings[-1]}"


def needs_worker(view: StatusView) -> bool:
    """Whether rows could be processed if a worker were alive."""
    return view.batch.state in {BatchState.QUEUED, BatchState.RUNNING} and not view.workers


def stall_reason(view: StatusView) -> str:
    """Why the batch makes no progress and what to do; empty while it does."""
    batch = view.batch
    if batch.state is BatchState.PAUSED:
        return _pause_line(batch)
    if batch.state in {BatchState.DONE, BatchState.CANCELLED} and not view.counts.unfinished:
        return ""
    if view.workers:
        return ""
    if view.write_refusal is not None:
        return strip_control(f"{view.write_refusal}. Workers wait, and continue by themselves.")
    if (reason := functions_reason(view)) != "":
        return reason
    if (reason := other_worker_reason(view)) != "":
        return reason
    start = _worker_command(batch)
    fact = "No worker is alive"
    if batch.state is BatchState.CANCELLED:
        fact += f" to record how {count_of(view.counts.unfinished, 'row')} ended"
    if batch.options.get("offline"):
        return f"{fact}: run the same `askmill run` again to resume."
    return f"{fact}: start one with `{start}`, or use `askmill run` with the same file."


def stall_or_start(view: StatusView, *, worker_starting: bool) -> str:
    """`stall_reason` for a command that starts a worker itself: it does not ask the user to start one."""
    if not worker_starting or not needs_worker(view) or view.write_refusal is not None:
        return stall_reason(view)
    held = view.counts.by_status[JobStatus.RUNNING]
    left = f" It continues {count_of(held, 'row')} that a worker which has died left running." if held else ""
    return f"Starting a worker …{left}"


def other_worker_reason(view: StatusView) -> str:
    """That all workers have another address, API or account, and what to do; empty if that is no reason."""
    batch, general = view.batch, [worker for worker in view.other_workers if not worker.batch]
    if view.workers or not general or not view.counts.unfinished or batch.state is BatchState.PAUSED:
        return ""
    other = general[0]
    return strip_control(
        f"No worker uses {server_text(batch.server)}; one on {other.host} uses {server_text(other.server)}. "
        f"Start one with {server_settings(batch.server, other.server)}."
    )


def functions_reason(view: StatusView) -> str:
    """Which functions no living worker may call, and what to do; empty where that is no reason to wait."""
    batch, functions = view.batch, view.batch.profile.functions
    alike = any(not worker.batch and worker.server.serves(batch.server) for worker in view.other_workers)
    if functions is None or view.workers or not alike or not view.counts.unfinished:
        return ""
    fact = f"No living worker may call the functions of {functions.module} as it was submitted"
    return strip_control(f"{fact}. Start one with `{_worker_command(batch)}`.")


def _pause_line(batch: Batch) -> str:
    reason = one_line(batch.paused_reason or "no reason given", 400)
    cause = pause_cause(batch, reason.rstrip("."))
    if batch.paused_until_ms is None:
        return f"Paused: {cause}. {advice(batch.id, batch.paused_reason)}"
    return (
        f"Paused until {format_time(batch.paused_until_ms)}: {cause}. It resumes by itself then, if a "
        f"worker is alive; `askmill resume {batch.id}` tries at once."
    )


def _worker_command(batch: Batch) -> str:
    functions = batch.profile.functions
    return "askmill worker" + (f" --allow-functions {shlex.quote(functions.module)}" if functions else "")
