"""The command line: `python -P -m askmill.emulator [--host H] [--port P] [--scenario FILE] …`.

Exit codes: 0 stopped by Ctrl-C · 2 a bad option or scenario · 3 the port or the state folder cannot be used.
"""

import argparse
import sys
from pathlib import Path

from askmill.emulator.server.app import App
from askmill.emulator.server.server import PortTakenError, listen, serve
from askmill.emulator.simulation.journal import StateError
from askmill.emulator.simulation.scenario import Scenario, ScenarioError, read_scenario
from askmill.emulator.tutor import Tutor


def main() -> int:
    """Check the options, the scenario, the port and the state folder, then serve."""
    options = _options()
    try:
        scenario = _scenario(options.scenario)
        at = listen(options.host, options.port)
        app = App(scenario, options.seed, options.state, Tutor())
    except ScenarioError as error:
        return _refuse(f"scenario {options.scenario}: {error}", 2)
    except (PortTakenError, StateError) as error:
        return _refuse(str(error), 3)
    serve(app, at)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="askmill emulator", description="The offline API server.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0: a free port (default)")
    parser.add_argument(
        "--scenario", type=Path, metavar="FILE", help="TOML file with run times, outcomes and faults"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="folder that keeps all objects across restarts and kills"
    )
    return parser.parse_args()


def _scenario(path: Path | None) -> Scenario:
    if path is None:
        return Scenario()
    try:
        return read_scenario(path.read_text("utf-8"))
    except OSError as error:
        raise ScenarioError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ScenarioError("is not UTF-8") from None


def _refuse(sentence: str, code: int) -> int:
    sys.stderr.write(f"emulator: {sentence}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
