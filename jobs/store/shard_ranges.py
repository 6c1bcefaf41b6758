"""The rows of a shard as text: a shard of 2,000 rows in file order is "1-2000"."""

from collections.abc import Iterator, Sequence


def ranges_of(rows: Sequence[int]) -> str:
    """Rows in ascending order as text: "1-2000,2005"."""
    parts: list[str] = []
    first = rows[0] if rows else 0
    for at, row in enumerate(rows):
        if at + 1 == len(rows) or rows[at + 1] != row + 1:
            parts.append(str(row) if first == row else f"{first}-{row}")
            first = rows[at + 1] if at + 1 < len(rows) else 0
    return ",".join(parts)


def rows_in(text: str) -> Iterator[int]:
    """The rows of such a text."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
