"""How servers of chat completions answer reads of what they have and have not.

Sources: the servers' code and documentation as of 2026-11 (docs/apis.md, "Servers that differ").
"""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.backends.stub_server import StubServer

MODELS = {"object": "list", "data": [{"id": "llama3.2:latest", "object": "model", "owned_by": "library"}]}
RESPONSE_PATH, CONVERSATION_PATH = "/responses/resp_askmill_doctor", "/conversations/conv_askmill_doctor"
FASTAPI = (404, {"detail": "Not Found"})
WEB_PAGE = (200, b"<!DOCTYPE html><title>Welcome</title>")
LOADING = (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})


@dataclass
class ChatServer(StubServer):
    """A server with `default` as its reply to every path that is not in its routes."""

    default: Any = None

    async def reply(self, request: web.Request) -> web.StreamResponse:
        name = f"{request.method} {request.path.removeprefix('/v1')}"
        if name in self.routes or self.default is None:
            return await super().reply(request)
        self.requests.append((name, None))
        if isinstance(self.default, str):
            return web.Response(status=404, text=self.default)
        status, data = self.default
        if isinstance(data, bytes):
            return web.Response(status=status, body=data, content_type="text/html")
        words = str(request.path)
        if isinstance(data, dict) and "PATH" in str(data.get("error")):
            data = {"error": data["error"].replace("PATH", f"{request.method} {words}")}
        return web.json_response(data, status=status)


@dataclass(frozen=True)
class Manners:
    """A server's `routes`, and its `default` for all other paths."""

    default: Any
    routes: dict[str, Any] = field(default_factory=dict)

    def server(self, **more: Any) -> ChatServer:
        return ChatServer(routes={**self.routes, **more}, default=self.default)


NO_STORE = {"message": "Response with id 'resp_askmill_doctor' not found.", "type": "invalid_request_error"}
CHAT_SERVERS = {
    "Ollama": Manners("404 page not found", {"GET /models": MODELS}),
    "Ollama without a model": Manners(
        "404 page not found", {"GET /models": {"object": "list", "data": None}}
    ),
    "vLLM without its store": Manners(
        (404, {"error": {"message": "Not Found", "type": "Not Found", "param": None, "code": 404}}),
        {
            "GET /models": MODELS,
            f"GET {RESPONSE_PATH}": (404, {"error": {**NO_STORE, "param": "response_id", "code": 404}}),
        },
    ),
    "llama.cpp": Manners(
        (404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}),
        {"GET /models": {**MODELS, "models": [{"name": "llama3.2"}]}},
    ),
    "llama.cpp while it loads": Manners(LOADING),
    "LM Studio": Manners((200, {"error": "Unexpected endpoint or method. (PATH)"}), {"GET /models": MODELS}),
    "LiteLLM": Manners(
        FASTAPI,
        {
            "GET /assistants": (500, {"error": {"message": "No assistants", "type": "None", "code": "500"}}),
            f"GET {RESPONSE_PATH}": (500, {"error": {"message": "no resp_askmill_doctor", "code": "500"}}),
            "GET /models": MODELS,
        },
    ),
    "OpenRouter": Manners(
        "<!DOCTYPE html><title>Not Found</title>", {"GET /models": {"data": [{"id": "a/b"}]}}
    ),
    "Gemini": Manners(
        (404, [{"error": {"code": 404, "message": "Not found.", "status": "NOT_FOUND"}}]),
        {"GET /models": MODELS},
    ),
    "Together": Manners("not found", {"GET /models": [{"id": "a/b", "object": "model"}]}),
    "a gateway that repeats the path": Manners(
        (404, {"error": "no route for PATH"}), {"GET /models": MODELS}
    ),
    "a FastAPI server without a list of models": Manners(
        FASTAPI, {"GET /chat/completions": (405, {"detail": "Method Not Allowed"})}
    ),
}
"""Servers that have chat completions and not the whole of another API."""
