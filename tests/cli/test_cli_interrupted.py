"""Ctrl-C in the first second, while the command is still importing itself."""

import subprocess
import sys

import pytest

CUT_OFF = """
import sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
sys.argv = ["askmill", "run", "questions.csv"]
from jobs.cli import main

main()
"""


@pytest.mark.parametrize("module", ["click", "askmill.jobs.cli.run", "asyncio.sslproto"])
def test_an_interrupt_within_any_import_ends_with_130_and_no_traceback(module):
    """Whichever import it cuts off, half-loaded modules included: a sentence and 130."""
    done = subprocess.run(
        [sys.executable, "-c", CUT_OFF.format(module=module)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert "Interrupted" in done.stderr
    assert "Traceback" not in done.stderr
