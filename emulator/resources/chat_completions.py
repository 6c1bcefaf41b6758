"""/chat/completions: one call, streamed or not. Nothing is kept after the reply.

checked ─▶ waits for a slot ─▶ carried out (counted) ─▶ answered
                └──────────────────┴─ the client disconnects: given up, its slot is free
"""

import asyncio
import random
from dataclasses import dataclass, replace

from askmill.emulator.protocol.chat_errors import context_exceeded, loading
from askmill.emulator.protocol.error_shapes import shaped
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import (
    APPLICATION_JSON,
    ApiError,
    Json,
    Reply,
    Request,
    Result,
    Route,
    Stream,
    json_bytes,
)
from askmill.emulator.resources.chat_object import (
    Generated,
    envelope,
    generated,
    message_of,
    reason,
    usage_of,
)
from askmill.emulator.resources.chat_request import ChatRequest, read_chat_request
from askmill.emulator.resources.chat_stream import (
    DONE,
    Chunks,
    Pieces,
    event,
    keep_alive_sign,
    signs_for,
    signs_until,
)
from askmill.emulator.simulation.chat_manners import ChatManners
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.engine import AttemptKey, Engine, RunState, next_outcome
from askmill.emulator.simulation.journal import Store
from askmill.emulator.simulation.single_calls import Asked, failure_of
from askmill.emulator.simulation.slots import Slots, Ticket

JOB_HEADER = b"x-askmill-job"


@dataclass(slots=True)
class Call:
    """One call while it is carried out. `state` is None until it has a slot, `done` until it is answered.

    `written`: share of the answer that was generated when the call ended.
    """

    id: str
    request: ChatRequest
    manners: ChatManners
    job: str
    created: int
    ticket: Ticket | None = None
    state: RunState | None = None
    done: Generated | None = None
    written: float = 0.0

    def sign(self) -> bytes:
        return keep_alive_sign(self.manners, stream=self.request.stream)


class ChatCompletions:
    """Creates completions."""

    def __init__(self, store: Store, engine: Engine, seed: int) -> None:
        self._store = store
        self._engine = engine
        self._random = random.Random(seed)  # noqa: S311 - a rehearsal, not a secret
        self._slots = Slots()
        self._loaded_at = 0.0

    def set_manners(self, manners: ChatManners, now: float) -> None:
        """The model begins to load now."""
        self._loaded_at = now + manners.loading_s

    def routes(self) -> list[Route]:
        return [Route("POST", "/chat/completions", self.create, abortable=True)]

    async def create(self, request: Request) -> Result:
        """Check the request and carry it out; a stream is carried out while it is read."""
        manners = self._engine.scenario.chat
        chat_request = read_chat_request(request.json(), manners)
        if request.now < self._loaded_at:
            raise loading(manners.loading_status)
        tier = self._engine.tiers.serve(chat_request.service_tier, self._engine.scenario.tiers)
        chat_request = replace(chat_request, service_tier=tier)
        call = Call(new_id("chatcmpl-"), chat_request, manners, _job_of(request), int(request.now))
        if chat_request.stream:
            return Stream(self._pieces(call, self._streamed(call)), lazy=True)
        pieces = self._pieces(call, self._unstreamed(call))
        if call.sign():
            return Stream(pieces, APPLICATION_JSON, lazy=True)
        return Reply(b"".join([piece async for piece in pieces]))

    def ask_line(self, body: Json, now: float) -> Asked:
        """What a line of a batch asks; ApiError for what this server refuses."""
        manners = self._engine.scenario.chat
        asked = read_chat_request(body, manners)
        call = Call(new_id("chatcmpl-"), asked, manners, "", int(now))

        async def answer(state: RunState) -> Json:
            call.state = state
            if failure := _failure_of(call):
                raise failure
            await self._answer(call, state, echo=self._engine.scenario.batches.echo)
            assert call.done is not None
            return _completion(call, call.done)

        job = self._engine.job_of(body.get("metadata"))
        return Asked(asked.prompt, asked.outcomes, job, answer)

    async def _pieces(self, call: Call, pieces: Pieces) -> Pieces:
        """What is sent of a call. An error before the first piece is a reply of its own."""
        begun = False
        try:
            call.ticket = self._slots.join(call.manners)
            async for piece in pieces:
                yield piece
                begun = True
        except ApiError as error:
            answers_ok = call.manners.error_shape == "ok_with_error" and call.state is not None
            if not begun and not answers_ok:
                raise
            body = shaped(error, call.manners.error_shape)
            yield event(body) + DONE if call.request.stream else json_bytes(body)
        finally:
            await pieces.aclose()
            self._end(call)

    async def _unstreamed(self, call: Call) -> Pieces:
        async for sign in self._carry_out(call, share=1.0):
            yield sign
        assert call.done is not None
        call.written = 1.0
        if failure := _failure_of(call):
            raise failure
        yield json_bytes(_completion(call, call.done))

    async def _streamed(self, call: Call) -> Pieces:
        async for sign in self._carry_out(call, share=0.1):
            yield sign
        assert call.done is not None
        assert call.state is not None
        chunks = _chunks(call)
        failure = _failure_of(call)
        if failure and not call.state.outcome.partial:
            if call.manners.error_shape == "mid_stream":
                yield chunks.role()
            raise failure
        cut, cut_at = self._cut(call.manners)
        seconds = max(0.0, _ends_at(call.state) - self._engine.clock.now())
        async for piece in chunks.content(call.done, seconds, cut, cut_at):
            call.written = chunks.sent
            yield piece
        if failure:
            raise failure
        if cut == "done":
            yield DONE
        if not cut:
            for piece in chunks.end(call.done):
                yield piece

    async def _carry_out(self, call: Call, share: float) -> Pieces:
        """Wait for a slot and for this share of the time of the call; yield signs of life."""
        sign, every_s = call.sign(), call.manners.keep_alive_s
        assert call.ticket is not None
        async for piece in signs_until(call.ticket.entered, sign, every_s):
            yield piece
        begun = self._engine.clock.now()
        state = call.state = self._start(call, begun)
        if state.outcome.name == "stuck":
            if call.request.stream:
                yield _chunks(call).role()
            async for piece in signs_until(asyncio.get_running_loop().create_future(), sign, every_s):
                yield piece
        answering = asyncio.ensure_future(self._answer(call, state))
        try:
            async for piece in signs_until(answering, sign, every_s):
                yield piece
        finally:
            answering.cancel()
        answering.result()
        wait_s = (_ends_at(state) - begun) * share - (self._engine.clock.now() - begun)
        async for piece in signs_for(wait_s, sign, every_s):
            yield piece

    def _start(self, call: Call, now: float) -> RunState:
        """Count the call, and draw how it ends."""
        asked = call.request
        attempts = f"chat_attempts {call.job or asked.question_key}"
        attempt = self._store.counters[attempts]
        outcomes = asked.outcomes
        if asked.continues:
            attempt = max(0, attempt - 1)
            outcomes = (_continued(asked, attempt),)
        elif call.job or asked.question_key:
            self._store.add_to_counter(attempts)
        key = AttemptKey(call.job, attempt, responses=True)
        state = self._engine.start(asked.prompt, outcomes, key, now)
        self._engine.count_run(call.job)
        self._engine.activity.begin(now)
        self._store.commit()
        return state

    async def _answer(self, call: Call, state: RunState, *, echo: bool = False) -> None:
        outcome, prompt = state.outcome, call.request.prompt
        reasoning = reason(outcome, call.manners, prompt.max_tokens)
        limit = None if prompt.max_tokens is None else prompt.max_tokens - reasoning.tokens
        plays = replace(outcome, arg="partial") if outcome.name == "cancelled" else outcome
        answer = await self._engine.compute(replace(prompt, max_tokens=limit), plays, echo=echo)
        call.done = generated(answer, outcome, reasoning, limit, forced_tool=call.request.forced_tool)

    def _cut(self, manners: ChatManners) -> tuple[str, float]:
        """How this stream is cut, and at which share of its content; empty: not at all."""
        if not manners.cut_stream or self._random.random() >= manners.cut_stream:
            return "", 1.0
        return self._random.choice(manners.cut_as), self._random.random()

    def _end(self, call: Call) -> None:
        """Free the slot, and count the tokens that were written."""
        if call.ticket is not None:
            call.ticket.leave()
        if call.state is None:
            return
        self._engine.activity.end()
        if _failure_of(call) is None or call.state.outcome.partial:
            wrote = round(call.done.completion_tokens * call.written) if call.done else 0
            self._store.add_to_counter("tokens", call.request.prompt.prompt_tokens + wrote)
        self._store.commit()


def _job_of(request: Request) -> str:
    """`BATCH:ROW` of the header `BATCH:ROW:ATTEMPT`; empty without one."""
    for name, value in request.headers:
        if name == JOB_HEADER:
            parts = value.decode("latin-1").split(":")
            return ":".join(parts[:2]) if len(parts) == 3 and all(parts) else ""
    return ""


def _continued(request: ChatRequest, attempt: int) -> Outcome:
    """The outcome of a call with tool results: it calls again while rounds are left."""
    if not request.outcomes:
        return Outcome()
    outcome = request.outcomes[min(attempt, len(request.outcomes) - 1)]
    return next_outcome(outcome, request.results // len(outcome.calls)) if outcome.calls else Outcome()


def _failure_of(call: Call) -> ApiError | None:
    """The error of a call whose outcome is one."""
    assert call.state is not None
    outcome = call.state.outcome
    if outcome.name == "incomplete" and outcome.arg == "max_prompt_tokens":
        tokens = call.request.prompt.prompt_tokens
        return context_exceeded(max(1, tokens - 1), tokens)
    return failure_of(outcome)


def _chunks(call: Call) -> Chunks:
    return Chunks(call.id, call.created, call.request, call.manners)


def _ends_at(state: RunState) -> float:
    return state.plan.marks[-1][0]


def _completion(call: Call, done: Generated) -> Json:
    choice = {
        "index": 0,
        "message": message_of(done, call.manners),
        "logprobs": None,
        "finish_reason": done.finish_reason,
    }
    whole = envelope(call.id, call.created, call.request, "chat.completion") | {"choices": [choice]}
    if call.manners.usage != "never":
        whole["usage"] = usage_of(call.request, done, call.manners)
    return whole
