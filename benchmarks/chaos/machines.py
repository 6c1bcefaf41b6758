"""Accidents of machines, one at a time (tests/chaos/accidents.py): power, clocks, networks …"""

import argparse
from dataclasses import replace
from random import Random
from typing import Any

from benchmarks.chaos.scenes import print_json
from tests.chaos.accidents import ACCIDENTS, MAX_LOST_S, Accident, Act
from tests.chaos.machines import MachineStack
from tests.chaos.measurement import Outcome, measure, rows_ended
from tests.chaos.support import outage
from tests.stack import QUICK
from tests.support import wait_until


async def machines(options: argparse.Namespace) -> dict[str, Any]:
    """Every accident, on each API."""
    totals = dict[str, Any]()
    for name, accident in ACCIDENTS.items():
        for api in options.apis:
            options.api = api
            totals[f"{name} {api}"] = await one(name, accident, options)
    return totals


def _ten(act: Act) -> Act:
    """The same power loss ten times in a row, each after rows have ended since the last one."""

    def ten_times(stack: MachineStack, random: Random) -> None:
        for number in range(10):
            ended = rows_ended(stack)
            act(stack, random)
            outage(MAX_LOST_S + 0.2)
            # A loss may take back the ends of rows, and workers that have died start anew.
            wait_until(lambda before=ended: rows_ended(stack) > before, f"a row ends after cut {number}", 120)

    return ten_times


CUTS = {
    name: replace(ACCIDENTS[accident], act=_ten(ACCIDENTS[accident].act), begins_at=(0.02, 0.05))
    for name, accident in {"cuts": "power", "cuts_and_workers": "power_and_workers"}.items()
}


def _at(accident: Accident, options: argparse.Namespace) -> Accident:
    """The accident at the durability of the options."""
    return accident if options.durability is None else accident.with_durability(options.durability)


async def cuts(options: argparse.Namespace) -> dict[str, Any]:
    """One batch on each API, whose Redis loses power ten times."""
    totals, accident = dict[str, Any](), _at(CUTS[options.what], options)
    for api in options.apis:
        slots = max(30, options.rows // 33)
        with accident.stack(api, slots, None if options.real_times else QUICK) as stack:
            outcome = await measure(accident, stack, Random(options.seed), options.rows, options.stall_s)
        totals[api] = vars(outcome)
        print_json({"what": options.what, "api": api, "durability": accident.durability, **totals[api]})
    return totals


async def one(name: str, accident: Accident, options: argparse.Namespace) -> dict[str, Any]:
    """One accident, `--rounds` times, each time on a new stack."""
    accident = _at(accident, options)
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
        case = {"what": name, "api": options.api, "durability": accident.durability}
        print_json({**case, "seed": options.seed + number, **vars(outcome)})
    return {"promised": accident.promised, **vars(total)}
