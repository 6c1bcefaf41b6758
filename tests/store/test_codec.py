"""Results as they are stored: what goes in comes out, and what files copy is what the fields say."""

import hashlib
import random
from importlib.resources import files

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from askmill.jobs.model.models import Attempt, JobStatus, Result, Step, Usage
from askmill.jobs.model.result_fields import csv_record, result_cells, result_values
from askmill.jobs.store.codec import pack_result, result_of, unpack_parts, unpack_result
from askmill.jobs.store.keys import SCHEMA_VERSION
from benchmarks.samples import computed

letters = st.characters(exclude_categories=("Cs",))
words = st.text(letters, max_size=12) | st.sampled_from(['a,"b"\r\nc', "\n", "=1", "[]", "!x\n"])
numbers = st.none() | st.floats(0, 2e9, allow_nan=False) | st.integers(0, 2**40)
usages = st.builds(
    Usage, st.none() | st.integers(0, 2**40), completion_tokens=st.none() | st.integers(0, 10**6)
)
told = st.dictionaries(words, words | numbers | st.lists(words, max_size=2), max_size=3)
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
steps = st.builds(Step, st.none() | words, st.integers(0, 9), words, words, numbers, numbers, usages, told)
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
    citations=st.lists(told, max_size=2).map(tuple),
    files=st.lists(told, max_size=2).map(tuple),
    steps=st.lists(steps, max_size=2).map(tuple),
    attempts_made=st.none() | st.integers(0, 9),
)


@given(result=results)
@settings(deadline=None)
def test_a_result_comes_back(result: Result) -> None:
    """Whatever texts and numbers it holds, also unknown ones."""
    assert result_of(unpack_result(7, pack_result(result))) == result


@given(result=results)
@settings(deadline=None)
def test_what_a_csv_copies_is_what_the_fields_say(result: Result) -> None:
    """The stored end of the record is the one that would be made of the fields."""
    rest, _, csv_end = unpack_parts(pack_result(result))
    assert csv_end.decode() == csv_record(result_cells(result_values(orjson.loads(rest))))


@given(result=results, times=st.integers(1, 3))
@settings(deadline=None)
def test_a_mark_hides_the_answer_only(result: Result, times: int) -> None:
    """Behind marks of scripts, however many, attempts, usage and steps stand as they were."""
    packed = b"!previous_turn\n" * times + pack_result(result)
    found = result_of(unpack_result(7, packed))
    assert (found.status, found.error, found.answer) == (JobStatus.FAILED, "previous_turn", "")
    assert (found.attempts, found.usage, found.steps) == (result.attempts, result.usage, result.steps)
    assert found.attempt_count == result.attempt_count
    rest, _, csv_end = unpack_parts(packed)
    assert csv_end.decode() == csv_record(result_cells(result_values(orjson.loads(rest))))


def test_a_mark_without_an_older_result() -> None:
    """A turn that was never asked: no attempt, nothing known, no step."""
    rest, told_steps, csv_end = unpack_parts(b"!previous_turn\n")
    assert csv_end == b",previous_turn,0,,,,,,,,[],[]"
    assert told_steps == b"[]"
    assert orjson.loads(rest)["status"] == "failed"
    assert result_of(unpack_result(3, b"!previous_turn\n")).row == 3


def test_a_result_takes_few_bytes() -> None:
    """One run with two steps, 1,200 bytes of JSON: 280 bytes at most."""
    chance = random.Random(3)
    sizes = [len(pack_result(computed(row, chance))) for row in range(1, 101)]
    assert sum(sizes) / len(sizes) < 280


def test_the_dictionary_belongs_to_the_layout() -> None:
    """Stored results cannot be read with another one: who changes it raises SCHEMA_VERSION."""
    digest = hashlib.sha256((files("askmill.jobs.store") / "result.zdict").read_bytes()).hexdigest()
    assert (SCHEMA_VERSION, digest[:16]) == (2, "2fe012175a8424db")
