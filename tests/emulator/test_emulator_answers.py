"""What runs say: limits cut and pieces join, schemas are met, the best passage is found."""

import asyncio
from dataclasses import dataclass
from typing import Any

import jsonschema
import orjson
from hypothesis import given
from hypothesis import strategies as st

from askmill.emulator.resources.run_events import split_text
from askmill.emulator.simulation.answer import compose_answer, count_tokens, truncate_text
from askmill.emulator.simulation.directives import Outcome, parse_outcome
from askmill.emulator.simulation.file_search import Passage, find_passages, split_passages
from askmill.emulator.simulation.prompt import Prompt, Turn, current_question
from askmill.emulator.simulation.samples import invalid_object, sample_object


@dataclass(frozen=True)
class TutorReply:
    text: str = "The answer is 42, of course."
    code: str | None = "print(6 * 7)"
    logs: str | None = "42"


@given(st.text(max_size=300), st.integers(0, 100))
def test_a_cut_text_keeps_within_its_limit(text: str, limit: int) -> None:
    """What is left is a beginning of the text and has at most so many tokens."""
    piece = truncate_text(text, limit)
    assert text.startswith(piece)
    assert count_tokens(piece) <= limit


@given(st.text(max_size=200))
def test_a_streamed_text_joins_to_itself(text: str) -> None:
    """The deltas of a stream are the text, character for character."""
    assert "".join(split_text(text)) == text


@given(st.lists(st.text(alphabet="ab c.", min_size=1, max_size=12), min_size=1, max_size=40).map(" ".join))
def test_continued_answers_join_to_the_whole(text: str) -> None:
    """However often an answer is cut and continued, its pieces are the answer that was to be given."""
    reply, answer_so_far = TutorReply(text=text, code=None), ""
    for _ in range(3):
        prompt = Prompt("q", answer_so_far=answer_so_far)
        (*_, piece) = compose_answer(
            prompt, parse_outcome("incomplete(max_completion_tokens)"), reply, None
        ).messages or ("",)
        answer_so_far += piece
    last = compose_answer(Prompt("q", answer_so_far=answer_so_far), Outcome(), reply, None).messages
    assert answer_so_far + "".join(last) == text


def test_going_on_is_told_from_a_new_question() -> None:
    """A request to go on after a cut answer means the question before; anything else is a question itself."""
    run_question, cut = Turn("user", "Why?"), Turn("assistant", "Because", truncated=True)
    assert current_question([run_question, cut, Turn("user", "Please continue.")]) == ("Why?", "Because")
    assert current_question([run_question, cut, Turn("user", "And when?")]) == ("And when?", "")
    assert current_question([run_question, Turn("assistant", "So."), Turn("user", "Go on!")]) == (
        "Go on!",
        "",
    )
    twice = [
        run_question,
        cut,
        Turn("user", "Go on."),
        Turn("assistant", " of", truncated=True),
        Turn("user", "Continue"),
    ]
    assert current_question(twice) == ("Why?", "Because of")


def test_a_limit_really_cuts() -> None:
    """An answer over its limit is cut there; under a raised limit it is whole."""
    long = parse_outcome("completed(long)")
    low = compose_answer(Prompt("q", max_tokens=300), long, TutorReply(), None)
    high = compose_answer(Prompt("q", max_tokens=100_000), long, TutorReply(), None)
    assert low.truncated
    assert low.completion_tokens == 300
    assert not high.truncated
    assert high.messages[0].startswith(low.messages[0])


def test_code_is_shown_only_where_the_tool_is_on() -> None:
    """Without the code_interpreter tool the tutor's answer is a plain message."""
    assert compose_answer(Prompt("q"), Outcome(), TutorReply(), None).code is None
    assert (
        compose_answer(Prompt("q", tools=("code_interpreter",)), Outcome(), TutorReply(), None).code
        == "print(6 * 7)"
    )


scalars = st.sampled_from([
    {"type": "string"}, {"type": "string", "enum": ["x", "y"]}, {"type": "string", "minLength": 40},
    {"type": "string", "maxLength": 3}, {"type": "integer"}, {"type": "integer", "minimum": 5},
    {"type": "number", "exclusiveMinimum": 1}, {"type": "number", "maximum": -4}, {"type": "boolean"},
    {"type": "number", "minimum": 0, "maximum": 1}, {"type": "integer", "minimum": 0.5, "exclusiveMaximum": 2},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01}, {"type": "integer", "multipleOf": 7, "minimum": 8},
    {"enum": [3, "z", None]}, {"type": "array", "items": {"enum": ["x", "y", "z"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "string"}, "maxItems": 0}, {"type": "array", "uniqueItems": True, "minItems": 2, "items": {"type": "integer"}},
    {"allOf": [{"type": "object", "properties": {"p": {"type": "integer"}}, "required": ["p"]}, {"required": ["p"]}]},
    {"type": "null"}, {"type": ["string", "null"]}, {"const": 7}, {"type": "string", "format": "date"},
])  # fmt: skip


def objects_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, min_size=1)
    return properties.map(
        lambda p: {"type": "object", "properties": p, "required": list(p), "additionalProperties": False}
    )


schemas = st.recursive(
    scalars,
    lambda inner: (
        objects_of(inner)
        | inner.map(lambda items: {"type": "array", "items": items, "minItems": 2})
        | st.lists(inner, min_size=1, max_size=2).map(lambda some: {"anyOf": some})
    ),
    max_leaves=6,
)


@given(objects_of(schemas))
def test_structured_answers_satisfy_their_schema(schema: dict[str, Any]) -> None:
    """Whatever structured outputs allow, the answer is valid JSON of that schema; `bad_json` is not."""
    prompt = Prompt("q", schema=schema)
    answer = compose_answer(prompt, Outcome(), TutorReply(), None)
    jsonschema.validate(orjson.loads(answer.messages[0]), schema)
    spoiled = compose_answer(prompt, parse_outcome("completed(bad_json)"), TutorReply(), None)
    assert not jsonschema.Draft202012Validator(schema).is_valid(orjson.loads(spoiled.messages[0]))


def test_references_inside_a_schema_are_followed() -> None:
    """`$defs` and `#` are resolved."""
    schema = {
        "$defs": {"n": {"type": "integer"}},
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/n"}},
    }
    assert sample_object(schema, "t") == {"n": 0}
    assert invalid_object(None) == '["unexpected"]'


def test_a_sample_depends_on_the_question() -> None:
    """An enum's value that the question names, the number that the tutor found; the same question, the same sample."""
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["refund", "bug", "praise"]}, "n": {"type": "integer"}},
    }
    assert sample_object(schema, "That is 42.", "A bug, please!") == {"kind": "bug", "n": 42}
    kinds = [sample_object(schema, "", f"question {number}")["kind"] for number in range(30)]
    assert set(kinds) == {"refund", "bug", "praise"}
    assert sample_object(schema, "", "question 7")["kind"] == kinds[7]


def test_a_recursive_schema_has_an_end() -> None:
    """A tree whose children may be empty or null gets a finite sample."""
    for children in ({"type": "array", "items": {"$ref": "#"}}, {"anyOf": [{"$ref": "#"}, {"type": "null"}]}):
        schema = {"type": "object", "properties": {"next": children}, "required": ["next"]}
        jsonschema.validate(sample_object(schema, "t"), schema)


def test_the_passage_that_shares_rare_words_comes_first() -> None:
    """Common words do not decide, rare ones do; nothing shared, nothing found."""
    passages = [
        *split_passages("f1", "sky.txt", "The sky is blue and the sea is blue.\n\nGrass is green."),
        *split_passages("f2", "towns.txt", "The capital of Fantasia is Moonville."),
    ]
    best, *_ = find_passages("What is the capital of Fantasia?", passages)
    assert best.filename == "towns.txt"
    assert 0 < best.score < 1
    assert find_passages("What is the?", passages) == ()
    assert find_passages("zebra", passages) == ()
    assert find_passages("zebra", []) == ()


def test_the_best_passage_is_the_answer() -> None:
    """A found passage is quoted with its file's name; without one the tutor speaks."""
    found = (Passage("f2", "towns.txt", "The capital is Moonville.", 0.5),)
    prompt = Prompt("q", tools=("file_search",))
    assert compose_answer(prompt, Outcome(), TutorReply(), found).messages == (
        "From towns.txt: The capital is Moonville.",
    )
    assert compose_answer(prompt, Outcome(), TutorReply(), ()).messages == (TutorReply().text,)


def test_the_tutor_fits_the_emulator() -> None:
    """The real tutor answers mathematics with code and log, and other things with a sentence."""
    from askmill.emulator.tutor import Tutor  # noqa: PLC0415 - starts a process: only here

    async def answers() -> list[Any]:
        tutor = Tutor()
        await tutor.start()
        both = [await tutor.answer(question) for question in ("What is 6 * 7?", "Who are you?")]
        await tutor.close()
        return both

    mathematics, other = asyncio.run(answers())
    assert "42" in mathematics.text
    assert mathematics.code
    assert mathematics.logs
    assert "emulator" in other.text
    assert other.code is None
