"""Tiers on the page and in the HTTP API: one select, one field, and the price of each tier before anything is asked."""

import re
from html import unescape

import httpx2
import pytest

from askmill.jobs.model.api_target import Target
from askmill.jobs.model.tiers import TIERS
from askmill.jobs.store import Store
from askmill.web.context import Web

CSV = {"file": ("q.csv", b"question\nWhy?\nHow?\n")}


@pytest.fixture
def responses(web: Web) -> Web:
    """The server's API is Responses, at an address where nobody answers."""
    web.target = Target("responses", "http://127.0.0.1:9/v1", None, offline=False)
    return web


async def test_the_field_is_the_profiles_service_tier(
    client: httpx2.AsyncClient, store: Store, responses: Web
) -> None:
    """As `--tier`, with its fallback; what does not go together is refused in the command line's words."""
    fields = {"model": "gpt-5-mini", "tier": "flex", "tier_fallback": "standard"}
    reply = await client.post("/api/batches", files=CSV, data=fields)
    assert reply.status_code == 201, reply.text
    stored = await store.batch(reply.json()["batch"])
    assert (stored.profile.service_tier, stored.limits.tier_fallback) == ("flex", "standard")
    status = (await client.get(f"/api/batches/{stored.id}")).json()
    assert (status["tier"], status["tier_fallbacks"]) == ("flex", 0)

    for wrong, words in (
        ({"tier": "batch", "deadline": "60"}, "Leave --deadline out"),
        ({"tier_fallback": "standard"}, "give --tier flex"),
        ({"tier": "cheap"}, "flex"),
    ):
        refused = await client.post("/api/batches", files=CSV, data={"model": "gpt-5-mini", **wrong})
        assert refused.status_code == 422
        assert words in refused.text


async def test_the_page_shows_every_tier_and_offers_the_choice(
    client: httpx2.AsyncClient, responses: Web
) -> None:
    """A row for each tier with cost and end; the select has the tiers, and the one that was chosen."""
    draft = (await client.post("/new", files=CSV)).headers["location"]
    action = {"action": "check", "model": "gpt-5-mini", "tier": "flex"}
    page = await client.post(draft, data=action, headers={"Origin": "http://127.0.0.1:8765"})
    assert page.status_code == 200
    text = unescape(page.text)
    select = re.search(r'<select id="o-tier".*?</select>', text, re.DOTALL)
    assert select is not None
    assert all(f">{tier}</option>" in select[0] for tier in TIERS)
    assert "<option selected>flex" in select[0]
    rows = re.findall(r'<th scope="row">(.*?)</th>.*?<td>(.*?)</td></tr>', text)
    assert [tier for tier, _ in rows] == [
        "standard", 'flex <span class="badge">selected</span>', "2h window", "8h window", "priority", "batch",
    ]  # fmt: skip
    assert rows[-1][1] == "within 24 hours"
