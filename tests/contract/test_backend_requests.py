"""What a profile becomes on the wire is what OpenAI's own description of its API allows, for any profile."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.api import unsupported
from jobs.profile import FileSearch, Functions, FunctionTool, OpeningMessage, Profile, Resources
from tests.openapi import needs_description, validate_request
from worker.backends.base import Ask
from worker.backends.requests import (
    assistant_params,
    conversation_params,
    response_params,
    response_question,
    run_params,
    thread_params,
)

SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
maybe = st.none
words = st.text(min_size=1, max_size=20)
limits = maybe() | st.integers(256, 100_000)
functions = maybe() | st.builds(
    Functions,
    module=st.just("weather"),
    sha256=st.just("0" * 64),
    tools=st.lists(
        st.builds(
            FunctionTool,
            name=st.from_regex(r"[a-z_]{1,20}", fullmatch=True),
            description=words,
            parameters=st.just({}) | st.just(SCHEMA),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
search = st.builds(
    FileSearch,
    max_num_results=maybe() | st.integers(1, 50),
    score_threshold=maybe() | st.floats(0, 1),
)
opening = st.builds(OpeningMessage, role=st.sampled_from(["user", "assistant"]), content=words)
profiles = st.builds(
    Profile,
    name=maybe() | words,
    description=maybe() | words,
    model=st.just("gpt-5-mini"),
    instructions=maybe() | words,
    tools=st.lists(st.sampled_from(["code_interpreter", "file_search", "web_search"]), unique=True).map(
        tuple
    ),
    functions=functions,
    file_search=search,
    image_detail=st.sampled_from(["auto", "low", "high"]),
    max_prompt_tokens=limits,
    max_completion_tokens=limits,
    truncation=st.sampled_from([None, "auto", "disabled", "last_messages:3"]),
    response_schema=st.sampled_from([None, SCHEMA, {"name": "mine", "schema": SCHEMA, "strict": False}]),
    temperature=maybe() | st.floats(0, 2),
    top_p=maybe() | st.floats(0, 1),
    reasoning_effort=st.sampled_from([None, "none", "minimal", "low", "medium", "high", "xhigh"]),
    tool_choice=st.sampled_from([None, "none", "auto", "required", "file_search", "get_weather"]),
    parallel_tool_calls=maybe() | st.booleans(),
    metadata=st.dictionaries(words, words, max_size=3),
    messages=st.lists(opening, max_size=3).map(tuple),
    assistant_id=maybe() | st.just("asst_7"),
    service_tier=st.sampled_from([None, "auto", "default", "flex", "priority"]),
)
resources = st.builds(
    Resources,
    code_interpreter_files=st.sampled_from([(), ("file-1",)]),
    vector_store_id=st.sampled_from([None, "vs_1"]),
    row_files=st.just({"a.csv": "file-2", "b.png": "file-3"}),
)


def said_for(api):
    return profiles.filter(lambda profile: not unsupported(profile, api))


def ask_of(draw, profile):
    return Ask(
        batch="b_1",
        row=7,
        attempt=1,
        question="Why?",
        profile=profile,
        resources=draw(resources),
        assistant_id="asst_7",
        image=draw(st.sampled_from([None, "https://example.com/a.png", "b.png"])),
        file=draw(st.sampled_from([None, "a.csv"])),
        follow_up=draw(st.booleans()),
    )


patient = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class TestRequests:
    """Against ../shared/data/openai-openapi.yaml."""

    pytestmark = needs_description

    @patient
    @given(st.data())
    def test_of_the_assistants_api(self, data):
        """Assistant, thread and run."""
        profile = data.draw(said_for("assistants"))
        ask = ask_of(data.draw, profile)
        validate_request("POST", "/assistants", assistant_params(profile, ask.resources))
        validate_request("POST", "/threads", thread_params(ask))
        validate_request("POST", "/threads/thread_1/runs", run_params(ask))

    @patient
    @given(st.data())
    def test_of_the_responses_api(self, data):
        """Conversation, response, and the response that brings functions' outputs."""
        profile = data.draw(said_for("responses"))
        ask = ask_of(data.draw, profile)
        validate_request("POST", "/conversations", conversation_params(ask))
        params = response_params(ask, "conv_1")
        validate_request("POST", "/responses", {**params, "input": response_question(ask)})
        given_back = [{"type": "function_call_output", "call_id": "call_1", "output": "rain"}]
        validate_request("POST", "/responses", {**params, "input": given_back})


@pytest.mark.parametrize(
    ("api", "change", "named"),
    [
        ("assistants", {"tools": ("web_search",)}, "web_search"),
        ("assistants", {"truncation": "disabled"}, "truncation disabled"),
        ("assistants", {"service_tier": "flex"}, "service_tier"),
        ("assistants", {"completion_window": "2h"}, "completion_window"),
        ("responses", {"assistant_id": "asst_1"}, "stored assistants"),
        ("responses", {"max_prompt_tokens": 300}, "max_prompt_tokens"),
        ("responses", {"truncation": "last_messages:3"}, "last_messages"),
        ("responses", {"completion_window": "8h", "service_tier": "flex"}, "completion_window"),
        ("responses", {"metadata": {str(n): "x" for n in range(12)}}, "metadata"),
        ("assistants", {"metadata": {str(n): "x" for n in range(14)}}, "metadata"),
    ],
)
def test_what_an_api_cannot_do_is_said_before(api, change, named):
    """One sentence a reason, which names the field; the other API may well do it."""
    (reason,) = unsupported(Profile(model="gpt-5-mini", **change), api)
    assert named in reason


def test_a_plain_profile_suits_both():
    """Nothing to object to."""
    assert unsupported(Profile(model="gpt-5-mini"), "assistants") == []
    assert unsupported(Profile(model="gpt-5-mini"), "responses") == []


def test_our_metadata_wins_and_fits():
    """A profile cannot pass for another batch's run, and 16 pairs are never exceeded."""
    mine = {"askmill_batch": "b_other", **{str(n): "x" for n in range(10)}}
    ask = Ask(batch="b_1", row=1, attempt=1, question="?", profile=Profile(metadata=mine))
    assert ask.metadata["askmill_batch"] == "b_1"
    assert len(ask.metadata) == 13
