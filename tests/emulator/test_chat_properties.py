"""Chat completions under any mix: of manners and faults, and of nonsense in a request."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from askmill.emulator.protocol.routing import ApiError
from askmill.emulator.resources.chat_request import read_chat_request
from askmill.emulator.simulation.chat_manners import ChatManners
from askmill.emulator.simulation.slots import Slots, Ticket
from tests.emulator.chat_support import USAGE, body_of, client_of, finish_of
from tests.emulator.emulator_support import Emulator, run_emulator
from tests.support import wait_until

# Each example is a batch of real calls: a failing one is shown as it is.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
ROWS = 6
TRIES = 60

MIXES = st.fixed_dictionaries(
    {
        "error_shape": st.sampled_from(
            ("openai", "int_code", "flat", "string", "array", "detail", "ok_with_error", "mid_stream")
        ),
        "usage": st.sampled_from(("always", "asked", "never", "no_details")),
        "reasoning": st.sampled_from(("none", "reasoning", "reasoning_content", "think", "chunks")),
        "keep_alive": st.sampled_from(("none", "comments", "blank_lines")),
        "keep_alive_s": st.just(0.005),
        "cut_stream": st.sampled_from((0.0, 0.4)),
        "loading_s": st.sampled_from((0.0, 0.05)),
        "slots": st.sampled_from((0, 1, 3)),
        "ignores": st.lists(st.sampled_from(("stream", "stream_options", "seed")), unique=True),
    }
)
FAULTS = st.sampled_from(
    ("", "rate_429 = 0.3", "rate_500 = 0.2\nrate_503 = 0.2", "drop_before = 0.2\ndrop_after = 0.2")
)
OUTCOMES = st.sampled_from(
    ("", '"failed(server_error)" = 0.3', '"failed(server_error, partial)" = 0.3\n"unknown(abort)" = 0.2')
)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with run_emulator() as started:
        yield started


async def _answer(client: Any, row: int, batch: str) -> str:
    """A client that repeats a call until it has an answer with a finish_reason that it knows."""
    headers = {"X-Askmill-Job": f"{batch}:{row}:1"}
    for attempt in range(TRIES):
        fields: dict[str, Any] = {"extra_headers": headers}
        if attempt % 2:
            fields |= {"stream": True, "stream_options": USAGE}
        text, reason = await _try(client, body_of(f"What is {row} * 7?", **fields))
        if reason in {"stop", "length"}:
            return text
        await asyncio.sleep(0.005)
    raise AssertionError(f"row {row} has no answer after {TRIES} calls")


async def _try(client: Any, body: dict[str, Any]) -> tuple[str, str | None]:
    """Text and finish_reason; no reason where the call failed in any way."""
    try:
        reply = await client.chat.completions.create(**body)
        if not body.get("stream"):
            choices = getattr(reply, "choices", None)
            return (str(choices[0].message.content), choices[0].finish_reason) if choices else ("", None)
        read = [chunk async for chunk in reply]
    except (json.JSONDecodeError, OSError):
        return "", None
    except Exception as error:
        if type(error).__module__.split(".")[0] in {"openai", "httpx", "httpx2", "httpcore", "httpcore2"}:
            return "", None
        raise
    # The SDK takes an error event of another shape than OpenAI's for a chunk, without choices.
    if not all(isinstance(getattr(chunk, "choices", None), list) for chunk in read):
        return "", None
    return "".join(str(c.choices[0].delta.content or "") for c in read if c.choices), finish_of(read)


@settings(
    max_examples=8,
    deadline=None,
    phases=UNSHRUNK,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mix=MIXES, faults=FAULTS, outcomes=OUTCOMES)
def test_a_client_that_repeats_gets_every_answer(
    emulator: Emulator, mix: dict[str, Any], faults: str, outcomes: str
) -> None:
    """Whatever the manners and faults are, each row is answered rightly in the end, and no slot stays taken."""
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in mix.items())
    limit = f'{faults}\nonly = ["POST /chat/completions"]' if faults else ""
    emulator.set_scenario(f"[chat]\n{lines}\n[http]\n{limit}\n[outcomes]\n{outcomes}")
    batch = f"b{emulator.stats()['runs_created']}"

    async def run() -> list[str]:
        async with client_of(emulator) as client:
            return await asyncio.gather(*(_answer(client, row, batch) for row in range(ROWS)))

    answers = asyncio.run(run())
    for row, answer in enumerate(answers):
        assert str(row * 7) in answer
    stats = emulator.stats()
    assert all(stats["runs_by_job"][f"{batch}:{row}"] >= 1 for row in range(ROWS))
    wait_until(lambda: emulator.stats()["runs_active"] == 0, "no call holds a slot")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(("user", "assistant", "tool", "text", "c1")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "role",
                    "content",
                    "type",
                    "text",
                    "id",
                    "tool_calls",
                    "tool_call_id",
                    "function",
                    "name",
                    "arguments",
                    "image_url",
                    "url",
                    "extra_content",
                    "google",
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    messages=st.lists(JSON, max_size=3),
    fields=st.dictionaries(
        st.sampled_from(
            ("tools", "stream", "stream_options", "max_tokens", "response_format", "tool_choice")
        ),
        JSON,
        max_size=2,
    ),
    manners=st.sampled_from(
        (
            ChatManners(),
            ChatManners(error_shape="flat", echo="thought_signature"),
            ChatManners(refuses=("stream", "response_format"), ignores=("tools",)),
            ChatManners(reasoning="reasoning_content", echo="reasoning_content"),
            ChatManners(context_tokens=2, ignores=("context_tokens",)),
        )
    ),
)
def test_nonsense_is_refused_and_breaks_nothing(
    messages: Any, fields: dict[str, Any], manners: ChatManners
) -> None:
    """Every body is read or refused with a status below 500."""
    body = orjson.loads(orjson.dumps({"model": "m", "messages": messages} | fields))
    status = 200
    try:
        read_chat_request(body, manners)
    except ApiError as refused:
        status = refused.status
    assert status < 500


@settings(max_examples=100, deadline=None)
@given(
    slots=st.integers(0, 3),
    queue_max=st.none() | st.integers(0, 2),
    steps=st.lists(st.booleans() | st.integers(0, 8), max_size=30),
)
def test_slots_are_never_exceeded_and_never_idle(slots: int, queue_max: int | None, steps: list[Any]) -> None:
    """Calls join and leave in any order: at most `slots` are in, nobody waits while one is free, first come first."""
    manners = ChatManners(slots=slots, queue_max=queue_max)

    async def run() -> None:
        queue = Slots()
        inside: list[Ticket] = []
        for step in steps:
            if step is True or not inside:
                full = bool(slots) and queue_max is not None and len(inside) == slots + queue_max
                with pytest.raises(ApiError) if full else nullcontext():
                    inside.append(queue.join(manners))
            else:
                inside.pop(int(step) % len(inside)).leave()
            entered = [ticket.entered.done() for ticket in inside]
            expected = min(len(inside), slots) if slots else len(inside)
            assert entered == [True] * expected + [False] * (len(inside) - expected)

    asyncio.run(run())
