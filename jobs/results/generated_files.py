"""Files that runs generated, written to OUT.files/ROW/NAME; no name from the API leaves that folder."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from askmill.jobs.results.columns import Entry
from askmill.jobs.results.destination import atomic_write, oserror_to_write_fault

FetchBlob = Callable[[int, dict[str, Any]], Awaitable[bytes | None]]
"""The kept content of a row's file, as its result tells of it; None when it is not or no longer kept."""

LONGEST_NAME_BYTES = 150
UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]')
RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$")
"""Device names that Windows reserves, with any suffix (Microsoft, Naming Files)."""


async def saved(entry: Entry, folder: Path, fetch: FetchBlob) -> Entry:
    """Writes the row's files and says in `files` where each is; those not kept stay with their reason."""
    taken: set[str] = set()
    files = [await _save(entry.row, file, folder, taken, fetch) for file in entry.result["files"]]
    return entry._replace(result={**entry.result, "files": files})


async def _save(
    row: int, told: dict[str, Any], folder: Path, taken: set[str], fetch: FetchBlob
) -> dict[str, Any]:
    content = None if told.get("reason") else await fetch(row, told)
    if content is None:
        return told
    safe = _untaken(safe_name(str(told.get("name", ""))), taken)
    place = folder / str(row) / safe
    with oserror_to_write_fault(str(place)):
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as stream:
            stream.write(content)
    return {**told, "path": f"{folder.name}/{row}/{safe}"}


def safe_name(name: str) -> str:
    """The last part of a path as a plain file name on any system."""
    last = re.split(r"[/\\]", name)[-1]
    plain = UNSAFE.sub("_", last).lstrip(". ").rstrip(". ")
    if RESERVED.match(plain):
        plain = f"_{plain}"
    return _shortened(plain) or "file"


def _shortened(name: str) -> str:
    if len(name.encode()) <= LONGEST_NAME_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    kept = f"{dot}{suffix}" if stem and len(suffix.encode()) <= 16 else ""
    room = LONGEST_NAME_BYTES - len(kept.encode())
    return name.encode()[:room].decode(errors="ignore").rstrip(". ") + kept


def _untaken(name: str, taken: set[str]) -> str:
    """The name, numbered until it is free; letters' case does not tell files apart everywhere."""
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    number, free = 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{stem}-{number}{dot}{suffix}"
    taken.add(free.casefold())
    return free
