"""How many of our modules and functions one plain row enters: `python -m benchmarks.hops [--list]`.

A real worker answers two rows of the emulator, one after the other. A profile hook records what is entered
from `WorkerProcess.answer` (the claim) until it returns (the row has ended), in the row's own task and in
what that task starts; heartbeats and dispatch are left out. The first row also creates the assistant and
fills the batch cache. `--list` prints the first row's functions in the order of their first entry.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from contextvars import ContextVar
from pathlib import Path
from types import FrameType

import askmill
from askmill.worker import __main__ as worker_main
from askmill.worker.process.worker import WorkerProcess
from tests.stack import Child, Stack
from tests.support import wait_until

ROOMS = ("askmill.config.", "askmill.jobs.", "askmill.worker.")
NOT_COUNTED = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<module>"})
GENERATED = "__create_fn__"
"""In the qualified names of what `dataclass` writes; nobody reads those."""
ROWS = 2


def main() -> None:
    """Print modules and functions for the first and for a later row."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hops",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--list", action="store_true", help="print the first row's functions in order of entry"
    )
    options = parser.parse_args()
    rows = [json.loads(line) for line in _recorded()]
    for name, functions in zip(("first row", "later row"), rows, strict=True):
        modules = dict.fromkeys(function.partition(":")[0] for function in functions)
        print(f"{name}: {len(modules)} modules, {len(functions)} functions")
    if options.list:
        print("\n".join(f"{number:4} {function}" for number, function in enumerate(rows[0], 1)))


def _recorded() -> list[str]:
    """One JSON list of functions a row, as the worker process has recorded them."""
    with tempfile.TemporaryDirectory() as name, Stack(Path(name)) as stack:
        folder = Path(name)
        records = folder / "hops.jsonl"
        env = {**stack.settings(), "HOPS_FILE": str(records)}
        command = [sys.executable, "-m", "benchmarks.hops"]
        stack.workers.append(Child(command, folder / "worker.log", env).start())
        batch = asyncio.run(stack.submit(["What is 2 + 2?"]))
        asyncio.run(stack.wait_for(batch))
        batch = asyncio.run(stack.submit(["What is 3 + 3?"]))
        asyncio.run(stack.wait_for(batch))
        # The row has ended a moment before `answer` returns.
        wait_until(lambda: len(records.read_text().splitlines()) == ROWS, "both rows are recorded")
        return records.read_text().splitlines()


class Recorder:
    """Replaces `WorkerProcess.answer` by itself with a profile hook around it."""

    def __init__(self, records: Path) -> None:
        self.records = records
        self.answer = WorkerProcess.answer
        self.root = str(Path(askmill.__file__).parent.parent)
        self.inside: ContextVar[bool] = ContextVar("inside", default=False)
        self.functions: dict[str, None] = {}

    async def record(self, worker: WorkerProcess, batch: str, row: int) -> None:
        """Answer the row and append its functions to the file."""
        self.functions.clear()
        self.inside.set(True)
        sys.setprofile(self._enter)
        try:
            await self.answer(worker, batch, row)
        finally:
            sys.setprofile(None)
            with self.records.open("a") as records:
                records.write(json.dumps(list(self.functions)) + "\n")

    def _enter(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or code.co_name in NOT_COUNTED or code.co_qualname.startswith(GENERATED):
            return
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(ROOMS) and self.inside.get():
            self.functions[f"{module}:{code.co_qualname}"] = None


def worker() -> int:
    """Run a worker that records; `HOPS_FILE` names the file."""
    recorder = Recorder(Path(os.environ["HOPS_FILE"]))

    async def answer(self: WorkerProcess, batch: str, row: int) -> None:
        await recorder.record(self, batch, row)

    WorkerProcess.answer = answer  # type: ignore[method-assign]
    return worker_main.main()


if __name__ == "__main__":
    if "HOPS_FILE" in os.environ:
        sys.exit(worker())
    main()
