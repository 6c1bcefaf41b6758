"""16.3: which API a server offers is found out with reads alone, and by the API's own shape."""

import pytest

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.find_offer import Offer, find_offer, models_text, require_offer
from tests.backends.stub_server import StubServer, serving
from tests.helpers.chat_servers import (
    CHAT_SERVERS,
    CONVERSATION_PATH,
    FASTAPI,
    MODELS,
    NO_STORE,
    RESPONSE_PATH,
    WEB_PAGE,
    ChatServer,
)

ASSISTANTS = {"object": "list", "data": [{"id": "asst_1", "object": "assistant"}]}
STORED = {
    f"GET {RESPONSE_PATH}": (404, {"error": NO_STORE}),
    f"GET {CONVERSATION_PATH}": (404, {"error": {"message": "Conversation 'conv_askmill_doctor' not found"}}),
}


async def offer_of(server: StubServer, *, first: bool = False) -> Offer:
    async with serving(server) as url, make_client("k", url) as client:
        return await find_offer(client, first=first)


@pytest.mark.parametrize("name", CHAT_SERVERS)
async def test_a_chat_server_is_found_without_a_paid_request(name: str) -> None:
    """Whatever it answers to paths of other APIs; only GET is sent."""
    server = CHAT_SERVERS[name].server()
    assert (await offer_of(server)).apis == ("chat",)
    assert {request.split()[0] for request in server.request_names} == {"GET"}


@pytest.mark.parametrize(
    ("routes", "apis"),
    [
        ({"GET /assistants": ASSISTANTS}, ("assistants",)),
        ({"GET /assistants": {"object": "list", "data": []}}, ("assistants",)),
        ({"GET /assistants": {"data": ASSISTANTS["data"]}}, ("assistants",)),
        (STORED, ("responses",)),
        (
            {"GET /assistants": ASSISTANTS, **STORED, "GET /models": MODELS},
            ("assistants", "responses", "chat"),
        ),
        ({"GET /assistants": MODELS}, ()),
        ({"GET /assistants": {"data": []}}, ()),
        ({"GET /models": {"object": "page", "data": []}}, ()),
    ],
)
async def test_an_api_counts_by_its_own_shape(routes: dict[str, object], apis: tuple[Api, ...]) -> None:
    """A list of something else is no list of assistants."""
    assert (await offer_of(ChatServer(routes=routes, default=FASTAPI))).apis == apis


async def test_the_first_api_ends_the_search() -> None:
    """At submit one request is enough for a server of the Assistants API."""
    server = ChatServer(routes={"GET /assistants": ASSISTANTS}, default=FASTAPI)
    assert (await offer_of(server, first=True)).apis == ("assistants",)
    assert server.request_names == ["GET /assistants"]


async def test_a_busy_moment_does_not_choose_another_api() -> None:
    """A 503 shows nothing about what the server has: the request is repeated."""
    replies = [(503, {"error": {"message": "upstream"}}), (200, ASSISTANTS)]
    server = ChatServer(routes={"GET /assistants": lambda _: replies.pop(0), "GET /models": MODELS})
    assert (await offer_of(server, first=True)).apis == ("assistants",)


async def test_a_web_page_is_refused_with_what_was_asked_and_what_came() -> None:
    """The sentence has each request and reply, and what to set."""
    async with serving(ChatServer(default=WEB_PAGE)) as url, make_client("k", url) as client:
        with pytest.raises(ApiUnavailable) as raised:
            await require_offer(client)
    message = str(raised.value)
    for path in ("/assistants", RESPONSE_PATH, "/models", "/chat/completions"):
        assert f"GET /v1{path}: 200 <!DOCTYPE html>" in message
    assert url in message
    assert "OPENAI_BASE_URL" in message
    assert "ASKMILL_API" in message


@pytest.mark.parametrize("default", [FASTAPI, "404 page not found", (200, {"error": "Unexpected endpoint"})])
async def test_chat_completions_are_assumed_where_no_api_shows_itself(default: object) -> None:
    """A gateway may have the one path that is not asked for; nothing but reads is sent."""
    async with serving(server := ChatServer(default=default)) as url, make_client("k", url) as client:
        offer = await require_offer(client)
    assert (offer.apis, offer.assumed) == (("chat",), True)
    assert {name.split()[0] for name in server.request_names} == {"GET"}


async def test_an_address_without_v1_is_completed() -> None:
    """The usual slip with Ollama: the address of the server, not of its API."""

    class Below(ChatServer):
        async def reply(self, request):
            if request.path.startswith("/v1/"):
                return await super().reply(request)
            return await ChatServer(default="404 page not found").reply(request)

    async with serving(Below(routes={"GET /models": MODELS}, default="404 page not found")) as url:
        root = url.removesuffix("/v1")
        async with make_client("k", root) as client:
            with pytest.raises(ApiUnavailable, match=f"set OPENAI_BASE_URL={root}/v1"):
                await require_offer(client)


@pytest.mark.parametrize(
    ("default", "words"),
    [
        ((401, {"error": {"message": "Unauthorized"}}), "refuses the key"),
        ((401, {"error": "Unauthorized"}), "refuses the key"),
        ((403, {"error": {"message": "Forbidden"}}), "forbids this"),
        ((500, {"error": {"message": "boom"}}), "is in trouble"),
    ],
)
async def test_a_refusal_of_every_request_is_told_as_such(default: object, words: str) -> None:
    """vLLM with `--api-key` refuses a missing key on all paths, with a bare string."""
    async with serving(ChatServer(default=default)) as url, make_client(None, url) as client:
        with pytest.raises(ApiUnavailable, match=words):
            await require_offer(client)


async def test_a_server_that_does_not_answer_is_named() -> None:
    """The address, not an error of the SDK."""
    url = f"http://{HOST}:{free_port()}/v1"
    async with make_client("k", url) as client:
        with pytest.raises(ApiUnavailable, match=f"The API at {url} does not answer"):
            await require_offer(client)


def test_few_models_are_shown() -> None:
    """A router lists hundreds."""
    assert models_text(["a", "b"]) == "a, b"
    assert models_text([str(number) for number in range(300)]) == "0, 1, 2, 3, 4 and 295 more"
