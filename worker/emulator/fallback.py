"""What answers while there is no tutor."""

from dataclasses import dataclass

TEXT = "I am askmill's offline emulator, not a model. I can do mathematics, and nothing else."


@dataclass(frozen=True, slots=True)
class Said:
    text: str = TEXT
    code: str | None = None
    logs: str | None = None


class Tutor:
    """Says the same to everything."""

    async def start(self) -> None: ...

    async def answer(self, question: str) -> Said:  # noqa: ARG002 - the protocol's signature
        return Said()

    async def close(self) -> None: ...
