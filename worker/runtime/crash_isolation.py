"""Steps that may kill this process: a row whose worker has died at one takes the next alone.

So the one that is poison dies alone, and the rows that only happened to be beside it end as they should.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class CrashIsolation:
    """Many may be inside at once; a suspect waits until nobody is, and until it leaves nobody enters."""

    inside: int = 0
    suspects: int = 0
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def section(self, *, alone: bool) -> AsyncIterator[None]:
        """Be inside; `alone`: as a suspect."""
        if alone:
            async with self._suspect():
                yield
            return
        while self.suspects:
            await self._change()
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
                    await self._change()
                yield
        finally:
            self.suspects -= 1
            self.changed.set()

    async def _change(self) -> None:
        self.changed.clear()
        await self.changed.wait()
