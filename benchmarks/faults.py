"""GSM8K while a fifth of all requests and runs go wrong: `python -m benchmarks.faults --api both`.

At the end every row's status, attempts and log are compared with the server's state. With `--window`: how
often Responses gets two creates for one row when replies are lost or late.
"""

import argparse
import asyncio
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from askmill.jobs.model.models import Api
from tests.helpers.faulty_batch import FaultPlan, find_violations, gsm8k, run_batch, summary

LOST = FaultPlan(http=0.05, outcomes=0.0, kinds=("drop_after",), only=("POST /responses",), run_s=1.0)
WINDOWS = {
    "5 % of creates carried out, their reply lost, runs of 1 s": LOST,
    "the same, runs of 30 s": replace(LOST, run_s=30.0),
    "the same, runs of 90 s": replace(LOST, run_s=90.0),
    "5 % of creates never carried out": replace(LOST, kinds=("drop_before",)),
    "carried out 5 s after the client gave up": replace(LOST, late_s=5.0),
    "carried out 50 s after": replace(LOST, late_s=50.0),
    "carried out 90 s after": replace(LOST, late_s=90.0),
}


async def measured(api: Api, scene: FaultPlan, rows: int | None) -> bool:
    """Play one scene and print its figures; return whether every row is correct."""
    questions = gsm8k(rows)
    with tempfile.TemporaryDirectory() as folder:
        played = await run_batch(Path(folder), api, questions, scene, timeout_s=1800)
    faults = find_violations(played, questions)
    print(summary(played))
    print(f"  {'wrong rows':42}{len(faults)}")
    print("".join(f"    {fault}\n" for fault in faults[:20]), end="", flush=True)
    return not faults


async def main() -> int:
    """Returns 1 if any row is wrong."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--api", choices=["assistants", "responses", "both"], default="both")
    options.add_argument("--rows", type=int, help="only the first N questions")
    options.add_argument("--share", type=float, default=0.2, help="share of requests and of runs that fail")
    options.add_argument("--window", action="store_true", help="measure unconfirmed creates instead")
    chosen = options.parse_args()
    correct = True
    if chosen.window:
        for name, scene in WINDOWS.items():
            print(f"responses: {name}")
            correct &= await measured("responses", scene, chosen.rows)
        return not correct
    apis: list[Api] = ["assistants", "responses"] if chosen.api == "both" else [chosen.api]
    for api in apis:
        print(f"{api}: {chosen.share:.0%} of requests and {chosen.share:.0%} of runs fail")
        correct &= await measured(api, FaultPlan(http=chosen.share, outcomes=chosen.share), chosen.rows)
    return not correct


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
