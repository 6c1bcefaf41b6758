"""The slots of a server, and the queue before them: first come, first served."""

import asyncio
from collections import deque

from askmill.emulator.protocol.chat_errors import queue_full
from askmill.emulator.simulation.chat_manners import ChatManners


class Slots:
    """Counts the calls that are carried out, and lets the next one in when one leaves."""

    def __init__(self) -> None:
        self._busy = 0
        self._waiting: deque[Ticket] = deque()
        self._slots = 0

    def join(self, manners: ChatManners) -> "Ticket":
        """A place in the queue, or at once a slot. ApiError 503 if the queue is full."""
        self._slots = manners.slots
        ticket = Ticket(self)
        if self._free() and not self._waiting:
            self.take(ticket)
        elif manners.queue_max is not None and len(self._waiting) >= manners.queue_max:
            raise queue_full()
        else:
            self._waiting.append(ticket)
        return ticket

    def take(self, ticket: "Ticket") -> None:
        self._busy += 1
        ticket.entered.set_result(None)

    def leave(self, ticket: "Ticket") -> None:
        if ticket.entered.done():
            self._busy -= 1
        else:
            self._waiting.remove(ticket)
            ticket.entered.cancel()
        while self._waiting and self._free():
            self.take(self._waiting.popleft())

    def _free(self) -> bool:
        return not self._slots or self._busy < self._slots


class Ticket:
    """A call's place. `entered` is done when it has a slot; `leave` gives the place back, once."""

    def __init__(self, slots: Slots) -> None:
        self.entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._slots: Slots | None = slots

    def leave(self) -> None:
        if self._slots is not None:
            slots, self._slots = self._slots, None
            slots.leave(self)
