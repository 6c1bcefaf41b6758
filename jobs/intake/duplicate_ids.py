"""Duplicate ids in constant memory: a Bloom filter finds candidates, a second pass compares only those."""

from collections import Counter

from rbloom import Bloom

FIRST_CAPACITY = 1 << 16
FALSE_POSITIVE_RATE = 1e-7
"""For each filter; an id takes about 34 bits, so a million ids take about 5 MB."""


class BloomPass:
    """First pass over the ids. `candidates` may occur twice: all duplicates, few others."""

    def __init__(self) -> None:
        self.candidates: set[str] = set()
        self._filters = [Bloom(FIRST_CAPACITY, FALSE_POSITIVE_RATE)]
        self._capacity = self._free = FIRST_CAPACITY

    def add(self, ids: list[str]) -> None:
        """Add the ids of a chunk. Blank ids are ignored."""
        chunk_ids = set(ids)
        if len(chunk_ids) < len(ids):
            self.candidates.update(own_id for own_id, count in Counter(ids).items() if count > 1)
        for bloom in self._filters:
            self.candidates.update(filter(bloom.__contains__, chunk_ids))
        self.candidates.discard("")
        if self._free < len(chunk_ids):
            self._capacity = self._free = 4 * self._capacity
            self._filters.append(Bloom(self._capacity, FALSE_POSITIVE_RATE))
        self._free -= len(chunk_ids)
        self._filters[-1].update(chunk_ids)


class ExactPass:
    """Second pass over the ids: records where each candidate occurs first."""

    def __init__(self, candidates: set[str]) -> None:
        self._first_positions = dict.fromkeys(candidates, 0)

    def first_position(self, own_id: str, position: int) -> int:
        """The position where this id occurs first: `position` unless it is a duplicate."""
        first = self._first_positions.get(own_id)
        if first == 0:
            self._first_positions[own_id] = position
        return first or position
