"""One line of a batch: asked of the endpoint that it names, and written as the line of a result file.

answered with 200 ─▶ output file · refused or failed ─▶ error file, with the status and body of the endpoint
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from askmill.emulator.protocol.batch_errors import line_expired
from askmill.emulator.protocol.error_shapes import shaped
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import ApiError, Json
from askmill.emulator.resources.chat_completions import ChatCompletions
from askmill.emulator.resources.responses import Responses
from askmill.emulator.simulation.engine import Engine, as_response_outcome

_JOB = re.compile(r"(.+)-(\d+)-\d+")
# A line that does not end by itself, in seconds; JSON has no infinity.
NEVER = 315_360_000.0


@dataclass(frozen=True, slots=True)
class LineEnd:
    """How a line ended. `counts`: it was an attempt of a job whose attempts may end differently.

    `held_s`: it ends that long after the batch began, and has not been carried out.
    """

    custom_id: str
    job: str = ""
    counts: bool = False
    line: bytes = b""
    answered: bool = False
    ran: bool = True
    usage: Json | None = None
    held_s: float = 0.0


class Lines:
    """Carries out lines. `attempts_of`: attempts so far of a job, or of a line without one."""

    def __init__(self, engine: Engine, responses: Responses, chat: ChatCompletions, seed: int) -> None:
        self._engine = engine
        self._asks = {"/v1/responses": responses.ask_line, "/v1/chat/completions": chat.ask_line}
        self._seed = seed

    async def carry_out(
        self, raw: bytes, now: float, attempts_of: Callable[[str], int], *, waited: bool
    ) -> LineEnd:
        """Carry out a checked line, unless it has to wait and has not `waited`."""
        request = orjson.loads(raw)
        custom_id, counts, ran = request["custom_id"], False, False
        job = job_of_line(custom_id)
        try:
            asked = self._asks[request["url"]](request["body"], now)
            job = asked.job or job
            counts = len(asked.outcomes) > 1 or bool(self._engine.scenario.outcomes)
            attempt = attempts_of(job) if counts else 0
            outcome, _ = self._engine.draw(job.rpartition(":")[2], asked.prompt, asked.outcomes, attempt)
            held_s = NEVER if outcome.name == "stuck" else outcome.after_s or 0.0
            if held_s and not waited:
                return LineEnd(custom_id, held_s=held_s)
            if outcome.name == "expired":
                return LineEnd(custom_id, job, counts, unanswered(custom_id, line_expired()), ran=False)
            ran = True
            state = self._engine.line_state(asked.prompt, as_response_outcome(outcome), now)
            body = await asked.answer(state)
        except ApiError as refusal:
            shape = self._engine.scenario.chat.error_shape
            line = _written(custom_id, refusal.status, shaped(refusal, shape))
            return LineEnd(custom_id, job, counts, line, ran=ran)
        line = _written(custom_id, 200, body)
        return LineEnd(custom_id, job, counts, line, answered=True, usage=body.get("usage"))

    def copies(self, custom_id: str, runs_of: Callable[[str], int]) -> int:
        """How often the line of an answer is written: 1, unless the server loses or repeats lines."""
        manners = self._engine.scenario.batches
        if not manners.missing_lines and not manners.repeated_lines:
            return 1
        at = random.Random(f"{self._seed}|{custom_id}|{runs_of(custom_id)}").random()  # noqa: S311 - a rehearsal
        if at < manners.missing_lines:
            return 0
        return 2 if at > 1 - manners.repeated_lines else 1


def job_of_line(custom_id: str) -> str:
    """`BATCH:ROW` of a custom_id `BATCH-ROW-ATTEMPT`; any other id is a job of its own."""
    named = _JOB.fullmatch(custom_id)
    return f"{named[1]}:{named[2]}" if named else custom_id


def unanswered(custom_id: str, error: Json) -> bytes:
    """The line of a request that was not carried out."""
    return _line({"custom_id": custom_id, "response": None, "error": error})


def _written(custom_id: str, status: int, body: object) -> bytes:
    response = {"status_code": status, "request_id": new_id("req_"), "body": body}
    return _line({"custom_id": custom_id, "response": response, "error": None})


def _line(fields: Json) -> bytes:
    return orjson.dumps({"id": new_id("batch_req_")} | fields) + b"\n"
