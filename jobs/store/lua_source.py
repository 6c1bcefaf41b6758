"""The texts of the Lua scripts in jobs/store/lua.

A line `-- include: NAME.lua` is replaced by that file, once, for what several scripts share.
"""

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_INCLUDE = re.compile(r"^-- include: ([\w/]+)\.lua\n", re.MULTILINE)


class Script(NamedTuple):
    """A script with its includes, and the name by which Redis knows it."""

    text: str
    sha1: str


@cache
def script(name: str) -> Script:
    """Return a script by the name of its file."""
    text = _with_includes(name, set())
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _with_includes(name: str, included: set[str]) -> str:
    included.add(name)
    text = (files("askmill.jobs.store") / "lua" / f"{name}.lua").read_text("utf-8")
    # Between the texts stand the names that they include.
    parts = enumerate(_INCLUDE.split(text))
    return "".join(
        part if place % 2 == 0 else "" if part in included else _with_includes(part, included)
        for place, part in parts
    )
