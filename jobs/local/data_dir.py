"""Folders, locks and logs under the data directory, and messages for file system errors.

DATA_DIR/               created with mode 0700
├── locks/              NAME.users (held shared by users), NAME.server (held by supervisor and server)
├── redis/              server.conf (0600: the password), appendonlydir/
├── emulator/           its state; emulator.json beside it has the port
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

_CRITICAL = ('"level": "critical"', "[critical ")
"""What marks a critical event in a log of each format."""
_REMEDIES = {
    errno.ENOSPC: "Free some space on that disk, or set ASKMILL_DATA_DIR to a folder on another.",
    errno.EDQUOT: "Free some of your quota on that disk, or set ASKMILL_DATA_DIR to a folder on another.",
    errno.ENOLCK: "Set ASKMILL_DATA_DIR to a folder on a local disk.",
    errno.EOPNOTSUPP: "Set ASKMILL_DATA_DIR to a folder on a local disk.",
}


@contextmanager
def oserror_to_fault(data_dir: Path) -> Iterator[None]:
    """Turn an OSError on a path under `data_dir` into an exception with a message.

    Raises:
        UsageError: the folder cannot be used, for example it is a file or not writable.
        LocalFault: the disk is full, over quota or has no locks.
    """
    try:
        yield
    except OSError as fault:
        path = fault.filename or data_dir
        message = f"The data directory {data_dir} cannot be used: {path}: {fault.strerror}."
        if fault.errno in _REMEDIES:
            raise LocalFault(f"{message} {_REMEDIES[fault.errno]}") from fault
        advice = "Set ASKMILL_DATA_DIR to a folder that you may write, for example ~/askmill-data."
        raise UsageError(f"{message} {advice}") from fault


def ensure_private_dir(folder: Path) -> Path:
    """Create `folder` and its parents if missing, make it readable by its owner only, and return it."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def write_private(path: Path, text: str) -> None:
    """Replace `path` atomically, with mode 0600, unless its text is equal; a full disk keeps the old file."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def open_log(data_dir: Path, name: str) -> tuple[int, Path, int]:
    """Return (descriptor to append to, path, size in bytes) of DATA_DIR/logs/NAME.log."""
    path = ensure_private_dir(data_dir / "logs") / f"{name}.log"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if os.fstat(handle).st_size > LOG_LIMIT_BYTES:
        os.ftruncate(handle, 0)
    return handle, path, os.fstat(handle).st_size


def last_log_line(path: Path, since_bytes: int) -> str:
    """Return what a log says last, of the part written after the offset `since_bytes`.

    That is its last critical event, if there is one: shutting down after it is logged too.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(min(since_bytes, end), end - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    shown = [line.strip() for line in lines if line.strip()]
    critical = [line for line in shown if any(mark in line for mark in _CRITICAL)]
    return next(reversed(critical or shown), "its log is empty")


def require_posix(service: str, instead: str) -> None:
    """Raise LocalFault on Windows, which has neither the server's binary nor its locks."""
    if sys.platform == "win32":
        raise LocalFault(f"The embedded {service} does not run on Windows. {instead}")
