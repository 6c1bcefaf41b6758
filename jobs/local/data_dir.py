"""Folders, locks and logs under the data directory, and sentences for what the file system refuses.

DATA_DIR/               0700 when we make it
├── locks/              NAME.users (shared by users), NAME.server (held by keeper and server)
├── redis/              server.conf (0600: the password), appendonlydir/
├── emulator/           its state; emulator.json beside it remembers the port
└── logs/               redis.log, emulator.log, worker.log
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from askmill.jobs.model.errors import LocalFault, UsageError

LOG_LIMIT_BYTES = 5_000_000
"""A log larger than this is emptied when its process is next started."""

_REMEDIES = {
    errno.ENOSPC: "Free some space on that disk, or set ASKMILL_DATA_DIR to a folder on another.",
    errno.EDQUOT: "Free some of your quota on that disk, or set ASKMILL_DATA_DIR to a folder on another.",
    errno.ENOLCK: "Set ASKMILL_DATA_DIR to a folder on a local disk.",
    errno.EOPNOTSUPP: "Set ASKMILL_DATA_DIR to a folder on a local disk.",
}


@contextmanager
def fit(data_dir: Path) -> Iterator[None]:
    """Turn an OSError on anything under `data_dir` into a sentence.

    Raises:
        UsageError: the folder itself is wrong (a file, not ours to write).
        LocalFault: the disk is (full, over quota, without locks).
    """
    try:
        yield
    except OSError as fault:
        where = fault.filename or data_dir
        said = f"The data directory {data_dir} cannot be used: {where}: {fault.strerror}."
        if fault.errno in _REMEDIES:
            raise LocalFault(f"{said} {_REMEDIES[fault.errno]}") from fault
        advice = "Set ASKMILL_DATA_DIR to a folder that you may write, for example ~/askmill-data."
        raise UsageError(f"{said} {advice}") from fault


def private(folder: Path) -> Path:
    """`folder`, made with its parents when missing, and readable by nobody else."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def write_private(path: Path, text: str) -> None:
    """Replace `path` whole, mode 0600, unless it says so already: a full disk leaves the old one."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def open_log(data_dir: Path, name: str) -> tuple[int, Path, int]:
    """(descriptor to append to, path, size now in bytes) of DATA_DIR/logs/NAME.log."""
    path = private(data_dir / "logs") / f"{name}.log"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.fstat(handle).st_size > LOG_LIMIT_BYTES:
        os.ftruncate(handle, 0)
    return handle, path, os.fstat(handle).st_size


def last_line(path: Path, since_bytes: int) -> str:
    """The last line that says something in the part of a log written after `since_bytes`."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(min(since_bytes, end), end - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def require_posix(what: str, instead: str) -> None:
    """Raise LocalFault on Windows, where there are neither the server's binary nor its locks."""
    if sys.platform == "win32":
        raise LocalFault(f"The embedded {what} does not run on Windows. {instead}")
