"""Checks the built site: `python docs/check_site.py SITE`, after `mkdocs build -d SITE`; .ci/run does both.

Links between pages and to headings have targets, no page loads anything from another host, and the search
finds the words that people look for.
"""

import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

SEARCHES = {
    "half price": "how-to/half-price/",
    "Ollama": "how-to/chat-server/",
    "429": "how-to/troubleshooting/",
    "local model": "how-to/chat-server/",
    "typed columns": "how-to/typed-columns/",
    "compare two models": "how-to/compare/",
    "every night": "how-to/nightly/",
    "Kubernetes": "how-to/kubernetes/",
    "web page": "how-to/web/",
    "content_filter": "how-to/troubleshooting/",
}
"""What is typed into the search, and a page that has to be among those with all of the words."""
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href"}
"""Elements whose address the browser fetches by itself."""
LINKS_THAT_LOAD = {"stylesheet", "icon", "preload"}


class _Page(HTMLParser):
    """The targets, the links and the loaded addresses of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.targets.update(filter(None, (values.get("id"), values.get("name") if tag == "a" else None)))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in LOADED and (tag != "link" or values.get("rel") in LINKS_THAT_LOAD):
            self.loads.append(values.get(LOADED[tag], ""))


def _faults(site: Path) -> Iterator[str]:
    pages = {file: _Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}
    for file, page in sorted(pages.items()):
        if file.name == "404.html":
            continue
        name = file.relative_to(site)
        yield from (f"{name} loads {address}" for address in page.loads if urlparse(address).netloc)
        for link in page.links:
            if urlparse(link).scheme:
                continue
            path, anchor = urldefrag(link)
            target = (file.parent / unquote(path)).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name}: {link} has no target"
            elif anchor and target in pages and unquote(anchor) not in pages[target].targets:
                yield f"{name}: {link} has no heading"


def _unfound(site: Path) -> Iterator[str]:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    for words, expected in SEARCHES.items():
        wanted = set(words.casefold().split())
        found = {
            entry["location"].partition("#")[0]
            for entry in index["docs"]
            if wanted <= set(re.findall(r"\w+", f"{entry['title']} {entry['text']}".casefold()))
        }
        if expected not in found:
            yield f"the search for {words!r} does not find {expected}"


def main() -> int:
    """Print each fault; exit code 1 if there is any."""
    site = Path(sys.argv[1]).resolve()
    faults = [*_faults(site), *_unfound(site)]
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
