"""An environment of its own for a peer, from its pins: `benchmarks/.venvs/NAME`, made once."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
VENVS = HERE.parent / ".venvs"


def python_of(peer: str) -> str:
    """The Python of a peer's environment; made, or made again when its pins have changed."""
    pins, folder = HERE / "pins" / f"{peer}.txt", VENVS / peer
    python, made = folder / "bin" / "python", folder / "pins.txt"
    if not made.exists() or made.read_text() != pins.read_text():
        print(f"making an environment for {peer}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        quietly = ("--quiet", "--disable-pip-version-check")
        command = [str(python), "-m", "pip", "install", *quietly, "-r", str(pins)]
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=600)
        made.write_text(pins.read_text())
    return str(python)
