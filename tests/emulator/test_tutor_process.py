"""The tutor's helper process: limits hold, it survives its children, and it never outlives its caller."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from askmill.emulator.tutor import Tutor, helper_process
from askmill.emulator.tutor.helper_process import MAX_OPEN_QUESTIONS
from askmill.emulator.tutor.parse.question import read_question
from askmill.emulator.tutor.solve.inline import runs_inline
from askmill.emulator.tutor.sympy_helper import CPU_LIMIT_S, LIMIT_MESSAGE

COMMAND = [sys.executable, "-P", "-m", "askmill.emulator.tutor.sympy_helper"]

# Each runs far longer than the limit: a root of a degree that SymPy works on for minutes, a search for factors.
ENDLESS = (
    "Integrate sqrt(1 + x^5 + x^7) * sin(x)^3 / (x^11 + x + 1)",
    f"Factor {10**59 + 19} * {10**60 + 7}",
)


@pytest_asyncio.fixture
async def tutor() -> AsyncIterator[Tutor]:
    tutor = Tutor()
    yield tutor
    await tutor.close()


def helpers() -> list[psutil.Process]:
    """The helper processes that this test process has started and that are alive."""
    return [
        child
        for child in psutil.Process().children()
        if "askmill.emulator.tutor.sympy_helper" in child.cmdline()
    ]


async def test_a_question_without_end_is_stopped_and_the_next_is_answered(tutor: Tutor) -> None:
    """A computation beyond the limits ends with a sentence, and the same helper goes on."""
    assert (await tutor.answer("What is 1 + 1?")).logs == "2"
    before = helpers()

    answers = await asyncio.gather(*(tutor.answer(question) for question in ENDLESS))

    assert [answer.text for answer in answers] == [LIMIT_MESSAGE] * len(ENDLESS)
    assert (await tutor.answer("What is 2 + 2?")).logs == "4"
    assert helpers() == before


def _is_tutor(child: psutil.Process) -> bool:
    try:
        return any("tutor.sympy_helper" in part for part in child.cmdline())
    except psutil.Error:  # ended meanwhile
        return False


async def test_many_questions_at_once_are_all_answered_by_a_few_processes(tutor: Tutor) -> None:
    """A hundred questions at once are answered each with its own result, and never fork without bound."""
    processes: list[int] = []

    async def logs_of(question: str) -> str | None:
        answer = await tutor.answer(question)
        processes.append(sum(map(_is_tutor, psutil.Process().children(recursive=True))))
        return answer.logs

    logs = await asyncio.gather(*(logs_of(f"What is {n}^2 + 1?") for n in range(100)))

    assert logs == [str(n**2 + 1) for n in range(100)]
    assert max(processes) <= 1 + MAX_OPEN_QUESTIONS


@pytest.mark.parametrize(
    ("question", "cheap"),
    [
        ("What is 12 * (3 + 4) / 5 - 1.5?", True),
        ("Solve 3x + 11 = 14", True),
        ("Solve (x + 1)^2 = 3x/4", True),
        ("What is 2^10?", False),
        ("What is sqrt(2)?", False),
        ("Solve x^3 = 2", False),
        ("Solve (x + 1)^2 * x = 2", False),
        ("Solve 1/x = 2", False),
        ("Solve a x = 2 for x", False),
        ("Solve |x| = 2", False),
        (f"Solve x^2 = {10**50}", False),
        ("Factor 12", False),
    ],
)
def test_only_what_cannot_grow_is_worked_without_limits(question: str, cheap: bool) -> None:
    """The helper itself works only arithmetic and equations up to the second degree, with few digits."""
    assert runs_inline(read_question(question)) is cheap


async def test_a_killed_helper_is_replaced(tutor: Tutor) -> None:
    """After kill -9 of the helper the next question is answered, by a new one."""
    await tutor.answer("What is 1 + 1?")
    (first,) = helpers()
    first.kill()

    answer = await tutor.answer("What is 3 + 4?")

    assert answer.logs == "7"
    assert helpers() != [first]


async def test_start_does_not_wait_for_the_helper(tutor: Tutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """`start` returns though the helper is never ready, and what is no mathematics needs no helper at all."""
    monkeypatch.setattr(helper_process, "_COMMAND", ("sleep", "600"))
    async with asyncio.timeout(30):
        await tutor.start()
        await tutor.answer("What is the capital of France?")


async def test_close_ends_the_helper_even_while_it_starts(tutor: Tutor) -> None:
    """After `close` no process is left, whether the helper was starting, idle or never begun."""
    await tutor.close()
    assert helpers() == []
    for first_question in (None, "What is 1 + 1?"):
        other = Tutor()
        await other.start()
        if first_question:
            await other.answer(first_question)
        await other.close()
        assert helpers() == []
    assert "not running" in (await other.answer("What is 1 + 1?")).text


async def test_close_answers_the_questions_that_still_wait(tutor: Tutor) -> None:
    """A question that waits for the helper when `close` comes gets a sentence, not an exception."""
    await tutor.start()
    waiting = asyncio.create_task(tutor.answer("What is 1 + 1?"))
    await asyncio.sleep(0)  # lets the question begin to wait
    await tutor.close()

    assert "not running" in (await waiting).text


def test_the_helper_ends_when_its_caller_is_gone() -> None:
    """Closed standard input, which is all a kill -9 of the caller leaves, ends the helper and its children."""
    helper = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert helper.stdin is not None
    assert helper.stdout is not None
    assert json.loads(helper.stdout.readline()) == {"ready": True}
    question = {"id": 1, "problem": read_question(ENDLESS[1]).to_json()}
    helper.stdin.write(json.dumps(question) + "\n")
    helper.stdin.flush()
    process = psutil.Process(helper.pid)
    while not (children := process.children()):
        assert helper.poll() is None
    helper.stdin.close()

    assert helper.wait(timeout=10) == 0
    # Sooner than their own limits would end them.
    assert psutil.wait_procs(children, timeout=CPU_LIMIT_S - 0.5)[1] == []
    helper.stdout.close()


def test_ctrl_c_in_the_terminal_leaves_the_helper_to_its_caller() -> None:
    """SIGINT, which a terminal sends to the whole group, ends the helper only by way of its closed input."""
    helper = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert helper.stdout is not None
    assert helper.stdout.readline()
    os.kill(helper.pid, signal.SIGINT)

    _, errors = helper.communicate(timeout=10)

    assert (helper.returncode, errors) == (0, b"")


def test_a_child_can_neither_write_files_nor_take_all_memory(tmp_path: Path) -> None:
    """Inside a child the kernel's limits are in force, so even a flaw in SymPy could do little."""
    program = (
        "import json, os, resource, sys\n"
        "from askmill.emulator.tutor.sympy_helper import _limit_this_process\n"
        "if child := os.fork():\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "_limit_this_process()\n"
        "kinds = (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CPU)\n"
        "print([resource.getrlimit(kind) for kind in kinds])\n"
        "for refused in (lambda: os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), b'x'), lambda: bytes(1 << 31)):\n"
        "    try:\n"
        "        refused()\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        "[(0, 0), (0, 0), (2, 2)]",
        "OSError [Errno 27] File too large",
        "MemoryError ",
    ]
