"""docs/reference/limits.md names each bound with the value that the code has."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = {"MiB": 2**20, "GiB": 2**30}
ROW = re.compile(r"\| (`[^|]+`) \| ([\d,]+)(?: (MiB|GiB))? \| [^|]+ \| (?:`([^`|]+)`|the same) \|")


def _bounds() -> list[tuple[str, int, str]]:
    """Name, value and file of each bound on the page."""
    found, file = [], ""
    for names, value, unit, named_file in ROW.findall((ROOT / "docs/reference/limits.md").read_text("utf-8")):
        file = named_file or file
        number = int(value.replace(",", "")) * UNITS.get(unit, 1)
        found += [(name, number, file) for name in re.findall(r"`(\w+)`", names)[:1]]
    return found


@pytest.mark.parametrize(("name", "value", "file"), _bounds())
def test_a_bound_is_what_the_page_says(name: str, value: int, file: str) -> None:
    """15.5: each bound is documented."""
    module = importlib.import_module("askmill." + file.removesuffix(".py").replace("/", "."))
    assert getattr(module, name) == value


def test_the_page_has_every_bound_on_replies() -> None:
    """A constant MAX_… of the modules that read replies is on the page."""
    names = {name for name, _, _ in _bounds()}
    for file in (
        "jobs/openai_client/reply_limits.py",
        "worker/backends/chat_stream.py",
        "worker/backends/coerce.py",
    ):
        constants = set(re.findall(r"^(MAX_[A-Z_]+) =", (ROOT / file).read_text("utf-8"), re.MULTILINE))
        assert constants - names <= {"MAX_TOKENS", "MAX_TIMESTAMP_S"}, file
