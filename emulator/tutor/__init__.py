"""The offline mathematics tutor: computes the answer to a question, or says what it can compute.

    answer("Solve 3x + 11 = 14")
      parse/             text -> Problem, a syntax tree; anything else is answered here at once
      helper_process.py  Problem -> helper process (sympy_helper.py) -> a forked child under limits
      solve/             SymPy computes; text, code and logs come back

Text never reaches eval, nor SymPy's own parsers, which are built on it. SymPy is imported by the helper
process only: importing this package is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass

from askmill.emulator.tutor.helper_process import HelperProcess
from askmill.emulator.tutor.parse.lexer import TooLargeError
from askmill.emulator.tutor.parse.question import NotMathematicsError, read_question

__all__ = ["Tutor", "TutorAnswer"]

_ABOUT = (
    "I am askmill's offline emulator, not a language model. I compute arithmetic, percentages, equations and "
    'systems of equations, factoring, derivatives, integrals, limits and sums, as in "Solve 3x + 11 = 14" or '
    '"What is the derivative of x^2 sin(x)?". For an answer from a real model, set OPENAI_API_KEY and ask '
    "again."
)


@dataclass(frozen=True, slots=True)
class TutorAnswer:
    """The answer, the Python that computes it and what that prints; None both where nothing was computed."""

    text: str
    code: str | None = None
    logs: str | None = None


class Tutor:
    """Answers questions; `answer` never raises and always ends."""

    def __init__(self) -> None:
        self._helper = HelperProcess()

    async def start(self) -> None:
        """Start the helper process in the background; questions wait for it."""
        self._helper.begin()

    async def answer(self, question: str) -> TutorAnswer:
        try:
            problem = read_question(question)
        except NotMathematicsError as error:
            reason = f"I could not read this formula: {error.reason}. " if error.reason else ""
            return TutorAnswer(reason + _ABOUT)
        except TooLargeError as error:
            return TutorAnswer(f"I did not compute this: {error}.")
        reply = await self._helper.ask(problem.to_json())
        if "error" in reply:
            return TutorAnswer(reply["error"])
        return TutorAnswer(reply["text"], reply["code"], reply["logs"])

    async def close(self) -> None:
        """Stop the helper process; pending questions get a sentence that says so."""
        await self._helper.close()
