"""From a question in English to the problem it poses, or to the reason why there is none.

text -> shape ("INTEGRATE F FROM F TO F") -> the first rule that fits the whole shape -> Problem
"""

from __future__ import annotations

import re
from dataclasses import replace

from askmill.emulator.tutor.parse.grammar import RULES, whole_number
from askmill.emulator.tutor.parse.lexer import ParseError, TooLargeError
from askmill.emulator.tutor.parse.normalize import NoShapeError, Shape, read_shape
from askmill.emulator.tutor.parse.size_limits import check_size
from askmill.emulator.tutor.problem import Problem

_PLACES = re.compile(r"(.*F)(?: TO| AT| IF| FOR)? F PLACES")
MAX_PLACES = 50


class NotMathematicsError(Exception):
    """The question poses no problem that the tutor reads; no `reason`: it is no mathematics at all."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


def read_question(question: str) -> Problem:
    """The problem that a question poses.

    Raises:
        NotMathematicsError: it poses none, or none that can be read whole.
        TooLargeError: it does, and its result would be too large.
    """
    try:
        shape = read_shape(question)
    except NoShapeError:
        raise NotMathematicsError from None
    try:
        problem = _problem_of(shape)
        for tree in (*problem.formulas, *problem.bounds):
            check_size(tree)
    except TooLargeError:
        raise
    except ParseError as error:
        raise NotMathematicsError(str(error) if shape.is_marked else "") from None
    return problem


def _problem_of(shape: Shape) -> Problem:
    found = _PLACES.fullmatch(shape.words)
    if found:
        places = whole_number(shape.formulas[-1], MAX_PLACES)
        shortened = Shape(found[1], shape.formulas[:-1], shape.is_marked)
        return replace(_problem_of(shortened), places=places)
    for pattern, to_sympy in RULES:
        if pattern.fullmatch(shape.words):
            return to_sympy(shape)
    raise ParseError("I do not see what is to be computed")
