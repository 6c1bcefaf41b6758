"""`python -m benchmarks.chaos WHAT` prints totals as JSON.

Processes:
  rounds    random accidents on each of `--apis` in turn; every tenth stack has real heartbeats
  crash     5,000 rows at concurrency 50: everything killed half-way, then started again
  embedded  the same with `askmill run --offline`: its embedded Redis and emulator are killed too
  drops     2,000 rows; the replies of 5 % of the creates are lost
  outages   the API down for minutes, then Redis, with 200 runs in flight
  roll      two workers with 500 runs in flight, each ended by SIGTERM and replaced: the longest pause
  fair      50 rows behind a batch of 100,000, compared with the same 50 alone; then two big batches
  soak      full concurrency for some minutes: the worker's memory and the keys of Redis at both ends

Machines; each prints rows lost, hung and paid twice:
  machines  all of those below, on each of `--apis`
  cuts      ten power losses of Redis in one batch of 2,000 rows, on each of `--apis`; the workers live
  cuts_and_workers
            the same, and all workers die with Redis each time
  sentinels a failover by Sentinels, planned and of a killed master, with and without min-replicas-to-write
"""

import argparse
import asyncio
import os

from askmill.jobs.model.models import Api
from benchmarks.chaos.failovers import sentinels
from benchmarks.chaos.machines import CUTS, cuts, machines, one
from benchmarks.chaos.scenes import SCENES, print_json
from tests.chaos.accidents import ACCIDENTS

ROWS = {
    "rounds": 60,
    "crash": 5000,
    "embedded": 5000,
    "fair": 100_000,
    "machines": 300,
    "sentinels": 200,
    **dict.fromkeys(ACCIDENTS, 300),
}
ROUNDS = {"rounds": 200}
APIS: tuple[Api, ...] = ("assistants", "responses", "chat")


_SCENES = {**SCENES, "machines": machines, "sentinels": sentinels, **dict.fromkeys(CUTS, cuts)}


def main() -> None:
    """Run what is chosen and print its totals as the last line."""
    options = _arguments()
    os.nice(5)
    if options.what in ACCIDENTS:
        scene = one(options.what, ACCIDENTS[options.what], options)
    else:
        scene = _SCENES[options.what](options)
    print_json({"what": options.what, "seed": options.seed, "total": asyncio.run(scene)})


def _apis(text: str) -> list[Api]:
    apis: list[Api] = [api for api in APIS if api in text.split(",")]
    if len(apis) != len(text.split(",")):
        raise argparse.ArgumentTypeError(f"choose of {','.join(APIS)}")
    return apis


def _arguments() -> argparse.Namespace:
    accidents = [f"  {name:<27}{accident.act.__doc__}" for name, accident in ACCIDENTS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description=(__doc__ or "") + "\n".join(accidents),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = [*_SCENES, *ACCIDENTS]
    parser.add_argument("what", nargs="?", default="rounds", choices=what, metavar="WHAT")
    parser.add_argument("--rounds", type=int, help="default: 200 of `rounds`, 1 of an accident")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--rows",
        type=int,
        help="default: 60 a round, 300 an accident, 200 sentinels, 5000 crash, 100000 fair, else 2000",
    )
    parser.add_argument("--accidents", type=int, default=8, help="of each of `rounds`")
    parser.add_argument("--minutes", type=float, help="default: 60 soak, 3 outages")
    parser.add_argument("--api", default=APIS[0], choices=APIS)
    parser.add_argument(
        "--apis",
        default=",".join(APIS),
        help="of rounds, machines, cuts and sentinels [assistants,responses,chat]",
        type=_apis,
    )
    parser.add_argument("--durability", choices=["process", "disk", "replica"], help="default: process")
    parser.add_argument(
        "--stall-s",
        type=float,
        default=60.0,
        help="rows have hung when none has ended for this long after an accident [60]",
    )
    parser.add_argument(
        "--real-times", action="store_true", help="heartbeats of 3 s, as in production, instead of 0.5 s"
    )
    options = parser.parse_args()
    options.rows = options.rows or ROWS.get(options.what, 2000)
    options.rounds = options.rounds or ROUNDS.get(options.what, 1)
    options.minutes = options.minutes or {"outages": 3}.get(options.what, 60)
    return options


if __name__ == "__main__":
    main()
