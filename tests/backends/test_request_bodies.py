"""Request bodies are valid by OpenAI's description of its API, for any profile."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askmill.jobs.model.profile import FileSearch, Functions, FunctionTool, OpeningMessage, Profile, Resources
from askmill.jobs.openai_client.capabilities import unsupported
from askmill.jobs.openai_client.params import assistant_params
from askmill.worker.backends.base import RunRequest
from askmill.worker.backends.request_body import (
    conversation_params,
    response_params,
    response_question,
    run_params,
    thread_params,
)
from tests.helpers.openapi import needs_description, validate_request

SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
PLAIN = Profile(model="gpt-5-mini")
texts = st.text(min_size=1, max_size=20)
limits = st.none() | st.integers(256, 100_000)
functions = st.none() | st.builds(
    Functions,
    module=st.just("weather"),
    sha256=st.just("0" * 64),
    tools=st.lists(
        st.builds(
            FunctionTool,
            name=st.from_regex(r"[a-z_]{1,20}", fullmatch=True),
            description=texts,
            parameters=st.just({}) | st.just(SCHEMA),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
search = st.builds(
    FileSearch,
    max_num_results=st.none() | st.integers(1, 50),
    score_threshold=st.none() | st.floats(0, 1),
)
opening = st.builds(OpeningMessage, role=st.sampled_from(["user", "assistant"]), content=texts)
profiles = st.builds(
    Profile,
    name=st.none() | texts,
    description=st.none() | texts,
    model=st.just("gpt-5-mini"),
    instructions=st.none() | texts,
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
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    reasoning_effort=st.sampled_from([None, "none", "minimal", "low", "medium", "high", "xhigh"]),
    tool_choice=st.sampled_from([None, "none", "auto", "required", "file_search", "get_weather"]),
    parallel_tool_calls=st.none() | st.booleans(),
    metadata=st.dictionaries(texts, texts, max_size=3),
    messages=st.lists(opening, max_size=3).map(tuple),
    assistant_id=st.none() | st.just("asst_7"),
    service_tier=st.sampled_from([None, "auto", "default", "flex", "priority"]),
)
resources = st.builds(
    Resources,
    code_interpreter_files=st.sampled_from([(), ("file-1",)]),
    vector_store_id=st.sampled_from([None, "vs_1"]),
    row_files=st.just({"a.csv": "file-2", "b.png": "file-3"}),
)


def supported_profiles(api):
    return profiles.filter(lambda profile: not unsupported(profile, api))


def request_of(draw, profile):
    return RunRequest(
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


thorough = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class TestValidity:
    """Against ../shared/data/openai-openapi.yaml."""

    pytestmark = needs_description

    @thorough
    @given(st.data())
    def test_of_the_assistants_api(self, data):
        """Assistant, thread and run."""
        profile = data.draw(supported_profiles("assistants"))
        request = request_of(data.draw, profile)
        validate_request("POST", "/assistants", assistant_params(profile, request.resources))
        validate_request("POST", "/threads", thread_params(request))
        validate_request("POST", "/threads/thread_1/runs", run_params(request))

    @thorough
    @given(st.data())
    def test_of_the_responses_api(self, data):
        """Conversation, response, and the response that brings functions' outputs."""
        profile = data.draw(supported_profiles("responses"))
        request = request_of(data.draw, profile)
        validate_request("POST", "/conversations", conversation_params(request))
        params = response_params(request, "conv_1")
        validate_request("POST", "/responses", {**params, "input": response_question(request)})
        outputs = [{"type": "function_call_output", "call_id": "call_1", "output": "rain"}]
        validate_request("POST", "/responses", {**params, "input": outputs})


@pytest.mark.parametrize(
    ("api", "change", "field"),
    [
        ("assistants", {"tools": ("web_search",)}, "web_search"),
        ("assistants", {"truncation": "disabled"}, "truncation disabled"),
        ("assistants", {"service_tier": "flex"}, "service_tier"),
        ("assistants", {"completion_window": "2h"}, "completion_window"),
        ("responses", {"assistant_id": "asst_1"}, "stored assistants"),
        ("responses", {"max_prompt_tokens": 300}, "max_prompt_tokens"),
        ("responses", {"truncation": "last_messages:3"}, "last_messages"),
        ("responses", {"completion_window": "8h", "service_tier": "flex"}, "completion_window"),
        ("responses", {"max_completion_tokens": 15}, "max_completion_tokens"),
        ("responses", {"extra_body": {"top_k": 1}}, "extra_body"),
        ("assistants", {"stream": False}, "stream"),
        ("chat", {"tools": ("code_interpreter",)}, "code_interpreter"),
        ("chat", {"assistant_id": "asst_1"}, "stored assistants"),
        ("chat", {"max_prompt_tokens": 300}, "max_prompt_tokens"),
        ("chat", {"truncation": "auto"}, "truncation"),
        ("chat", {"completion_window": "2h"}, "completion_window"),
        ("chat", {"extra_body": {"messages": []}}, "messages"),
        ("responses", {"metadata": {str(n): "x" for n in range(12)}}, "metadata"),
        ("assistants", {"metadata": {str(n): "x" for n in range(14)}}, "metadata"),
    ],
)
def test_unsupported_fields_are_named(api, change, field):
    """One sentence per reason, with the field's name. The other API may support it."""
    (reason,) = unsupported(Profile(model="gpt-5-mini", **change), api)
    assert field in reason


def test_a_plain_profile_is_supported_by_all():
    """No reasons."""
    assert unsupported(Profile(model="gpt-5-mini"), "assistants") == []
    assert unsupported(Profile(model="gpt-5-mini"), "responses") == []
    assert unsupported(Profile(model="gpt-5-mini"), "chat") == []


def test_askmill_metadata_wins_and_fits():
    """A profile cannot pretend to be another batch, and 16 pairs are never exceeded."""
    metadata = {"askmill_batch": "b_other", **{str(n): "x" for n in range(10)}}
    request = RunRequest(batch="b_1", row=1, attempt=1, question="?", profile=Profile(metadata=metadata))
    assert request.metadata["askmill_batch"] == "b_1"
    assert len(request.metadata) == 13


FULL_PROFILE = Profile(
    name="Tutor",
    model="gpt-5-mini",
    instructions="Be brief.",
    tools=("code_interpreter", "file_search"),
    functions=Functions(module="m", sha256="0" * 64, tools=(FunctionTool(name="f", description="F."),)),
    file_search=FileSearch(max_num_results=3, score_threshold=0.5),
    max_completion_tokens=512,
    response_schema=SCHEMA,
    temperature=0.5,
    top_p=0.9,
    reasoning_effort="low",
    tool_choice="f",
    parallel_tool_calls=False,
    messages=(OpeningMessage(role="user", content="Hi."),),
)
EMPTY_SCHEMA = {"type": "object", "properties": {}}
SEARCH = {"max_num_results": 3, "ranking_options": {"ranker": "auto", "score_threshold": 0.5}}
METADATA = {"askmill_batch": "b_1", "askmill_row": "7", "askmill_attempt": "1"}
FULL_REQUEST = RunRequest(
    batch="b_1",
    row=7,
    attempt=1,
    question="Why?",
    profile=FULL_PROFILE,
    resources=Resources(
        code_interpreter_files=("file-1",),
        vector_store_id="vs_1",
        row_files={"a.csv": "file-2", "b.png": "file-3"},
    ),
    assistant_id="asst_7",
    image="b.png",
    file="a.csv",
    max_completion_tokens=1024,
    follow_up=True,
)


def test_a_full_assistants_request():
    """The attempt's raised limit wins. The assistant has tools and files, the run the rest."""
    profile = FULL_PROFILE.model_copy(update={"truncation": "last_messages:4", "max_prompt_tokens": 300})
    sampling = {
        "temperature": 0.5,
        "top_p": 0.9,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
        },
    }
    assert assistant_params(profile, FULL_REQUEST.resources) == {
        "model": "gpt-5-mini",
        "name": "Tutor",
        "instructions": "Be brief.",
        "tools": [
            {"type": "code_interpreter"},
            {"type": "file_search", "file_search": SEARCH},
            {"type": "function", "function": {"name": "f", "description": "F.", "parameters": EMPTY_SCHEMA}},
        ],
        "tool_resources": {
            "code_interpreter": {"file_ids": ["file-1"]},
            "file_search": {"vector_store_ids": ["vs_1"]},
        },
        "metadata": {"askmill_profile": profile.sha256()},
        **sampling,
    }
    image = {"type": "image_file", "image_file": {"file_id": "file-3", "detail": "auto"}}
    question = {
        "role": "user",
        "content": [{"type": "text", "text": "Why?"}, image],
        "attachments": [
            # file_search reads no CSV.
            {"file_id": "file-2", "tools": [{"type": "code_interpreter"}]}
        ],
    }
    request = replace(FULL_REQUEST, profile=profile)
    assert thread_params(request) == {
        "messages": [{"role": "user", "content": "Hi."}, question],
        "metadata": METADATA,
    }
    assert run_params(request) == {
        "assistant_id": "asst_7",
        "model": "gpt-5-mini",
        "instructions": "Be brief.",
        "additional_messages": [question],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "max_prompt_tokens": 300,
        "max_completion_tokens": 1024,
        "truncation_strategy": {"type": "last_messages", "last_messages": 4},
        "metadata": METADATA,
        **sampling,
    }


def test_a_full_responses_request():
    """The row's file joins the profile's in the container."""
    profile = FULL_PROFILE.model_copy(
        update={"truncation": "auto", "service_tier": "default", "completion_window": "2h"}
    )
    request = replace(FULL_REQUEST, profile=profile)
    assert conversation_params(request) == {
        "items": [{"type": "message", "role": "user", "content": "Hi."}],
        "metadata": METADATA,
    }
    assert response_params(request, "conv_1") == {
        "model": "gpt-5-mini",
        "instructions": "Be brief.",
        "conversation": "conv_1",
        "background": True,
        "store": True,
        "background_options": {"completion_window": "2h"},
        "metadata": METADATA,
        "max_output_tokens": 1024,
        "temperature": 0.5,
        "top_p": 0.9,
        "tools": [
            {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1", "file-2"]}},
            {"type": "file_search", "vector_store_ids": ["vs_1"], **SEARCH},
            {
                "type": "function",
                "strict": False,
                "name": "f",
                "description": "F.",
                "parameters": EMPTY_SCHEMA,
            },
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}},
        "truncation": "auto",
        "service_tier": "default",
        "include": ["code_interpreter_call.outputs", "file_search_call.results"],
    }
    (message,) = response_question(request)
    assert message["content"] == [
        {"type": "input_text", "text": "Why?"},
        {"type": "input_image", "detail": "auto", "file_id": "file-3"},
    ]
    without_tools = replace(request, profile=PLAIN)
    assert response_question(without_tools)[0]["content"][-1] == {"type": "input_file", "file_id": "file-2"}


def test_a_stored_assistant_keeps_its_own_settings():
    """Only what the profile sets overrides it. Tools go with the run, files with the thread."""
    stored = replace(
        FULL_REQUEST, profile=Profile(assistant_id="asst_7"), image=None, file=None, follow_up=False
    )
    assert run_params(replace(stored, max_completion_tokens=None)) == {
        "assistant_id": "asst_7",
        "metadata": METADATA,
    }
    with_tools = replace(stored, profile=Profile(assistant_id="asst_7", tools=("code_interpreter",)))
    assert run_params(with_tools)["tools"] == [{"type": "code_interpreter"}]
    assert thread_params(with_tools)["tool_resources"]["code_interpreter"] == {"file_ids": ["file-1"]}
