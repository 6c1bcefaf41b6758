"""`python -m benchmarks WHAT [--jobs N --in-flight N --run-s S --sigma S --rounds N …] [--json FILE]`.

polling   looks against delay, simulated           memory    KB a run in flight
speed     beside bare loops                        prefork   Celery with a process a run
workers   1, 2 and 4 processes                     files     submit and collect of a big file
shared    beside tools that answer a CSV           starting  --help, and cold `run`
all       each of these, the sizes for a quiet machine: half an hour
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks import files, polling, processes, shared, speed, starting
from benchmarks.measure import Load

ALL = (
    Load(1000, 50, 5.0),
    Load(1000, 500, 5.0),
    Load(1000, 500, 30.0, sigma=0.5),
    Load(1000, 50, 0.0),
    Load(2000, 1000, 30.0),
    Load(5000, 5000, 30.0),
)


def main() -> None:
    """Run what is asked, print tables, write JSON."""
    asked = _arguments()
    load = Load(asked.jobs, asked.in_flight, asked.run_s, asked.sigma)
    loads = ALL if asked.what == "all" else (load,)
    parts: dict[str, Callable[[], object]] = {
        "polling": polling.main,
        "starting": lambda: starting.main(asked.rounds),
        "speed": lambda: [speed.main(each, asked.rounds, asked.peers) for each in loads],
        "workers": lambda: speed.workers(load),
        "shared": lambda: shared.main(load, asked.rounds),
        "memory": processes.main,
        "prefork": processes.prefork,
        "files": lambda: files.main(asked.rows, asked.rounds),
    }
    found = {name: part() for name, part in parts.items() if asked.what in {name, "all"}}
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = ("all", "polling", "speed", "workers", "shared", "memory", "prefork", "files", "starting")
    parser.add_argument("what", nargs="?", default="all", choices=what)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=500)
    parser.add_argument("--run-s", type=float, default=5.0)
    parser.add_argument("--sigma", type=float, default=0.0, help="of lognormal run times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peers", nargs="+", choices=speed.PEERS, default=tuple(speed.PEERS), help="of speed"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the big file")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
