"""Renders templates: numbers, times and texts as people read them, and answers as inert markup."""

import re
import secrets
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from askmill.config.text import format_duration, format_usd, safe_text, strip_control
from askmill.web.context import Web, web_of

MAX_NOTES = 100
"""Notes kept for the next page."""
LONGEST_MARKDOWN = 100_000
"""Characters of an answer that are rendered; a longer one is shown as text."""
UNKNOWN = "\N{EN DASH}"
SYMBOLS = {
    "completed": "✓",
    "done": "✓",
    "failed": "✕",
    "expired": "◷",
    "incomplete": "◐",
    "cancelled": "⊘",
    "rejected": "▢",
    "running": "▶",
    "queued": "○",
    "paused": "‖",
}
"""A shape for each status: some people cannot distinguish the colours."""

# Without HTML of its own; images, which would be loaded from elsewhere, stay text.
_markdown = MarkdownIt("js-default", {"html": False, "linkify": False, "typographer": False})
_markdown.disable("image")


def _open_link(self: Any, tokens: Any, index: int, options: Any, env: Any) -> Any:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    tokens[index].attrSet("target", "_blank")
    return self.renderToken(tokens, index, options, env)


def _without_style(self: Any, tokens: Any, index: int, options: Any, env: Any) -> Any:
    tokens[index].attrs.pop("style", None)  # an alignment, which the Content-Security-Policy refuses
    return self.renderToken(tokens, index, options, env)


_markdown.add_render_rule("link_open", _open_link)
_markdown.add_render_rule("th_open", _without_style)
_markdown.add_render_rule("td_open", _without_style)


def markdown(text: str) -> Markup:
    """Return an answer as markup that can do nothing: no HTML, no images, no scripts, plain links."""
    clean = strip_control(text)
    if len(clean) > LONGEST_MARKDOWN:
        return Markup("<pre>{}</pre>").format(clean)
    return Markup(_markdown.render(clean))  # noqa: S704 -- markdown-it escapes all text, and passes no HTML


def number(value: float | None) -> str:
    """Return `1,234`; a dash for an unknown number."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def usd(value: float | None) -> str:
    """Return dollars; a dash where no price is known."""
    return UNKNOWN if value is None else format_usd(value)


def seconds(value: float | None) -> str:
    """Return `4.2 s`; a dash where unknown."""
    return UNKNOWN if value is None else format_duration(value)


def when(at_ms: float | None) -> Markup:
    """Return a time as `5 min ago`, with the exact one on hover; the script keeps it current."""
    if at_ms is None:
        return Markup("\N{EN DASH}")
    exact = datetime.fromtimestamp(at_ms / 1000, UTC)
    shown = ago((datetime.now(UTC) - exact).total_seconds())
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact.isoformat(timespec="seconds"), exact.strftime("%Y-%m-%d %H:%M:%S UTC"), shown
    )


def ago(seconds_ago: float) -> str:
    """Return `just now`, `5 min ago`, `3 h ago`, `2 days ago`."""
    for size, unit in ((86_400, "day"), (3600, "h"), (60, "min")):
        if seconds_ago >= size:
            count = int(seconds_ago // size)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''} ago"
    return "just now"


def pretty(value: Any) -> str:
    """Return text as it is, anything else as indented JSON."""
    if isinstance(value, str):
        return strip_control(value)
    return strip_control(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode())


def code_spans(text: str) -> Markup:
    """Return a sentence with its `commands` as code."""
    parts = re.split(r"`([^`]+)`", strip_control(text))
    marked = (
        Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)
    )
    return Markup("").join(marked)


@lru_cache(1)
def environment() -> Environment:
    """Return the templates, which escape everything that is not `Markup`."""
    loaded = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loaded.filters |= {
        "markdown": markdown,
        "number": number,
        "usd": usd,
        "seconds": seconds,
        "when": when,
        "pretty": pretty,
        "codes": code_spans,
        "clean": strip_control,
    }
    loaded.globals |= {"SYMBOLS": SYMBOLS}
    for name in loaded.list_templates():
        loaded.get_template(name)  # compiled here, not during the first visit
    return loaded


def render_text(request: Request, template: str, **values: Any) -> str:
    """Return a rendered template; `prefix` is before every path in it."""
    web = web_of(request)
    shared = {"prefix": web.options.prefix, "offline": bool(web.target and web.target.offline)}
    return environment().get_template(template).render({**shared, "refusal": web.refusal, **values})


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a rendered template as a response."""
    return HTMLResponse(render_text(request, template, **values), status)


def redirect(web: Web, path: str, note: str = "") -> RedirectResponse:
    """Return a redirect to another page, which shows the note once."""
    if note:
        key = secrets.token_urlsafe(9)
        while len(web.notes) >= MAX_NOTES:
            web.notes.pop(next(iter(web.notes)))
        web.notes[key] = safe_text(note)
        path += f"?note={key}"
    return RedirectResponse(f"{web.options.prefix}{path}", 303)
