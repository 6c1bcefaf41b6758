"""What a reply says about its charge: service tier, cached and reasoning tokens; what it leaves out stays unknown."""

from typing import Any

import pytest

from askmill.jobs.model.models import Api, Usage
from askmill.worker.backends.responses_parse import continuation_metadata, parse_run
from tests.backends.stub_server import run_request, stub_backend

RESPONSES_USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 800, "cache_write_tokens": 100},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 30},
}
CHAT_NAMES = {
    "prompt_tokens": 1000,
    "prompt_tokens_details": {"cached_tokens": 800, "cache_write_tokens": 100},
    "completion_tokens": 50,
    "completion_tokens_details": {"reasoning_tokens": 30},
}
AZURE_NAMES = {"prompt_tokens": 9, "prompt_token_details": {"cached_tokens": 4}, "completion_tokens": 1}


@pytest.mark.parametrize(
    ("api", "usage", "expected"),
    [
        ("responses", RESPONSES_USAGE, Usage(1000, 50, 800, 100, 30)),
        ("assistants", CHAT_NAMES, Usage(1000, 50, 800, 100, 30)),
        ("assistants", AZURE_NAMES, Usage(9, 1, 4)),
        ("responses", {"input_tokens": 9, "input_tokens_details": [], "output_tokens": 1}, Usage(9, 1)),
        ("responses", {"input_tokens": 9, "output_tokens_details": {"reasoning_tokens": -1}}, Usage(9)),
        ("assistants", {"prompt_tokens": 9, "completion_tokens": 1}, Usage(9, 1)),
    ],
)
async def test_a13_cached_and_reasoning_tokens_are_read_where_the_api_reports_them(
    api: Api, usage: dict[str, Any], expected: Usage
) -> None:
    """Unknown counts stay None, never 0."""
    reply = {"id": "7", "status": "completed", "usage": usage}
    routes = {"GET /threads/t/runs/7": reply, "GET /responses/7": reply}
    async with stub_backend(routes, api) as (backend, _):
        assert (await backend.poll_run(run_request(), "t", "7")).usage == expected


@pytest.mark.parametrize(
    ("named", "tier"),
    [("flex", "flex"), ("Default", "default"), (None, None), (7, None), ("a,b+c", None), ("x" * 40, None)],
)
@pytest.mark.parametrize("api", ["assistants", "responses"])
async def test_a13_the_service_tier_is_read_from_the_reply(api: Api, named: Any, tier: str | None) -> None:
    """A word of at most 32 characters; anything else is unknown."""
    reply = {"id": "7", "status": "completed", "service_tier": named}
    routes = {"GET /threads/t/runs/7": reply, "GET /responses/7": reply}
    async with stub_backend(routes, api) as (backend, _):
        assert (await backend.poll_run(run_request(), "t", "7")).tier == tier


def test_a13_a_run_of_several_responses_sums_what_each_reports() -> None:
    """Counts are added, tiers joined, and the longest prompt is kept: prices depend on each request's length."""
    first = {"id": "r1", "status": "completed", "service_tier": "flex", "usage": RESPONSES_USAGE}
    second = {"id": "r2", "status": "completed", "service_tier": "default", "usage": {"input_tokens": 1200}}
    third = {**first, "id": "r3"}
    run = parse_run(first)
    for response in (second, third):
        run = parse_run({**response, "metadata": continuation_metadata(run)})

    assert run.usage == Usage(3200, 100, 1600, 200, 60, longest_prompt_tokens=1200)
    assert run.tier == "flex+default"


def test_metadata_of_an_earlier_version_is_read() -> None:
    """A run in flight during an update of the worker: its metadata has two counts."""
    metadata = {"askmill_previous": "r1", "askmill_spent": "10,5"}
    run = parse_run({"id": "r2", "status": "completed", "metadata": metadata, "usage": RESPONSES_USAGE})
    assert (run.usage.prompt_tokens, run.usage.completion_tokens, run.tier) == (1010, 55, None)
