"""Request, reply and error types, and the table that finds the handler of a request.

Paths alternate between a literal and an id (`/threads/ID/runs/ID/cancel`), so the literals alone identify
a route: finding it is one dictionary lookup, whatever the number of routes.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import orjson

APPLICATION_JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
Json = dict[str, Any]


class ApiError(Exception):
    """An error reply of the API; becomes `{"error": {...}}`."""

    page = ""
    """Sent in place of the object: a firewall in front of the API answers with a page."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.headers = headers


class ConnectionLostError(Exception):
    """The server dies in the middle of a reply: the connection is closed without an end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole HTTP answer."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = APPLICATION_JSON


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer sent piece by piece, such as server-sent events; each piece is already encoded.

    An ApiError before the first piece becomes a reply of its own, ConnectionLostError closes the connection.
    `lazy`: the request is carried out while the pieces are read.
    """

    events: AsyncGenerator[bytes, None]
    content_type: bytes = EVENT_STREAM
    lazy: bool = False


class Request:
    """One request, decoded on demand. `now`: Unix seconds, when it is carried out."""

    __slots__ = ("_query", "body", "headers", "ids", "method", "now", "path", "query_string")

    def __init__(self, method: str, path: str, query_string: bytes) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.ids: tuple[str, ...] = ()
        self.now = 0.0
        self._query: dict[str, list[str]] | None = None

    @property
    def query(self) -> dict[str, list[str]]:
        if self._query is None:
            self._query = parse_qs(self.query_string.decode()) if self.query_string else {}
        return self._query

    def argument(self, name: str) -> str | None:
        """The last value of a query argument, or None."""
        values = self.query.get(name)
        return values[-1] if values else None

    def arguments(self, name: str) -> list[str]:
        """All values of a list argument, sent as `name[]=` (the SDK) or `name=`."""
        return self.query.get(f"{name}[]", []) + self.query.get(name, [])

    def json(self) -> Json:
        """The body as an object; an empty body is an empty object. ApiError 400 when it is not JSON."""
        if not self.body:
            return {}
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise unparsable() from None
        if not isinstance(value, dict):
            raise unparsable()
        return value


def unparsable() -> ApiError:
    """A body that is no JSON object."""
    return ApiError(
        400,
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your "
        "HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid "
        "JSON. If you have trouble figuring out how to fix this, please contact us through our help center "
        "at help.openai.com.)",
    )


Result = Json | Reply | Stream
Handler = Callable[[Request], Result | Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class Route:
    """`path` as in OpenAI's description, without `/v1`: `/threads/{thread_id}/runs`.

    `abortable`: the request is given up when its client disconnects.
    """

    method: str
    path: str
    handler: Handler
    beta: bool = False
    abortable: bool = False
    name: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.method} {self.path}")


class Routes:
    """Finds the route of a path below `/v1`."""

    def __init__(self, routes: list[Route]) -> None:
        self._exact = {(r.method, r.path): r for r in routes if "{" not in r.path}
        self._shapes = {(r.method, *_shape(r.path)): r for r in routes if "{" in r.path}
        self._paths = {r.path for r in routes if "{" not in r.path}
        self._shapes_of_any_method = {_shape(r.path) for r in routes if "{" in r.path}

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact, ()
        parts = path.split("/")[1:]
        route = self._shapes.get((method, len(parts), *parts[0::2]))
        return None if route is None else (route, tuple(parts[1::2]))

    def has_path(self, path: str) -> bool:
        """Whether any method is served at this path."""
        return path in self._paths or _shape(path) in self._shapes_of_any_method


def _shape(path: str) -> tuple[Any, ...]:
    parts = path.split("/")[1:]
    return (len(parts), *parts[0::2])


def json_bytes(value: Any) -> bytes:
    """JSON as it is sent and stored."""
    return orjson.dumps(value)
