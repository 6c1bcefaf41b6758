"""Files that a run has generated: downloaded at once, because their containers end after 20 minutes."""

import random
from dataclasses import replace
from typing import Any

from askmill.worker.execution.actions import ActionExecutor
from askmill.worker.lifecycle.api_types import Answer, ApiError
from askmill.worker.lifecycle.retry import RetryPolicy, is_transient
from askmill.worker.runtime.context import elapsed_clock_s


async def store_generated_files(answer: Answer, actions: ActionExecutor) -> Answer:
    """Download and store the answer's files; each gets its stored number, or a reason why there is none."""
    context, claim = actions.context, actions.claim
    files = list[dict[str, Any]]()
    for number, file in enumerate(answer.files):
        limit = context.file_limit_bytes
        try:
            content = await _download(file, actions)
        except ApiError as error:
            files.append({**file, "reason": f"could not be fetched: {error}"})
            continue
        if len(content) > limit:
            reason = f"its {len(content):,} bytes are more than the {limit:,} kept"
        elif await context.retry_on_outage(context.store.store_file, claim, number, content, limit):
            files.append({**file, "number": number})
            continue
        else:
            reason = "no room left for its files"
        files.append({**file, "reason": reason})
    return replace(answer, files=tuple(files))


async def _download(file: dict[str, Any], actions: ActionExecutor) -> bytes:
    """The file's content. Transient errors are retried for a while. Raises ApiError."""
    context = actions.context
    policy, began_s, tries = RetryPolicy(), elapsed_clock_s(), 0
    while True:
        try:
            return await actions.backend.download_file(file, context.file_limit_bytes)
        except ApiError as error:
            if not is_transient(error) or elapsed_clock_s() - began_s > context.fetch_within_s:
                raise
            wait_s = error.retry_after_s
            if wait_s is None:
                wait_s = policy.wait_s(tries, random.random())  # noqa: S311 -- jitter
            if error.status == 429:
                actions.counters["throttled"] += 1
                await context.retry_on_outage(context.store.throttle, wait_s)
        await actions.interrupts.sleep(wait_s)
        tries += 1
