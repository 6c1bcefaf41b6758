"""Writes files that runs generated to OUT.files/ROW/NAME. No name from the API can escape that folder."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from askmill.jobs.results.columns import Entry
from askmill.jobs.results.destination import atomic_write, oserror_to_write_fault

FetchBlob = Callable[[int, dict[str, Any]], Awaitable[bytes | None]]
"""Fetches the content of a row's file by its entry in the result; None if it is not stored."""

MAX_NAME_BYTES = 150
UNSAFE_CHARACTERS = re.compile(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]')
RESERVED_NAME = re.compile(r"(?i)^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?$")
"""Device names that Windows reserves, also with blanks or a suffix behind them (Microsoft, Naming Files)."""


async def save_files(entry: Entry, folder: Path, fetch: FetchBlob) -> Entry:
    """Write the row's files and add the path of each to its `files`. The others stay as they are."""
    used_names: set[str] = set()
    files = [await _save_file(entry.row, file, folder, used_names, fetch) for file in entry.result.files]
    return entry._replace(result=replace(entry.result, files=files))


async def _save_file(
    row: int, record: dict[str, Any], folder: Path, used_names: set[str], fetch: FetchBlob
) -> dict[str, Any]:
    content = None if record.get("reason") else await fetch(row, record)
    if content is None:
        return record
    safe = _unique_name(safe_name(str(record.get("name", ""))), used_names)
    path = folder / str(row) / safe
    with oserror_to_write_fault(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as stream:
            stream.write(content)
    return {**record, "path": f"{folder.name}/{row}/{safe}"}


def safe_name(name: str) -> str:
    """The last part of a path, made a valid file name on any system."""
    last = re.split(r"[/\\]", name)[-1]
    safe = UNSAFE_CHARACTERS.sub("_", last).lstrip(". ").rstrip(". ")
    if RESERVED_NAME.match(safe):
        safe = f"_{safe}"
    return _shorten(safe) or "file"


def _shorten(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    extension = f"{dot}{suffix}" if stem and len(suffix.encode()) <= 16 else ""
    stem_bytes = MAX_NAME_BYTES - len(extension.encode())
    return name.encode()[:stem_bytes].decode(errors="ignore").rstrip(". ") + extension


def _unique_name(name: str, used_names: set[str]) -> str:
    """The name, numbered if it is in use. Case is ignored, since some file systems ignore it."""
    stem, dot, suffix = name.rpartition(".")
    if not stem:
        stem, dot, suffix = name, "", ""
    number, candidate = 1, name
    while candidate.casefold() in used_names:
        number += 1
        candidate = f"{stem}-{number}{dot}{suffix}"
    used_names.add(candidate.casefold())
    return candidate
