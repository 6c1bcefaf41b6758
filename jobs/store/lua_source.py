"""The texts of the Lua scripts in jobs/store/lua.

A line `-- include: NAME.lua` is replaced by that file, once, for what several scripts share.
"""

import re
from functools import cache
from importlib.resources import files

_INCLUDE = re.compile(r"^-- include: ([\w/]+)\.lua\n", re.MULTILINE)


@cache
def source(name: str) -> str:
    """Return the text of a script with its includes."""
    return _with_includes(name, set())


def _with_includes(name: str, included: set[str]) -> str:
    def replace(include: re.Match[str]) -> str:
        return "" if include[1] in included else _with_includes(include[1], included)

    included.add(name)
    text = (files("askmill.jobs.store") / "lua" / f"{name}.lua").read_text("utf-8")
    return _INCLUDE.sub(replace, text)
