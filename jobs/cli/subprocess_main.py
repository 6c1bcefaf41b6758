"""`python -P -m askmill.jobs.cli.subprocess_main ERROR_FILE COMMAND …`: the child of askmill/client.py.

Runs one command as the console script does, with two differences: an exception is written to ERROR_FILE as
JSON, and the process ends when its parent is gone.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from askmill.jobs.cli.exit_codes import error_to_json
from askmill.jobs.cli.root import run_for_api

PARENT_CHECK_S = 1.0


def main() -> int:
    """Run the command and return its exit code."""
    error_file, *arguments = sys.argv[1:]
    threading.Thread(
        target=_exit_with_parent, args=(os.getppid(),), name="askmill-parent", daemon=True
    ).start()
    try:
        return run_for_api(arguments)
    except BaseException as error:  # noqa: BLE001 -- every exception is reported
        Path(error_file).write_text(json.dumps(error_to_json(error)), encoding="utf-8")
        return 1


def _exit_with_parent(parent: int) -> None:
    """A killed parent leaves this process with another one; what was started is stored."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
