"""Server-sent events as bytes: what a client that trusts nothing reads."""

import json
from typing import Any


def data_lines(raw: bytes) -> list[bytes]:
    """The data of each event; AssertionError where the framing is not that of one `data:` line an event."""
    events = []
    for block in raw.split(b"\n\n"):
        lines = [line for line in block.split(b"\n") if line and not line.startswith(b":")]
        assert len(lines) <= 1, block
        for line in lines:
            assert line.startswith(b"data: "), block
            events.append(line.removeprefix(b"data: "))
    return events


def chunks(raw: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream that ends with [DONE]."""
    assert raw.endswith(b"data: [DONE]\n\n")
    *data, done = data_lines(raw)
    assert done == b"[DONE]"
    return [json.loads(one) for one in data]
