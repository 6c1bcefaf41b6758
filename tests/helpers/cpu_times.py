"""`pytest --cpu N`: the N tests that take most CPU, with the processes they start; wall time depends on the machine's load."""

import resource
from collections.abc import Generator

import pytest

from tests.helpers import preloaded

NAME = "cpu_s"


class CpuTimes:
    """A plugin: measures in the process that runs a test, lists in the one that reports."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        item.stash[_BEFORE] = _used_s()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        """What a fixture of a module takes is its last test's."""
        try:
            return (yield)
        finally:
            item.user_properties.append((NAME, _used_s() - item.stash[_BEFORE]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self._seconds[report.nodeid] = float(str(dict(report.user_properties).get(NAME, 0)))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"{sum(self._seconds.values()):.0f} CPU seconds")
        for test, seconds in sorted(self._seconds.items(), key=lambda entry: -entry[1])[: self._most]:
            terminalreporter.write_line(f"{seconds:7.2f}  {test}")


_BEFORE = pytest.StashKey[float]()


def _used_s() -> float:
    ours, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime + children.ru_utime + children.ru_stime + preloaded.cpu_s
