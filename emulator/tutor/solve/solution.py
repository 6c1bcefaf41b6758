"""A worked answer, as the helper process sends it back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Worked:
    """The answer's text, the Python that computes it, and exactly what that Python prints."""

    text: str
    code: str
    logs: str
