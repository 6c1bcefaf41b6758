"""Our other packages have common names: finds them beside this one, whatever else is called so."""

import importlib
import sys
from pathlib import Path

PACKAGES = ("config", "jobs", "worker")
"""Their modules are then found through the packages, so that sys.path is as it was."""


def pin() -> None:
    """Import the packages, though the folders of PYTHONPATH may have a `config.py` of their own."""
    beside = str(Path(__file__).parents[1])
    sys.path.insert(0, beside)
    try:
        for name in PACKAGES:
            importlib.import_module(name)
    finally:
        sys.path.remove(beside)
