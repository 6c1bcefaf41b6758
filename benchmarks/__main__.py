"""`python -m benchmarks [polling|speed|all] [--jobs N --in-flight N --run-s S --rounds N] [--json FILE]`."""

import argparse
import json
from pathlib import Path

from benchmarks import polling, speed


def main() -> None:
    """Run what is asked, print tables, write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure askmill beside others."
    )
    parser.add_argument("what", nargs="?", default="all", choices=("all", "polling", "speed"))
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=500)
    parser.add_argument("--run-s", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all figures here")
    asked = parser.parse_args()
    found: dict[str, object] = {}
    if asked.what in {"all", "polling"}:
        found["polling"] = polling.main()
    if asked.what in {"all", "speed"}:
        found["speed"] = speed.main(asked.jobs, asked.in_flight, asked.run_s, asked.rounds)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
