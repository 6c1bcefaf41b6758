"""Isolation of steps that may kill the process: a user's function, or the processing of an answer.

A row whose worker has died in such a step is a suspect and runs the next one alone. So a poison row dies
alone, and rows that only ran beside it are not counted as poison.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class CrashIsolation:
    """Many rows may be inside at once. A suspect waits until none is, and none enters until it has left."""

    inside: int = 0
    suspects: int = 0
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def section(self, *, alone: bool) -> AsyncIterator[None]:
        """Enter the risky step; `alone` for a suspect."""
        if alone:
            async with self._suspect():
                yield
            return
        while self.suspects:
            await self._wait_for_change()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            self.changed.set()

    @asynccontextmanager
    async def _suspect(self) -> AsyncIterator[None]:
        self.suspects += 1
        try:
            async with self.alone:
                while self.inside:
                    await self._wait_for_change()
                yield
        finally:
            self.suspects -= 1
            self.changed.set()

    async def _wait_for_change(self) -> None:
        self.changed.clear()
        await self.changed.wait()
