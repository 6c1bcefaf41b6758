"""Accidents of machines, one at a time (tests/chaos/accidents.py): power, clocks, networks …"""

import argparse
from random import Random
from typing import Any

from benchmarks.chaos.scenes import print_json
from tests.chaos.accidents import ACCIDENTS, MAX_LOST_S, Accident, Outcome, measure, power
from tests.chaos.machines import MachineStack
from tests.chaos.support import outage
from tests.stack import QUICK


async def machines(options: argparse.Namespace) -> dict[str, Any]:
    """Every accident, on both APIs."""
    totals = dict[str, Any]()
    for name, accident in ACCIDENTS.items():
        for api in ("assistants", "responses"):
            options.api = api
            totals[f"{name} {api}"] = await one(name, accident, options)
    return totals


def ten_cuts(stack: MachineStack, random: Random) -> None:
    """Redis loses its last 0.1 to 2 s, ten times in a row; the workers live."""
    for _ in range(10):
        power(stack, random)
        outage(MAX_LOST_S + 0.2)


async def cuts(options: argparse.Namespace) -> dict[str, Any]:
    """One batch on each API, whose Redis loses power ten times."""
    totals = dict[str, Any]()
    for api in ("assistants", "responses"):
        accident, slots = Accident(ten_cuts, case="D1"), max(30, options.rows // 33)
        with accident.stack(api, slots, None if options.real_times else QUICK) as stack:
            outcome = await measure(accident, stack, Random(options.seed), options.rows, options.stall_s)
        totals[api] = vars(outcome)
        print_json({"what": "cuts", "api": api, **totals[api]})
    return totals


async def one(name: str, accident: Accident, options: argparse.Namespace) -> dict[str, Any]:
    """One accident, `--rounds` times, each time on a new stack."""
    if accident.missing:
        print_json({"what": name, "SKIPPED": f"{accident.missing} is not available here"})
        return {"skipped": accident.missing}
    total = Outcome()
    for number in range(options.rounds):
        random = Random(options.seed + number)
        slots = max(30, options.rows // 6 // accident.workers)
        times = None if options.real_times else QUICK
        with accident.stack(options.api, slots, times) as stack:
            outcome = await measure(accident, stack, random, options.rows, options.stall_s)
        total.add(outcome)
        print_json({"what": name, "api": options.api, "seed": options.seed + number, **vars(outcome)})
    return {"promised": accident.promised, **vars(total)}
