"""`python -P service_user.py DATA_DIR SERVICE`: uses the embedded Redis or emulator until its stdin ends.

It prints the service's address when the service is ready. tests/helpers/local_commands.py starts it.
"""

import sys
from pathlib import Path

from askmill.jobs import local

if __name__ == "__main__":
    folder, service = sys.argv[1:]
    with local.interruptible(), getattr(local, service)(Path(folder)) as address:
        print(address, flush=True)
        sys.stdin.read()
