"""A virtual environment per peer, `benchmarks/.venvs/NAME`, created from its pins."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
VENVS = HERE.parent / ".venvs"


def script_of(peer: str) -> str:
    """The program that answers a CSV with a peer."""
    return str(HERE / f"ask_{peer}.py")


def python_of(peer: str) -> str:
    """The Python of a peer's environment, created first if it is missing or its pins have changed.

    A peer without pins has what askmill has.
    """
    if not (HERE / "pins" / f"{peer}.txt").exists():
        return sys.executable
    pins, folder = HERE / "pins" / f"{peer}.txt", VENVS / peer
    python, installed = folder / "bin" / "python", folder / "pins.txt"
    if not installed.exists() or installed.read_text() != pins.read_text():
        print(f"creating an environment for {peer}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        quiet = ("--quiet", "--disable-pip-version-check")
        command = [str(python), "-m", "pip", "install", *quiet, "-r", str(pins)]
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=600)
        installed.write_text(pins.read_text())
    return str(python)
