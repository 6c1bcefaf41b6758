"""Folders, private files, logs, and the sentences for what a file system refuses."""

import errno
import os
import stat
from pathlib import Path

import pytest

from askmill.jobs.local import data_dir as folders
from askmill.jobs.model.errors import AskmillError, LocalFault


@pytest.mark.parametrize(
    ("number", "exit_code", "advice"),
    [
        (errno.ENOSPC, 3, "Free some space"),
        (errno.EDQUOT, 3, "Free some of your quota"),
        (errno.ENOLCK, 3, "on a local disk"),
        (errno.EACCES, 2, "that you may write"),
        (errno.EROFS, 2, "that you may write"),
        (errno.ENOTDIR, 2, "that you may write"),
    ],
)
def test_what_the_file_system_refuses_is_a_sentence(number: int, exit_code: int, advice: str) -> None:
    """Path, fault in words, remedy, variable; a wrong folder is a bad setting (2), a full disk is not (3)."""
    with pytest.raises(AskmillError) as fault, folders.oserror_to_fault(Path("/data")):
        raise OSError(number, os.strerror(number), "/data/redis")

    assert fault.value.exit_code == exit_code
    for part in ("/data/redis", os.strerror(number), advice, "ASKMILL_DATA_DIR"):
        assert part in str(fault.value)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_private_and_those_of_others_left_alone(tmp_path: Path) -> None:
    """What we make is 0700 and so is the folder asked for; a parent that was there keeps its mode."""
    (tmp_path / "theirs").mkdir(mode=0o755)
    (tmp_path / "theirs").chmod(0o755)
    folders.ensure_private_dir(tmp_path / "theirs" / "new" / "ours")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    folders.ensure_private_dir(tmp_path / "open")

    assert mode(tmp_path / "theirs") == 0o755
    assert mode(tmp_path / "theirs" / "new") == 0o700
    assert mode(tmp_path / "theirs" / "new" / "ours") == 0o700
    assert mode(tmp_path / "open") == 0o700


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    """0600 whatever it was; nothing is left beside it; the same text is not written again."""
    path = tmp_path / "conf"
    path.write_text("old")
    folders.write_private(path, "new")
    before = path.stat().st_ino
    folders.write_private(path, "new")

    assert path.read_text() == "new"
    assert mode(path) == 0o600
    assert path.stat().st_ino == before
    assert [p.name for p in tmp_path.iterdir()] == ["conf"]


def test_a_private_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """The path is taken by a folder: an OSError, and no half-made file."""
    (tmp_path / "conf" / "inner").mkdir(parents=True)

    with pytest.raises(OSError, match="directory"):
        folders.write_private(tmp_path / "conf", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["conf"]


def test_a_log_is_emptied_when_it_has_grown_too_long(tmp_path: Path) -> None:
    """Up to the limit a log is appended to; beyond it is started afresh."""
    handle, path, size = folders.open_log(tmp_path, "redis")
    os.write(handle, b"x" * folders.LOG_LIMIT_BYTES)
    os.close(handle)
    handle, _, grown = folders.open_log(tmp_path, "redis")
    os.write(handle, b"y")
    os.close(handle)
    handle, _, emptied = folders.open_log(tmp_path, "redis")
    os.close(handle)

    assert (size, grown, emptied) == (0, folders.LOG_LIMIT_BYTES, 0)
    assert path == tmp_path / "logs" / "redis.log"
    assert mode(path) == 0o600


@pytest.mark.parametrize(
    ("log", "since", "line"),
    [
        (b"old\nnew\n\n", 4, "new"),
        (b"old\n", 4, "its log is empty"),
        (b"a\n  b \xff\n", 0, "b \ufffd"),
        (b"short", 99, "its log is empty"),
        (b"x\n" * 9000 + b"end", 0, "end"),
        (
            b'{"reason": "why", "level": "critical"}\nhanding over\n',
            0,
            '{"reason": "why", "level": "critical"}',
        ),
    ],
)
def test_the_last_line_of_a_log_is_of_this_start(tmp_path: Path, log: bytes, since: int, line: str) -> None:
    """Blank lines and earlier starts are passed over; any bytes will do."""
    path = tmp_path / "log"
    path.write_bytes(log)

    assert folders.last_log_line(path, since) == line


def test_windows_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not run there, and what to do instead."""
    monkeypatch.setattr("sys.platform", "win32")

    with pytest.raises(LocalFault, match=r"embedded Redis does not run on Windows\. Start one\."):
        folders.require_posix("embedded Redis", "Start one.")
