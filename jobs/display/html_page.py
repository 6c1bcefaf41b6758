"""The frame of our HTML pages: one file that loads nothing, and a table of rows with filter and search.

The only script is our own; the page's policy names it by its hash, so markup in an answer could run nothing.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files

from askmill.config.text import strip_control

MAX_ROWS = 5_000
MAX_CHARACTERS = 8_000_000
"""Of all rows together: a browser opens such a page at once."""
LONGEST_CELL = 4_000


@dataclass
class RowTable:
    """Rows of a page, as far as it holds them. `flags` are the choices of the filter, with their counts."""

    header: tuple[str, ...]
    rows: list[tuple[list[str], list[str]]] = field(default_factory=list)
    """Cells, and the flags of the row."""
    total: int = 0
    characters: int = 0

    def add(self, cells: Iterable[object], flags: Iterable[str]) -> None:
        """Keep a row while there is room; cells are cut at `LONGEST_CELL` characters."""
        self.total += 1
        if len(self.rows) >= MAX_ROWS or self.characters >= MAX_CHARACTERS:
            return
        texts = [_cut("" if cell is None else str(cell)) for cell in cells]
        self.characters += sum(map(len, texts))
        self.rows.append((texts, list(flags)))

    def html(self, title: str) -> str:
        """The section with the filter, the search and the rows; empty without rows."""
        if not self.rows:
            return ""
        head = "".join(f"<th>{escape(name)}" for name in self.header)
        body = "".join(
            f'<tr data-flags="{escape(" ".join(flags))}">' + "".join(f"<td>{escape(text)}" for text in texts)
            for texts, flags in self.rows
        )
        choices = dict.fromkeys(flag for _, flags in self.rows for flag in flags)
        options = "".join(f"<option>{escape(flag)}" for flag in choices)
        more = ""
        if self.total > len(self.rows):
            more = f"<p class=note>The first {len(self.rows):,} of {self.total:,} rows.</p>"
        return (
            f"<section><h2>{escape(title)}</h2><p class=find>"
            '<input id=search type=search placeholder="Search" aria-label="Search in the rows"> '
            f'<select id=filter aria-label="Filter"><option value="">all rows{options}</select> '
            "<span id=count role=status></span></p>"
            f"<table id=rows><thead><tr>{head}<tbody>{body}</table>{more}</section>"
        )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table; all but the first column are numbers."""
    head = "".join(f"<th{' class=n' if place else ''}>{escape(name)}" for place, name in enumerate(header))
    body = "".join(
        "<tr>" + "".join(f"<td{' class=n' if at else ''}>{escape(text)}" for at, text in enumerate(row))
        for row in rows
    )
    return f"<table><tr>{head}{body}</table>"


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document."""
    style = files("askmill.jobs.display").joinpath("report.css").read_text("utf-8")
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_script_hash()}'"
    body = [part for part in parts if part]
    script = f"<script>{_script()}</script>" if any("id=rows" in part for part in body) else ""
    lines = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width">',
        f'<meta http-equiv=Content-Security-Policy content="{policy}">',
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
        *body,
    ]
    return strip_control("\n".join(lines)) + f"\n</main>{script}</body></html>\n"


@cache
def _script() -> str:
    return files("askmill.jobs.display").joinpath("table.js").read_text("utf-8")


def _script_hash() -> str:
    return base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
