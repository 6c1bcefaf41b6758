"""CPU and memory of a process and its children (Linux); one measurement; a table of measurements."""

from dataclasses import dataclass
from statistics import median

import psutil

from tests.stack import Child, Stack


@dataclass(frozen=True)
class Load:
    """Number of jobs, runs in flight, and run time: median in seconds, sigma of a lognormal (0: fixed)."""

    jobs: int
    in_flight: int
    run_s: float
    sigma: float = 0.0

    @property
    def scenario(self) -> str:
        """The emulator's scenario, as TOML."""
        return f"[latency]\nmedian_s = {self.run_s}\nsigma = {self.sigma}\n"

    def __str__(self) -> str:
        times = f"lognormal, median {self.run_s:g} s" if self.sigma else f"{self.run_s:g} s"
        return f"{self.jobs} jobs, {self.in_flight} in flight, runs of {times}"


@dataclass(frozen=True)
class Run:
    """One measurement. If `emulator_cpu_s` is near `wall_s`, the emulator was the bottleneck."""

    name: str
    load: Load
    wall_s: float
    cpu_s: float
    peak_kb: int
    emulator_cpu_s: float = 0.0
    redis_cpu_s: float = 0.0
    requests: float = 0.0
    commands: float = 0.0

    @property
    def cpu_ms_a_job(self) -> float:
        return 1000 * self.cpu_s / self.load.jobs

    @property
    def jobs_a_s(self) -> float:
        return self.load.jobs / self.wall_s


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its living children, user and system."""
    return sum(sum(process.cpu_times()[:2]) for process in _family(pid))


def own_kb(pid: int) -> int:
    """Memory of a process and its children in KB; shared pages are counted once (PSS)."""
    return sum(process.memory_full_info().pss for process in _family(pid)) // 1024


def peak_of(pid: int) -> int:
    """Peak resident memory of one process, in KB."""
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 -- no file on disk
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


def requests_of(stack: Stack) -> int:
    """Requests that the emulator has served."""
    return int(sum(stack.stats()["requests"].values()))


def table(runs: list[Run], base: str) -> None:
    """Print each peer's median, range and ratio to the peer named `base`."""
    heads = ("CPU ms/job", "spread", "ratio", "jobs/s", "requests", "emulator", "peak MB")
    print(f"{runs[0].load}, rounds: {sum(run.name == base for run in runs)}")
    print(" " * 16 + "".join(f"{head:>12}" for head in heads))
    base_ms = median(run.cpu_ms_a_job for run in runs if run.name == base)
    for name in dict.fromkeys(run.name for run in runs):
        _row(name, [run for run in runs if run.name == name], base_ms)


def _row(name: str, runs: list[Run], base_ms: float) -> None:
    cpu = sorted(run.cpu_ms_a_job for run in runs)
    busy = max(run.emulator_cpu_s / run.wall_s for run in runs)
    speed, peak = median(run.jobs_a_s for run in runs), max(run.peak_kb for run in runs) / 1024
    spread = f"{cpu[0]:.2f}-{cpu[-1]:.2f}"
    costs = f"{median(cpu):12.2f}{spread:>12}{median(cpu) / base_ms:12.2f}"
    print(f"{name:16}{costs}{speed:12.1f}{runs[-1].requests:12.1f}{busy:12.0%}{peak:12.0f}")
