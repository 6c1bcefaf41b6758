"""Checks each request before the application sees it, and adds the headers that keep a browser safe.

Host          loopback names, addresses, or names given at the start: else a page of another name could be
              led here (DNS rebinding)
token         `Authorization: Bearer`, or a cookie that the first visit with `?token=` changes it for
Origin        of every change: the page's own
size          no body above the limit; none that does not fit on the disk
"""

import hashlib
import hmac
import ipaddress
import shutil
from collections.abc import Callable
from urllib.parse import parse_qsl, urlencode, urlsplit

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from askmill.web.http.options import Options
from askmill.web.http.problems import Refused

LOOPBACK_NAMES = frozenset({"localhost"})
OPEN_PATHS = frozenset({"/login", "/healthz"})
"""Paths that need no token, beside /static/: the sign-in page and its style."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FREE_DISK_BYTES = 100_000_000
"""An upload leaves so much room on its disk."""
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
ErrorPage = Callable[[Request, Exception], Response]

log = structlog.get_logger()


class Guard:
    """ASGI middleware; it streams. `error_page` renders a refusal."""

    def __init__(self, app: ASGIApp, options: Options, disk: str, error_page: ErrorPage) -> None:
        self._app, self._options, self._disk, self._error_page = app, options, disk, error_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = self._without_prefix(scope)
        request = Request(scope)
        send = _with_headers(scope, send)
        try:
            response = self._check(request)
        except Refused as refused:
            response = self._error_page(request, refused)
        if response is not None:
            await response(scope, receive, send)
            return
        if request.method not in SAFE_METHODS:
            log.info("web.change", method=request.method, path=scope["path"])
        await self._app(scope, _limited(receive, self._options.max_upload), send)

    def _without_prefix(self, scope: Scope) -> Scope:
        """The same request, whether or not the proxy has taken the prefix away."""
        prefix, path = self._options.prefix, scope["path"]
        if prefix and (path == prefix or path.startswith(prefix + "/")):
            path = path[len(prefix) :] or "/"
        return {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}

    def _check(self, request: Request) -> Response | None:
        """Return the response to a request that goes no further; None if it may. Raises Refused."""
        self._check_host(request)
        if request.method not in SAFE_METHODS:
            self._check_origin(request)
            self._check_size(request)
        token = request.query_params.get("token")
        if token is not None and request.method == "GET" and self._is_token(token):
            return self._signed_in(request)
        is_open = request.url.path in OPEN_PATHS or request.url.path.startswith("/static/")
        if not is_open and not self._is_known(request):
            raise Refused(
                401,
                "Sign in",
                "This needs the access token: open the address that `askmill web` printed, or send "
                "`Authorization: Bearer TOKEN`.",
            )
        return None

    def _check_host(self, request: Request) -> None:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        if name in LOOPBACK_NAMES or name in self._options.hosts:
            return
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise Refused(
                400,
                "Unknown host",
                f"This server does not answer to the name {name[:100]!r}. Start it with "
                "`askmill web --allow-host NAME` if that name is right.",
            ) from None

    def _check_origin(self, request: Request) -> None:
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        # Under `no-referrer` a browser sends the origin of a plain form as null, and says in another header,
        # which no page can set, where the form is from.
        form_site = request.headers.get("sec-fetch-site", "") if origin == "null" else ""
        if form_site == "same-origin":
            same = True
        elif origin is not None:
            same = urlsplit(origin).netloc.lower() == host.lower()
        elif "authorization" in request.headers:
            same = True  # a program: browsers send Origin with every change
        else:
            same = request.headers.get("sec-fetch-site") in {"same-origin", "none"}
        if not same:
            raise Refused(
                403,
                "Another origin",
                "A change must come from this server's own page. Behind a reverse proxy, pass the header "
                "`Host` on unchanged. A program sends `Authorization: Bearer TOKEN`.",
            )

    def _check_size(self, request: Request) -> None:
        size = request.headers.get("content-length", "")
        if not size.isdigit():
            return
        if int(size) > self._options.max_upload:
            raise too_large(self._options.max_upload)
        if int(size) + FREE_DISK_BYTES > shutil.disk_usage(self._disk).free and int(size) > FREE_DISK_BYTES:
            raise Refused(
                507,
                "No room",
                "The upload does not fit on the server's disk. Make room there, or start the server with "
                "ASKMILL_DATA_DIR on another disk.",
            )

    def _is_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._options.token.encode())

    def _is_known(self, request: Request) -> bool:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(token.strip()):
            return True
        cookie = request.cookies.get(cookie_name(self._options), "")
        return hmac.compare_digest(cookie.encode(), session_of(self._options).encode())

    def _signed_in(self, request: Request) -> Response:
        """Change the token in the address for a cookie, so that no history or log keeps the token."""
        pairs = [(name, value) for name, value in parse_qsl(request.url.query) if name != "token"]
        query = f"?{urlencode(pairs)}" if pairs else ""
        # The path of this request alone: no address in it can lead elsewhere.
        path = "/" + request.url.path.lstrip("/\\")
        response = RedirectResponse(f"{self._options.prefix}{path}{query}", 303)
        set_session(response, self._options, secure=is_https(request))
        return response


def too_large(limit: int) -> Refused:
    """Return the refusal of an upload above the limit in bytes."""
    return Refused(
        413,
        "Too large",
        f"The upload is larger than {limit:,} bytes. Start the server with a larger `--max-upload`, or "
        "submit the file with `askmill submit`.",
    )


def cookie_name(options: Options) -> str:
    """Return the cookie's name: servers on other ports of this host have cookies of their own."""
    return f"askmill_{options.port}"


def session_of(options: Options) -> str:
    """Return the cookie's value, which does not reveal the token."""
    return hmac.new(options.token.encode(), b"askmill web session", hashlib.sha256).hexdigest()


def set_session(response: Response, options: Options, *, secure: bool) -> None:
    """Sign the browser in."""
    response.set_cookie(
        cookie_name(options),
        session_of(options),
        max_age=30 * 86400,
        path=options.prefix or "/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def is_https(request: Request) -> bool:
    """Whether the browser reaches this server by HTTPS, directly or through a proxy."""
    return "https" in {request.url.scheme, request.headers.get("x-forwarded-proto", "")}


def _with_headers(scope: Scope, send: Send) -> Send:
    cached = scope["path"].startswith("/static/")

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "max-age=3600" if cached else "no-store")
        await send(message)

    return send_with_headers


def _limited(receive: Receive, limit: int) -> Receive:
    """A body that ends with Refused above the limit, also if it does not announce its size."""
    received = 0

    async def receive_limited() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > limit:
                raise too_large(limit)
        return message

    return receive_limited
