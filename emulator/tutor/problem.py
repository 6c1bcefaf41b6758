"""The computation that a question asks for (sent to the helper process as JSON), and its solution."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from askmill.emulator.tutor.ast import Node, from_json, to_json


class Kind(StrEnum):
    """The computation asked for; beside each, what `Problem.bounds` holds."""

    EVALUATE = "evaluate"  # nothing, or one value for each of `variables`
    SOLVE = "solve"
    SIMPLIFY = "simplify"
    EXPAND = "expand"
    FACTOR = "factor"
    DERIVATIVE = "derivative"
    INTEGRAL = "integral"  # from, to; nothing for an antiderivative
    LIMIT = "limit"  # the point
    SUM = "sum"  # first, last


@dataclass(frozen=True, slots=True)
class Problem:
    """One computation. `formulas` has one tree, or the equations of a system."""

    kind: Kind
    formulas: tuple[Node, ...]
    variables: tuple[str, ...] = ()
    bounds: tuple[Node, ...] = ()
    order: int = 1  # of a derivative
    side: str = "+-"  # a limit from the right is "+", from the left "-"
    places: int = 0  # requested decimal places; 0: not specified

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "formulas": [to_json(tree) for tree in self.formulas],
            "variables": list(self.variables),
            "bounds": [to_json(tree) for tree in self.bounds],
            "order": self.order,
            "side": self.side,
            "places": self.places,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Problem:
        return cls(
            kind=Kind(data["kind"]),
            formulas=tuple(from_json(tree) for tree in data["formulas"]),
            variables=tuple(data["variables"]),
            bounds=tuple(from_json(tree) for tree in data["bounds"]),
            order=data["order"],
            side=data["side"],
            places=data["places"],
        )


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer's text, the Python that computes it, and exactly what that Python prints."""

    text: str
    code: str
    logs: str
