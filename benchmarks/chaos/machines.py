"""Accidents of machines, one at a time (tests/chaos/accidents.py): power, clocks, networks …"""

import argparse
from random import Random
from typing import Any

from benchmarks.chaos.scenes import print_json
from tests.chaos.accidents import ACCIDENTS, Accident, Outcome, measure
from tests.stack import QUICK


async def machines(options: argparse.Namespace) -> dict[str, Any]:
    """Every accident, on both APIs."""
    totals = dict[str, Any]()
    for name, accident in ACCIDENTS.items():
        for api in ("assistants", "responses"):
            options.api = api
            totals[f"{name} {api}"] = await one(name, accident, options)
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
