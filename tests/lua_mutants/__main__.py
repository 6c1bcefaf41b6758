"""Mutation tests of the Lua scripts: `python -m tests.lua_mutants [--sample 0.3] [--json FILE] [SCRIPT[:LINE] …]`.

One pytest process runs the tests of the store once and notes which scripts each test sends and how long it takes.
Then a fork for each mutant runs the tests that send the script until one fails, those first that compare most. Product code knows
nothing of it: a fork reads its scripts from a copy of the folder (docs/decisions/mutation-tests.md).
"""

import argparse
import json
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from askmill.jobs.store import lua_source, script_pipeline
from tests.lua_mutants.mutations import mutants

LUA = Path(lua_source.__file__).parent / "lua"
SCRIPTS = (
    *(
        "save",
        "lib/budget",
        "finish",
        "lib/row",
        "release_row",
        "lib/release",
        "lib/crash",
        "claim",
        "reclaim_rows",
    ),
    *("end_rows", "save_shard", "end_shard", "claim_shard", "adopt_shard", "mark_shard", "lib/shard"),
    *("release_unknown", "reserve_rate", "lib/once", "lib/batch_end", "retry", "reap_workers", "requeue"),
    *("create_failed", "record_refusal", "cancel", "lib/recovery"),
)
"""Those that decide about money and fences."""
TESTS = ("tests/store", "--ignore=tests/store/test_layouts.py")
"""Those without whole batches of workers."""
LONGEST_TEST_S = 3.0
"""Longer tests do not judge: they start workers, or count to hundreds of thousands."""
FIRST = re.compile(r"script_effects\.py|test_any_order_of_steps_matches_the_model\[[12]\]")
"""Tests that compare all that a script changes, and two random walks against the store's model: all of them judge."""
MOST_TESTS_S = 8.0
"""So long may the others take for one script, the quickest of them."""
LONGEST_MUTANT_S = 150.0
ADDOPTS = "--import-mode=importlib --strict-markers -p no:schemathesis -p no:valkey"
MARKERS = "not hypothesis and not chaos and not long and not real and not browser and not checks"


class Judge:
    """A pytest plugin: notes what each test sends, then judges the mutants."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.tests_of: dict[str, set[str]] = defaultdict(set)
        self.duration_s: Counter[str] = Counter()
        self.failed: list[str] = []
        self.catches: Counter[str] = Counter()
        self.outcomes: dict[str, dict[str, list[str]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.duration_s[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Note the scripts of a test by what the pipelines ask for."""
        original = script_pipeline.script

        def noting(name: str) -> str:
            self.tests_of[name].add(item.nodeid)
            return original(name)

        script_pipeline.script = noting
        try:
            return (yield)
        finally:
            script_pipeline.script = original

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run all tests once, then the mutants."""
        if not self._run(session.items):
            raise session.Failed(f"tests fail without a mutant: {self.failed}")
        for script in self.options.scripts:
            self.outcomes[script] = self._judge_script(script, session.items)
            if self.options.json is not None:
                self.options.json.write_text(json.dumps(self.outcomes, indent=1), encoding="utf-8")
            _print_outcome(script, self.outcomes[script])
        return True

    def _run(self, items: list[pytest.Item]) -> bool:
        for item, following in zip(items, [*items[1:], None], strict=True):
            # After a failure nothing follows: the fixtures of the session are torn down.
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                item.session._setupstate.teardown_exact(None)
                return False
        return True

    def _judge_script(self, name: str, items: list[pytest.Item]) -> dict[str, list[str]]:
        script, _, line = name.partition(":")
        tests = set[str]().union(*(used for sent, used in self.tests_of.items() if script in _files_of(sent)))
        quick = sorted(
            (
                item
                for item in items
                if item.nodeid in tests and self.duration_s[item.nodeid] <= LONGEST_TEST_S
            ),
            key=lambda item: self.duration_s[item.nodeid],
        )
        first = [item for item in quick if FIRST.search(item.nodeid)]
        others = [item for item in quick if item not in first]
        total_s = accumulate(self.duration_s[item.nodeid] for item in others)
        chosen = first + [
            item for item, until_s in zip(others, total_s, strict=True) if until_s <= MOST_TESTS_S
        ]
        text = (LUA / f"{script}.lua").read_text("utf-8")
        outcomes: dict[str, list[str]] = {"caught": [], "survived": []}
        if not self._passes(script, text, chosen):
            raise RuntimeError(f"the tests of {script} fail without a mutant: {self.catches}")
        print(f"{script}: {len(chosen)} of {len(tests)} tests", flush=True)
        chance = random.Random(f"{self.options.seed} {script}")
        for mutant in mutants(text):
            if (line and line != str(mutant.line)) or chance.random() >= self.options.sample:
                continue
            start = time.monotonic()
            survived = self._passes(script, mutant.text, chosen)
            outcomes["survived" if survived else "caught"].append(str(mutant))
            print(
                f"{'SURVIVED' if survived else 'caught'} in {time.monotonic() - start:.1f} s, {script}:{mutant}",
                flush=True,
            )
        return outcomes

    def _passes(self, script: str, text: str, items: list[pytest.Item]) -> bool:
        """Whether all tests pass with this text, in a process of their own; those that caught most run first."""
        items.sort(key=lambda item: (-self.catches[item.nodeid], self.duration_s[item.nodeid]))
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                session = items[0].session
                session.config.pluginmanager.unregister(name="terminalreporter")
                with tempfile.TemporaryDirectory() as folder:
                    _use_copy(Path(folder), script, text)
                    result = "passed" if self._run(items) else self.failed[0]
                os.write(writer, result.encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as pipe:  # closed by the fork's end
            in_time = select.select([pipe], [], [], LONGEST_MUTANT_S)[0]
            result = pipe.read() if in_time else "took too long"
        if not in_time:
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.catches[result] += 1
        return result == "passed"


def _use_copy(folder: Path, script: str, text: str) -> None:
    """Read the scripts from a copy of their folder, in which one is another."""
    shutil.copytree(LUA, folder / "lua")
    (folder / "lua" / f"{script}.lua").write_text(text, "utf-8")
    lua_source.files = lambda _: folder
    lua_source.script.cache_clear()


def _files_of(name: str) -> set[str]:
    """The script and the files that it includes."""
    found: set[str] = set()
    lua_source._with_includes(name, found)
    return found


def _print_outcome(script: str, outcomes: dict[str, list[str]]) -> None:
    print(f"{script}: {len(outcomes['caught'])} caught, {len(outcomes['survived'])} survived", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lua_mutants", description=__doc__)
    parser.add_argument(
        "scripts",
        nargs="*",
        metavar="SCRIPT",
        help="such as save, lib/row or save:22 [all that decide about money]",
    )
    parser.add_argument("--sample", type=float, default=1.0, help="share of the mutants to run [1]")
    parser.add_argument("--seed", type=int, default=1, help="of the sample [1]")
    parser.add_argument("--json", type=Path, help="file for the outcomes")
    options = parser.parse_args()
    options.scripts = options.scripts or list(SCRIPTS)
    judge = Judge(options)
    arguments = [
        "-m",
        MARKERS,
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-qq",
        "--no-header",
        "-o",
        "timeout=60",
        "--fresh-processes",
        *TESTS,
    ]
    return int(pytest.main(["-o", f"addopts={ADDOPTS}", *arguments], plugins=[judge]))


if __name__ == "__main__":
    sys.exit(main())
