"""Wait for a thread that an answer of an earlier start still locks; cancel that run where the API names it.

Assistants   400, the text names the run           cancel it, then try again
Responses    400 conversation_locked, without id   try again until it has ended
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from openai import BadRequestError, OpenAIError

ACTIVE_RUN = re.compile(r"(?:already has an active run|while a run) ([\w-]+)")
LOCKED = "conversation_locked"
WAIT_S, TIMEOUT_S = 0.5, 60.0
Created = TypeVar("Created")


async def retry_until_unlocked(
    create: Callable[[], Awaitable[Created]],
    cancel_run: Callable[[str], Awaitable[object]],
    on_wait: Callable[[], None],
) -> Created:
    """Return what `create` returns, once the thread is unlocked. Raises OpenAIError.

    `cancel_run` gets the id of the run that locks it; `on_wait` is called once, before the first wait.
    """
    waited_s = 0.0
    while True:
        try:
            return await create()
        except BadRequestError as refused:
            run = ACTIVE_RUN.search(refused.message)
            if not (run or refused.code == LOCKED) or waited_s >= TIMEOUT_S:
                raise
        if not waited_s:
            on_wait()
        if run:
            with suppress(OpenAIError):
                await cancel_run(run[1])
        await asyncio.sleep(WAIT_S)
        waited_s += WAIT_S
