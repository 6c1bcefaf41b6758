"""What a Redis holds as JSON, and back; and the names of keys and fields that a layout has."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from askmill.jobs.store import keys

FOLDER = Path(__file__).parent
ADDRESS = "http://emulator.test/v1"
"""Stands in a fixture for the address of the emulator with which it was recorded."""
_BINARY = "base64:"


def dump(client: redis.Redis, base_url: str) -> dict[str, Any]:
    """Return the keys of askmill with type, lifetime and content; `base_url` becomes ADDRESS."""
    stored: dict[str, Any] = {}
    for raw in sorted(client.keys("askmill*")):
        kind = client.type(raw).decode()
        value = _READERS[kind](client, raw)
        lifetime_ms = client.pttl(raw)
        entry = {"type": kind, "value": value, **({"lifetime_ms": lifetime_ms} if lifetime_ms > 0 else {})}
        stored[raw.decode()] = json.loads(json.dumps(entry).replace(base_url, ADDRESS))
    return stored


def restore(client: redis.Redis, stored: dict[str, Any], replaced: dict[str, str]) -> None:
    """Write what `dump` has returned, with texts such as ADDRESS and ids of the API replaced."""
    text = json.dumps(stored)
    for recorded, present in replaced.items():
        text = text.replace(recorded, present)
    for name, entry in json.loads(text).items():
        _WRITERS[entry["type"]](client, name, entry["value"])
        if "lifetime_ms" in entry:
            client.pexpire(name, entry["lifetime_ms"])


def layout_names() -> str:
    """Return the layout in use, one name a line: keys with their types, then fields of hashes."""
    table, _, text = (keys.__doc__ or "").partition("Fields of `askmill:batch:{b}`")
    lines = [
        f"{key} {kind}" for key, kind in re.findall(r"^ {4}(askmill:\S+) +([A-Z]+) ", table, re.MULTILINE)
    ]
    return "\n".join([*sorted(lines), *sorted(set(re.findall(r"`([a-z_]+)`", text)))]) + "\n"


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text.isprintable() and text.encode() == raw else _BINARY + base64.b64encode(raw).decode()


def _raw(text: str) -> bytes:
    return base64.b64decode(text[len(_BINARY) :]) if text.startswith(_BINARY) else text.encode()


def _pairs(value: dict[str, str]) -> Iterator[tuple[bytes, bytes]]:
    return ((_raw(name), _raw(content)) for name, content in value.items())


_READERS: dict[str, Any] = {
    "string": lambda client, key: _text(client.get(key)),
    "hash": lambda client, key: {_text(k): _text(v) for k, v in sorted(client.hgetall(key).items())},
    "set": lambda client, key: sorted(map(_text, client.smembers(key))),
    "zset": lambda client, key: {_text(k): score for k, score in client.zrange(key, 0, -1, withscores=True)},
    "list": lambda client, key: [_text(item) for item in client.lrange(key, 0, -1)],
}
_WRITERS: dict[str, Any] = {
    "string": lambda client, key, value: client.set(key, _raw(value)),
    "hash": lambda client, key, value: client.hset(key, mapping=dict(_pairs(value))),
    "set": lambda client, key, value: client.sadd(key, *map(_raw, value)),
    "zset": lambda client, key, value: client.zadd(key, {_raw(k): score for k, score in value.items()}),
    "list": lambda client, key, value: client.rpush(key, *map(_raw, value)),
}
