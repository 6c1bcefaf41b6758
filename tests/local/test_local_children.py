"""The worker as a child: its end is told in a sentence, and it never outlives the command."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from askmill.jobs.local import Child, interruptible, worker_process
from askmill.jobs.model.errors import LocalFault
from tests.support import wait_until


def test_a_worker_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    """A bad option: exit code, the last line it wrote, the log's name, and that nothing is lost."""
    with worker_process(tmp_path, ["--no-such-option"]) as worker:
        fault = wait_until(lambda: fault_of(worker), "the worker has ended")

    assert "exit code 2" in fault
    assert "unrecognized arguments: --no-such-option" in fault
    assert str(tmp_path / "logs" / "worker.log") in fault


def fault_of(child: Child) -> str:
    try:
        child.check()
    except LocalFault as fault:
        return str(fault)
    return ""


def deaf_child(folder: Path) -> Child:
    """A process that ignores SIGTERM, with a child of its own that does too."""
    script = 'trap "" TERM; (echo grandchild $$; while :; do sleep 1; done) & echo ready; wait; wait'
    log = (folder / "log").open("w+")
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=pipe, stdout=log, stderr=log, start_new_session=True
    )
    log.close()
    wait_until(lambda: "ready" in (folder / "log").read_text(), "the child is deaf")
    return Child("worker", process, (folder / "log", 0))


def test_a_child_that_does_not_listen_is_killed_with_all_of_its_own(tmp_path: Path) -> None:
    """After the grace period the whole process group is gone."""
    child = deaf_child(tmp_path)
    child.stop(grace_s=0.1)

    assert "killed by signal 9" in fault_of(child)
    wait_until(lambda: group_is_gone(child.pid), "its children are gone")


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_second_ctrl_c_kills_at_once(tmp_path: Path) -> None:
    """Who presses Ctrl-C while the worker hands over does not wait for it."""
    child = deaf_child(tmp_path)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            child.stop(grace_s=60)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    assert "killed by signal 9" in fault_of(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_interrupt_inside_the_block_only(number: signal.Signals) -> None:
    """SIGTERM and SIGHUP unwind the block as Ctrl-C does; afterwards all is as before."""
    before = signal.getsignal(number)

    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_nohup_is_heeded() -> None:
    """A SIGHUP that was ignored when we were started stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
