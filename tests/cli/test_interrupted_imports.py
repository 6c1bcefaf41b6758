"""Ctrl-C in the first second, while the command still imports its modules."""

import subprocess
import sys

import pytest

INTERRUPT_IMPORT = """
import sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
sys.argv = ["askmill", "run", "questions.csv"]
from askmill.jobs.cli import main

main()
"""


@pytest.mark.parametrize("module", ["click", "askmill.jobs.cli.run", "asyncio.sslproto"])
def test_an_interrupted_import_exits_with_130_without_a_traceback(module):
    """Whichever import is interrupted, also of a half-loaded module: a sentence and exit code 130."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT_IMPORT.format(module=module)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    assert "Interrupted" in done.stderr
    assert "Traceback" not in done.stderr
