"""Stored results: what is packed is unpacked unchanged."""

import hashlib
import random
from importlib.resources import files

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from askmill.jobs.model.models import Attempt, JobStatus, Result, Step, Usage
from askmill.jobs.model.result_fields import result_values, runs_json
from askmill.jobs.store.codec import pack_result, result_of, unpack_fields, unpack_result
from askmill.jobs.store.keys import SCHEMA_VERSION
from benchmarks.samples import computed

letters = st.characters(exclude_categories=("Cs",))
words = st.text(letters, max_size=12) | st.sampled_from(['a,"b"\r\nc', "\n", "=1", "[]", "!x\n"])
numbers = st.none() | st.floats(0, 2e9, allow_nan=False) | st.integers(0, 2**40)
usages = st.builds(
    Usage, st.none() | st.integers(0, 2**40), completion_tokens=st.none() | st.integers(0, 10**6)
)
mappings = st.dictionaries(words, words | numbers | st.lists(words, max_size=2), max_size=3)
attempts = st.builds(
    Attempt,
    st.integers(1, 9),
    st.none() | words,
    st.none() | words,
    words,
    st.none() | words,
    numbers,
    numbers,
    usages,
    numbers,
)
steps = st.builds(
    Step, st.none() | words, st.integers(0, 9), words, words, numbers, numbers, usages, mappings
)
results = st.builds(
    Result,
    row=st.just(7),
    status=st.sampled_from(JobStatus),
    answer=words,
    error=st.none() | words,
    attempts=st.lists(attempts, max_size=2).map(tuple),
    thread_id=st.none() | words,
    run_id=st.none() | words,
    model=st.none() | words,
    usage=usages,
    cost_usd=numbers,
    duration_s=numbers,
    citations=st.lists(mappings, max_size=2).map(tuple),
    files=st.lists(mappings, max_size=2).map(tuple),
    steps=st.lists(steps, max_size=2).map(tuple),
    attempts_made=st.none() | st.integers(0, 9),
)


@given(result=results)
@settings(deadline=None)
def test_a_result_is_unpacked_unchanged(result: Result) -> None:
    """Whatever texts and numbers it holds, also unknown ones."""
    assert result_of(unpack_result(7, pack_result(result))) == result


@given(result=results)
@settings(deadline=None)
def test_fields_and_steps_are_read_apart(result: Result) -> None:
    """The fields are what the results show of it; the steps are the JSON that the steps file copies."""
    stored, steps = unpack_fields(pack_result(result))
    assert orjson.loads(steps) == unpack_result(7, pack_result(result))["steps"]
    assert result_values(stored) == (
        result.answer,
        result.error,
        result.attempt_count,
        result.thread_id,
        result.run_id,
        result.model,
        result.usage.prompt_tokens,
        result.usage.completion_tokens,
        result.cost_usd,
        result.duration_s,
        list(result.citations),
        list(result.files),
    )
    assert [run["cost_usd"] for run in runs_json(stored)] == [attempt.cost_usd for attempt in result.attempts]
    assert [run["prompt_tokens"] for run in runs_json(stored)] == [
        attempt.usage.prompt_tokens for attempt in result.attempts
    ]


@given(result=results, times=st.integers(1, 3))
@settings(deadline=None)
def test_a_mark_hides_the_answer_only(result: Result, times: int) -> None:
    """Behind marks of scripts, however many, attempts, usage and steps are unchanged."""
    packed = b"!previous_turn\n" * times + pack_result(result)
    marked = result_of(unpack_result(7, packed))
    assert (marked.status, marked.error, marked.answer) == (JobStatus.FAILED, "previous_turn", "")
    assert (marked.attempts, marked.usage, marked.steps) == (result.attempts, result.usage, result.steps)
    assert marked.attempt_count == result.attempt_count
    stored, _ = unpack_fields(packed)
    assert result_values(stored)[:3] == ("", "previous_turn", result.attempt_count)
    assert result_values(stored)[3:] == result_values(unpack_fields(pack_result(result))[0])[3:]


def test_a_mark_without_an_earlier_result() -> None:
    """A turn that was never asked has no attempt, no step, and nothing else is known of it."""
    stored, steps = unpack_fields(b"!previous_turn\n")
    assert result_values(stored) == ("", "previous_turn", 0, *[None] * 7, (), ())
    assert steps == b"[]"
    assert result_of(unpack_result(3, b"!previous_turn\n")).row == 3


def test_fields_of_any_type_are_read() -> None:
    """What an API has sent instead of a text was stored as it came; it keeps no batch from being collected."""
    odd = Result(7, JobStatus.COMPLETED, 1, error=[2], model={"a": 1}, run_id=3.5, usage=Usage("x"))  # type: ignore[arg-type]
    stored, _ = unpack_fields(pack_result(odd))
    assert result_values(stored) == (1, [2], 0, None, 3.5, {"a": 1}, "x", None, None, None, [], [])


def test_a_result_takes_few_bytes() -> None:
    """One run with two steps, 1,200 bytes of JSON: 240 bytes at most."""
    chance = random.Random(3)
    sizes = [len(pack_result(computed(row, chance))) for row in range(1, 101)]
    assert sum(sizes) / len(sizes) < 240


def test_the_dictionary_belongs_to_the_layout() -> None:
    """Another dictionary cannot read stored results: a change of it raises SCHEMA_VERSION."""
    digest = hashlib.sha256((files("askmill.jobs.store") / "result.zdict").read_bytes()).hexdigest()
    assert (SCHEMA_VERSION, digest[:16]) == (4, "0261ae8f77f0a153")
