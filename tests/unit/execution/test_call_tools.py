"""Functions that a model calls: in parallel, within a time limit, every error an output for the model."""

import asyncio
import gc
from pathlib import Path

import pytest

from askmill.jobs.functions import invoke
from askmill.jobs.functions.invoke import call_functions
from askmill.jobs.functions.registry import describe
from askmill.jobs.model.profile import Functions
from tests.support import wait_until

MODULE = '''
import asyncio
import threading

both = threading.Barrier(2)

def meet(name: str) -> str:
    """Returns once two threads are here."""
    both.wait(5)
    return name

async def later(seconds: float) -> dict[str, float]:
    """Waits on the loop."""
    await asyncio.sleep(seconds)
    return {"slept": seconds}

def broken(text: str = "") -> str:
    """Raises."""
    raise LookupError("no such town")

def leaving() -> str:
    """Ends the process, it thinks."""
    raise SystemExit(3)

async def leaving_later() -> str:
    """The same on a loop."""
    raise SystemExit(3)

def empty() -> str:
    """A bare next()."""
    return next(iter(()))

def never() -> str:
    """Does not return."""
    threading.Event().wait()

async def blocking(seconds: float) -> str:
    """Blocks its loop."""
    threading.Event().wait(seconds)
    return "late"

counted = []

def count() -> int:
    """How often it was called since its module was imported."""
    counted.append(1)
    return len(counted)

def odd() -> object:
    """Returns what JSON does not know."""
    return {1j}
'''


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Functions:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    return describe("mine.py")


async def outputs(functions: Functions | None, *calls: tuple[str, str], limit_s: float = 5.0) -> list[str]:
    """The outputs for the model, in the order of the calls."""
    return await call_functions(functions, calls, limit_s)


async def test_calls_run_in_parallel_and_sync_ones_off_the_loop(functions: Functions) -> None:
    """Two calls that wait for each other both end, while the loop runs."""
    assert await outputs(functions, ("meet", '{"name": "a"}'), ("meet", '{"name": "b"}')) == ["a", "b"]


async def test_a_slow_function_is_cut_off_and_the_others_are_answered(functions: Functions) -> None:
    """The model learns that it took too long; the other call has its output."""
    slow, quick = await outputs(
        functions, ("later", '{"seconds": 60}'), ("later", '{"seconds": 0}'), limit_s=0.2
    )

    assert slow == "Error: later took longer than 0.2 s."
    assert quick == '{"slept":0.0}'


async def test_a_function_that_is_cut_off_logs_nothing(
    functions: Functions, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for its end, which is no error that asyncio would report minutes later."""
    await outputs(functions, ("later", '{"seconds": 0}'))
    loop = invoke._event_loop_thread._loop
    assert loop is not None
    await outputs(functions, ("later", '{"seconds": 60}'), limit_s=0.2)
    wait_until(lambda: not asyncio.all_tasks(loop), "the function has ended")
    gc.collect()

    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize(
    ("name", "arguments", "output"),
    [
        ("broken", "{}", "Error: LookupError: no such town"),
        ("meet", "{}", "Error: ValueError: name: Field required"),
        ("meet", "{", "Error: ValueError: Invalid JSON"),
        ("meet", '{"name": "a", "town": "b"}', "Error: ValueError: town: Extra inputs are not permitted"),
        ("nobody", "{}", "Error: there is no function named nobody."),
        ("odd", "{}", "{1j}"),
        ("leaving", "{}", "Error: RuntimeError: SystemExit: 3"),
        ("leaving_later", "{}", "Error: RuntimeError: SystemExit: 3"),
        ("empty", "{}", "Error: RuntimeError: StopIteration"),
    ],
)
async def test_errors_become_outputs_for_the_model(
    functions: Functions, name: str, arguments: str, output: str
) -> None:
    """An exception, wrong arguments, an unknown name: the run goes on, and the output says why."""
    assert (await outputs(functions, (name, arguments)))[0].startswith(output)


async def test_functions_that_never_return_block_no_other(functions: Functions) -> None:
    """More of them than any pool has threads: the next call is answered, on the loop too."""
    stuck = await outputs(functions, *[("never", "{}")] * 40, limit_s=0.3)
    blocked = await outputs(functions, ("blocking", '{"seconds": 30}'), limit_s=0.3)

    assert set(stuck) == {"Error: never took longer than 0.3 s."}
    assert blocked == ["Error: blocking took longer than 0.3 s."]
    assert await outputs(functions, ("count", "{}"), ("later", '{"seconds": 0}')) == ["1", '{"slept":0.0}']


async def test_after_too_many_that_never_return_no_more_are_started(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads cannot be ended: further calls are refused, so the process does not fill up with them."""
    monkeypatch.setattr(invoke, "MAX_STUCK_THREADS", 2)
    monkeypatch.setattr(invoke, "_stuck", set())
    await outputs(functions, *[("never", "{}")] * 2, limit_s=0.3)

    (output,) = await outputs(functions, ("count", "{}"))

    assert output == "Error: count is not called: 2 earlier calls have never returned."


async def test_a_module_is_imported_once(functions: Functions) -> None:
    """Its state lasts from call to call."""
    before = int((await outputs(functions, ("count", "{}")))[0])
    assert [await outputs(functions, ("count", "{}")) for _ in range(2)] == [
        [f"{before + 1}"],
        [f"{before + 2}"],
    ]


async def test_a_changed_module_is_not_called(functions: Functions, tmp_path: Path) -> None:
    """Only the code that was loaded at the start runs; for other code the output says that there is none."""
    (tmp_path / "mine.py").write_text(MODULE + "\n# changed")
    assert await outputs(functions, ("later", '{"seconds": 0}')) == ['{"slept":0.0}']

    changed = functions.model_copy(update={"sha256": "0" * 64})
    (output,) = await outputs(changed, ("meet", "{}"))

    assert output.startswith("Error: there is no function named meet. functions: ")
    assert "as it was submitted" in output


async def test_without_functions_every_name_is_unknown() -> None:
    """A profile without functions answers a call too."""
    assert await outputs(None, ("meet", "{}")) == ["Error: there is no function named meet."]


async def test_a_cancelled_job_stops_waiting_for_its_functions(functions: Functions) -> None:
    """A shutdown does not wait for a function's time limit."""
    waiting = asyncio.create_task(outputs(functions, ("later", '{"seconds": 60}'), limit_s=60))
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
