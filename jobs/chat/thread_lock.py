"""A thread that an answer of last time still holds, whose reader is gone: ended if it can be, else awaited.

Assistants   400, the text names the run                 cancelled, then asked again
Responses    400 conversation_locked, no id is told      asked again until it has ended
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from openai import BadRequestError, OpenAIError

ACTIVE_RUN = re.compile(r"(?:already has an active run|while a run) ([\w-]+)")
LOCKED = "conversation_locked"
WAIT_S, LONGEST_S = 0.5, 60.0
Made = TypeVar("Made")


async def once_free(
    make: Callable[[], Awaitable[Made]], end: Callable[[str], Awaitable[object]], tell: Callable[[], None]
) -> Made:
    """What `make` makes on a thread, once that is free. Raises OpenAIError.

    `end` is asked to end the run that holds it; `tell` is called once when there is something to wait for.
    """
    waited_s = 0.0
    while True:
        try:
            return await make()
        except BadRequestError as refused:
            run = ACTIVE_RUN.search(refused.message)
            if not (run or refused.code == LOCKED) or waited_s >= LONGEST_S:
                raise
        if not waited_s:
            tell()
        if run:
            with suppress(OpenAIError):
                await end(run[1])
        await asyncio.sleep(WAIT_S)
        waited_s += WAIT_S
