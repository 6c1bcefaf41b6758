"""Who may send a request, and what a browser may do with the answer. CONTRACT "Web", "Safe"."""

import logging
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from askmill.jobs.model.models import Step
from askmill.jobs.store import Store
from askmill.jobs.store.records import NewRow
from askmill.web.app import create_app
from askmill.web.context import Web
from askmill.web.services.downloads import image_type
from tests.helpers.batches import claim_row, make_result, submit_batch, worker_info
from tests.web.conftest import ADDRESS, MAX_UPLOAD, TOKEN, client_of

COOKIE = "askmill_8765"


async def test_nothing_is_read_without_the_token(stranger: httpx2.AsyncClient, store: Store) -> None:
    """401 on every path of the API and the page, except the sign-in page, its style and the health check."""
    batch = await submit_batch(store, [NewRow(["a secret question"])])
    for path in ("/", "/new", f"/batches/{batch}", f"/batches/{batch}/live", "/nosuch"):
        reply = await stranger.get(path)
        assert (reply.status_code, "secret" in reply.text) == (401, False), path
        assert "Access token" in reply.text
    for path in ("", "/api/batches", f"/api/batches/{batch}/results", "/api/docs", "/api/openapi.json"):
        reply = await stranger.get(path or "/api/")
        assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer"), path
    wrong = {"Authorization": "Bearer wrong"}
    assert (await stranger.get("/api/batches", headers=wrong)).status_code == 401
    assert (await stranger.get("/api/batches", headers={"Cookie": f"{COOKIE}={TOKEN}"})).status_code == 401
    assert (await stranger.get("/?token=wrong")).status_code == 401
    assert (await stranger.get("/healthz")).status_code == 204
    assert (await stranger.get("/static/askmill.css")).status_code == 200
    assert (await stranger.get("/static/../guard.py")).status_code == 401
    assert (await stranger.get("/static/%2e%2e/guard.py")).status_code == 404


async def test_the_first_visit_changes_the_token_for_a_cookie(stranger: httpx2.AsyncClient) -> None:
    """By a redirect to the same page without it; the cookie is not the token, and no script reads it."""
    reply = await stranger.get(f"/batches/b_1?token={TOKEN}&status=failed")
    assert (reply.status_code, reply.headers["location"]) == (303, "/batches/b_1?status=failed")
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert (await stranger.get("/")).status_code == 200  # the client keeps the cookie

    reply = await stranger.get(f"{ADDRESS}//evil.example/?token={TOKEN}")
    assert reply.headers["location"].startswith("/evil.example/")


async def test_the_sign_in_page_takes_the_token(stranger: httpx2.AsyncClient) -> None:
    """For those who have lost the address; it leads nowhere else."""
    own = {"Origin": ADDRESS}
    form = {"token": TOKEN, "next_path": "//evil.example"}
    wrong = await stranger.post("/login", data={**form, "token": "wrong"}, headers=own)
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    reply = await stranger.post("/login", data=form, headers={**own, "X-Forwarded-Proto": "https"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/evil.example")
    assert "Secure" in reply.headers["set-cookie"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8765", 200),
        ("127.0.0.1", 200),
        ("[::1]:8765", 200),
        ("192.168.1.7:8765", 200),
        ("askmill.example", 200),
        ("ASKMILL.EXAMPLE:443", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("evil.example:127.0.0.1", 400),
        ("", 400),
    ],
)
async def test_only_own_names_are_answered(host: str, status: int, client: httpx2.AsyncClient) -> None:
    """A name that an attacker's DNS leads here (rebinding) gets nothing, not even with the token."""
    reply = await client.get("/api/batches", headers={"Host": host})
    assert reply.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": ADDRESS}, 404),
        ({"Origin": "https://127.0.0.1:8765"}, 404),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8765.evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8765@evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 404),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({}, 403),
    ],
)
@pytest.mark.parametrize(
    "change",
    [("POST", "/api/batches/b_1/pause"), ("POST", "/batches/b_1/cancel"), ("DELETE", "/api/batches/b_1")],
)
async def test_a_change_comes_from_the_own_page(
    headers: dict[str, str], status: int, change: tuple[str, str], stranger: httpx2.AsyncClient
) -> None:
    """With the cookie, which a browser sends from anywhere on this host."""
    await stranger.get(f"/?token={TOKEN}")
    reply = await stranger.request(*change, headers=headers)
    assert reply.status_code == status


async def test_a_program_needs_no_origin_and_may_not_have_another(client: httpx2.AsyncClient) -> None:
    """A proxy that adds the token for everybody makes no exception for other sites."""
    assert (await client.post("/api/batches/b_1/pause")).status_code == 404
    other = {"Origin": "http://evil.example"}
    assert (await client.post("/api/batches/b_1/pause", headers=other)).status_code == 403


async def test_an_upload_above_the_limit_ends_early(client: httpx2.AsyncClient, web: Web) -> None:
    """413 by its announced size, and without one as soon as it is too large; nothing is left."""
    large = b"question\n" + b"x" * MAX_UPLOAD
    reply = await client.post("/api/batches", files={"file": ("q.csv", large)})
    assert (reply.status_code, reply.headers["content-type"]) == (413, "application/problem+json")
    assert f"{MAX_UPLOAD:,} bytes" in reply.json()["detail"]

    sent = 0

    async def endless() -> Any:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="q.csv"\r\n\r\nquestion\n'
        while sent < 100 * MAX_UPLOAD:
            sent += 10_000
            yield b"x" * 10_000

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = await client.post("/api/batches", content=endless(), headers=form)
    assert reply.status_code == 413
    assert sent <= 2 * MAX_UPLOAD
    assert list(web.uploads.iterdir()) == []


async def test_a_full_disk_is_507(
    client: httpx2.AsyncClient, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full while the upload is stored."""
    web.uploads.chmod(0o700)
    monkeypatch.setattr("askmill.web.uploads.forms._store", _full)
    reply = await client.post("/api/batches", files={"file": ("q.csv", b"question\n1\n")})
    assert (reply.status_code, "No space left" in reply.json()["detail"]) == (507, True)
    assert list(web.uploads.iterdir()) == []


async def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


async def test_every_answer_has_the_headers_that_keep_a_browser_safe(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, store: Store
) -> None:
    """Pages, the API, refusals and files: no inline script or style, no other host, no frame, no sniffing."""
    batch = await submit_batch(store, 1)
    for reply in (
        await client.get("/"),
        await client.get(f"/batches/{batch}?view=charts"),
        await client.get(f"/api/batches/{batch}/results"),
        await client.get("/static/askmill.js"),
        await stranger.get("/"),
        await client.get("/nosuch"),
    ):
        assert (
            "default-src 'none'; script-src 'self'; style-src 'self'"
            in reply.headers["content-security-policy"]
        )
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        if reply.headers["content-type"].startswith("text/html"):
            assert reply.headers["cache-control"] == "no-store"
            for refused in ("style=", "<style", "onclick", "javascript:", "http://", "https://"):
                assert refused not in reply.text.replace("http://HOST", ""), refused


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"
LINK = "[click](javascript:alert(1)) ![x](http://evil.example/x.png) <b>bold</b> [ok](https://example.org)"


async def test_markup_in_questions_names_answers_and_errors_is_inert(
    client: httpx2.AsyncClient, store: Store
) -> None:
    """Nothing that a file or a model writes becomes a tag, a script or a request to another host."""
    row = NewRow([f"Question {EVIL}", f"</td>{EVIL}"])
    spec = replace((await _spec(store)), columns=("question", EVIL))
    batch = await submit_batch(store, [row], name=EVIL, file=f"{EVIL}.csv", spec=spec)
    await store.heartbeat(worker_info())
    (dispatched,) = [row for row in await store.dispatch(10) if row.batch == batch]
    claim = await claim_row(store, dispatched)
    await store.save(claim, b"{}", run_created=True)
    details = {"input": EVIL, "logs": [EVIL]}
    step = {"type": "code_interpreter", "status": EVIL, "details": details}
    files = ({"name": f"../../{EVIL}.png", "reason": EVIL},)
    result = make_result(
        1,
        answer=f"# Answer\n{EVIL}\n\n{LINK}\n\n```html\n{EVIL}\n```",
        error=EVIL,
        model=EVIL,
        citations=({"quote": EVIL},),
        files=files,
        steps=(Step("run_1", 1, **step),),
    )
    await store.finish(claim, result)

    for path in (
        "/",
        f"/batches/{batch}",
        f"/batches/{batch}?row=1",
        f"/batches/{batch}?view=charts",
        f"/batches/{batch}?search=script",
    ):
        page = (await client.get(path)).text
        assert "<script>alert" not in page, path
        assert "<img" not in page, path
        assert "&lt;script&gt;" in page, path
        assert 'href="javascript' not in page
        assert 'src="http' not in page
    panel = (await client.get(f"/batches/{batch}/rows/1")).text
    assert "<h1>Answer</h1>" in panel
    assert '<a href="https://example.org" rel="noopener noreferrer nofollow" target="_blank">ok</a>' in panel
    assert "&lt;b&gt;bold" in panel
    download = await client.get(f"/api/batches/{batch}/results")
    assert "\r" not in download.headers["content-disposition"]
    assert download.headers["content-disposition"].startswith("attachment; ")


async def _spec(store: Store) -> Any:
    return (await store.batch(await submit_batch(store, 1))).spec


async def test_a_generated_file_is_a_picture_or_a_download(client: httpx2.AsyncClient, store: Store) -> None:
    """By its first bytes, not by its name: HTML and SVG never open as a page."""
    batch = await submit_batch(store, 1)
    await store.heartbeat(worker_info())
    (dispatched,) = await store.dispatch(1)
    claim = await claim_row(store, dispatched)
    contents = [b"\x89PNG\r\n\x1a\n rest", b"<html><script>alert(1)</script>", b"<svg onload=alert(1)>"]
    for number, content in enumerate(contents):
        await store.store_file(claim, number, content, 10**6)
    await store.save(claim, b"{}", run_created=True)
    names = ("plot.png", "page.png", 'a"b\r\n.svg')
    files = tuple({"name": name, "number": number} for number, name in enumerate(names))
    await store.finish(claim, make_result(1, files=files))

    replies = [await client.get(f"/api/batches/{batch}/rows/1/files/{number}") for number in range(3)]
    assert [reply.content for reply in replies] == contents
    assert [reply.headers["content-type"] for reply in replies] == [
        "image/png",
        *["application/octet-stream"] * 2,
    ]
    assert [reply.headers["content-disposition"].split(";")[0] for reply in replies] == [
        "inline",
        *["attachment"] * 2,
    ]
    assert all("sandbox" in reply.headers["content-security-policy"] for reply in replies)
    assert (await client.get(f"/api/batches/{batch}/rows/1/files/9")).status_code == 404


@pytest.mark.parametrize(
    ("content", "shown_as"),
    [
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
        (b"RIFF\x24\0\0\0AVI LIST", None),
        (b"RIFFWEBP", None),
        (b"GIF89a..", "image/gif"),
        (b"GIF8 is how this text begins", None),
        (b"", None),
    ],
)
def test_a_picture_is_recognised_by_all_of_its_mark(content: bytes, shown_as: str | None) -> None:
    """A RIFF file is a picture only where it says WEBP: sound and video begin alike."""
    assert image_type(content) == shown_as


async def test_charts_of_a_big_batch_read_a_sample(
    client: httpx2.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A click reads no million rows; the page says how many it counts, the statuses are those of all."""
    batch = await submit_batch(store, [NewRow([f"q{n}"], "bad" if n <= 100 else None) for n in range(1, 201)])
    whole = await client.get(f"/batches/{batch}?view=charts")
    assert "evenly over the batch" not in whole.text
    monkeypatch.setattr("askmill.web.pages.batches.CHARTED_ROWS", 32)
    monkeypatch.setattr(type(store), "result_chunks", None)
    sampled = await client.get(f"/batches/{batch}?view=charts")
    assert "What follows counts 32 of the 200 rows" in sampled.text
    assert "100 rows did not complete" in sampled.text


async def test_under_a_prefix_every_address_has_it(web: Web, store: Store) -> None:
    """Whether or not the reverse proxy takes the prefix away."""
    web.options = replace(web.options, prefix="/mill")
    batch = await submit_batch(store, 60)
    async with client_of(web, Authorization=f"Bearer {TOKEN}") as client:
        for path in ("/", "/new", f"/batches/{batch}", f"/batches/{batch}?row=1", "/api/docs", "/nosuch"):
            for page in (await client.get(f"/mill{path}"), await client.get(path)):
                for attribute in ("href", "src", "action", "data-live", "data-search"):
                    addresses = [part.split('"')[0] for part in page.text.split(f'{attribute}="')[1:]]
                    assert [a for a in addresses if a.startswith("/") and not a.startswith("/mill/")] == [], (
                        path
                    )
        assert (await client.get("/mill")).status_code == 200
        reply = await client.get(f"/mill/new?token={TOKEN}")
        assert reply.headers["location"] == "/mill/new"
        assert "Path=/mill" in reply.headers["set-cookie"]


async def test_no_log_holds_the_token(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    """Changes are logged by path alone."""
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # the test's own client
    caplog.set_level(logging.DEBUG)
    await stranger.get(f"/?token={TOKEN}")
    await client.post(f"/api/batches/b_1/pause?token={TOKEN}")
    printed = capsys.readouterr()
    assert TOKEN not in caplog.text + printed.out + printed.err


async def test_an_unexpected_error_tells_nothing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 as problem details; the traceback is in the log alone."""

    async def broken(*_: object) -> None:
        raise RuntimeError("sk-a-secret-of-the-server")

    monkeypatch.setattr(web.store, "status", broken)
    transport = httpx2.ASGITransport(create_app(web), raise_app_exceptions=False)
    with capture_logs() as logs:
        async with httpx2.AsyncClient(
            transport=transport, base_url=ADDRESS, headers={"Authorization": f"Bearer {TOKEN}"}
        ) as client:
            reply = await client.get("/api/batches/b_1")
    assert [str(line["exc_info"]) for line in logs] == ["sk-a-secret-of-the-server"]
    assert (reply.status_code, reply.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in reply.text
