"""JSON for a terminal or a pipe: the same values, without a character that a terminal obeys."""

from typing import Any

import orjson

from askmill.config.text import CONTROL


def json_line(value: Any) -> str:
    r"""The value as JSON on one line. What moves the cursor or reverses text is escaped as `\u009b`.

    JSON escapes only the first 32 characters, and a terminal obeys others too.
    """
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", orjson.dumps(value).decode())
