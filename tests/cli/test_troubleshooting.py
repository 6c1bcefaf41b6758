"""The troubleshooting page has an entry for every code that askmill itself gives an error or a pause."""

import ast
from collections.abc import Iterator
from pathlib import Path

from askmill.jobs.display.pause_advice import ADVICE
from askmill.worker.lifecycle.state import CancelReason

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
MADE_BY_ASKMILL = ("worker/backends", "worker/execution", "worker/lifecycle", "worker/functions")


def _error_codes() -> Iterator[str]:
    """The `code` of each ApiError that the worker raises, where it is written out."""
    for folder in MADE_BY_ASKMILL:
        for file in sorted((ROOT / folder).glob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ApiError":
                    for keyword in node.keywords:
                        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                            yield str(keyword.value.value)


def test_every_error_code_has_an_entry() -> None:
    """A code that is searched for is found, with what to do."""
    codes = set(_error_codes())
    own = {"no_message", "refusal", "schema", "previous_turn", "poison_row", "unknown_outcome"}
    cancelled = {str(reason) for reason in CancelReason} - {"user", "row"}

    assert len(codes) >= 5
    assert [code for code in sorted(codes | own | cancelled) if f"`{code}`" not in PAGE] == []


def test_every_pause_reason_has_an_entry() -> None:
    """The words by which `status` recognizes a reason are on the page."""
    parts_of_messages = {"invalid url", "request url"}
    assert [word for word, _ in ADVICE if word not in PAGE and word not in parts_of_messages] == []
