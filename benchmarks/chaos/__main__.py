"""`python -m benchmarks.chaos WHAT` prints totals as JSON.

Processes:
  rounds    random accidents on both APIs; every tenth stack has workers with their real heartbeats
  crash     5,000 rows at concurrency 50: everything killed half-way, then started again
  embedded  the same with `askmill run --offline`: its embedded Redis and emulator are killed too
  drops     2,000 rows; the replies of 5 % of the creates are lost
  outages   the API down for minutes, then Redis, with 200 runs in flight
  roll      two workers with 500 runs in flight, each ended by SIGTERM and replaced: the longest pause
  fair      50 rows behind a batch of 100,000, compared with the same 50 alone; then two big batches
  soak      full concurrency for some minutes: the worker's memory and the keys of Redis at both ends

Machines (`machines`: all of them, on both APIs; `cuts`: ten power losses in a batch of 2,000 rows on each);
each prints rows lost, hung and paid twice:
"""

import argparse
import asyncio
import os

from benchmarks.chaos.machines import cuts, machines, one
from benchmarks.chaos.scenes import SCENES, print_json
from tests.chaos.accidents import ACCIDENTS

ROWS = {"rounds": 60, "crash": 5000, "embedded": 5000, "fair": 100_000, **dict.fromkeys(ACCIDENTS, 300)}
ROUNDS = {"rounds": 200}


def main() -> None:
    """Run what is chosen and print its totals as the last line."""
    options = _arguments()
    os.nice(5)
    if options.what in ACCIDENTS:
        scene = one(options.what, ACCIDENTS[options.what], options)
    else:
        scene = {**SCENES, "machines": machines, "cuts": cuts}[options.what](options)
    print_json({"what": options.what, "seed": options.seed, "total": asyncio.run(scene)})


def _arguments() -> argparse.Namespace:
    accidents = [f"  {name:<27}{accident.act.__doc__}" for name, accident in ACCIDENTS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description=(__doc__ or "") + "\n".join(accidents),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = [*SCENES, "machines", "cuts", *ACCIDENTS]
    parser.add_argument("what", nargs="?", default="rounds", choices=what, metavar="WHAT")
    parser.add_argument("--rounds", type=int, help="default: 200 of `rounds`, 1 of an accident")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--rows",
        type=int,
        help="default: 60 a round, 300 an accident, 5000 crash and embedded, 100000 fair, 2000 others",
    )
    parser.add_argument("--accidents", type=int, default=8, help="of each of `rounds`")
    parser.add_argument("--minutes", type=float, help="default: 60 soak, 3 outages")
    parser.add_argument("--api", default="assistants", choices=["assistants", "responses", "chat"])
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
    options.rows = options.rows or ROWS.get(options.what, 300 if options.what == "machines" else 2000)
    options.rounds = options.rounds or ROUNDS.get(options.what, 1)
    options.minutes = options.minutes or {"outages": 3}.get(options.what, 60)
    return options


if __name__ == "__main__":
    main()
