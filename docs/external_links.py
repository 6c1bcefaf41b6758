"""Lists the documentation's links to other hosts: `python docs/external_links.py`; `--check` requests each.

`--check` needs a network and prints the links that do not answer with a page; exit code 1 if there is any. It
is no part of .ci/run, because other people's hosts are not ours to keep up.
"""

import re
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urldefrag
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((https?://[^)\s]+)\)|<(https?://[^>\s]+)>")
TIMEOUT_S = 20
REFUSES_PROGRAMS = {401, 403, 405, 429}
"""Answers of hosts that have the page and refuse requests of programs."""


def links() -> dict[str, list[str]]:
    """Return the pages that name each link."""
    found = defaultdict(list)
    for page in (*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for match in LINK.finditer(text):
            found[match[1] or match[2]].append(str(page.relative_to(ROOT)))
    return dict(found)


def fault(link: str) -> str | None:
    """Return why the link is dead; None if it answers."""
    request = Request(urldefrag(link).url, headers={"User-Agent": "Mozilla/5.0"})  # noqa: S310 -- http(s) only
    try:
        with urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 -- http(s) only
            return None
    except HTTPError as error:
        return None if error.code in REFUSES_PROGRAMS else f"HTTP {error.code}"
    except (URLError, OSError) as error:
        return str(error)


def main() -> int:
    """Print the links, or with `--check` those that are dead."""
    pages = links()
    if sys.argv[1:] != ["--check"]:
        sys.stdout.writelines(f"{link}  {', '.join(sorted(set(pages[link])))}\n" for link in sorted(pages))
        return 0
    with ThreadPoolExecutor(8) as pool:
        faults = dict(zip(pages, pool.map(fault, pages), strict=True))
    dead = {link: reason for link, reason in faults.items() if reason}
    sys.stdout.writelines(f"{link}: {reason}: {', '.join(pages[link])}\n" for link, reason in dead.items())
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
