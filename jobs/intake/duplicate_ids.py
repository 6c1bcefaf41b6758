"""Duplicate ids in flat memory: a Bloom filter names suspects, which alone are looked at again."""

from collections import Counter

from rbloom import Bloom

FIRST_CAPACITY = 1 << 16
FALSE_ALARMS = 1e-7
"""Per filter; an id is some 34 bits in one of them, so a million ids take about 5 MB."""


class BloomPass:
    """Sees every id once. `suspects` holds those that may have been seen before: few, or truly repeated."""

    def __init__(self) -> None:
        self.suspects: set[str] = set()
        self._filters = [Bloom(FIRST_CAPACITY, FALSE_ALARMS)]
        self._capacity = self._room = FIRST_CAPACITY

    def note(self, ids: list[str]) -> None:
        """Take in ids, a chunk at a time; blank ones are no ids."""
        fresh = set(ids)
        if len(fresh) < len(ids):
            self.suspects.update(own_id for own_id, count in Counter(ids).items() if count > 1)
        for seen in self._filters:
            self.suspects.update(filter(seen.__contains__, fresh))
        self._add(fresh)
        self.suspects.discard("")

    def _add(self, fresh: set[str]) -> None:
        if self._room < len(fresh):
            self._capacity = self._room = 4 * self._capacity
            self._filters.append(Bloom(self._capacity, FALSE_ALARMS))
        self._room -= len(fresh)
        self._filters[-1].update(fresh)


class ExactPass:
    """Sees the ids again and tells real duplicates from false alarms: by id, where it stood first."""

    def __init__(self, suspects: set[str]) -> None:
        self._first = dict.fromkeys(suspects, 0)

    def first_place(self, own_id: str, place: int) -> int:
        """Where this id stood first; `place` itself if it is the first or no suspect."""
        first = self._first.get(own_id)
        if first == 0:
            self._first[own_id] = place
        return first or place
