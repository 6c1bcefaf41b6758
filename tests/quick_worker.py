"""A real worker whose heart beats faster, so that a test sees its death within seconds.

`MILL_TIMES` is JSON: the constants of worker/process.py to replace, by name.
"""

import json
import os
import sys

from worker import __main__ as worker
from worker import process

for name, seconds in json.loads(os.environ["MILL_TIMES"]).items():
    assert hasattr(process, name), f"worker.process has no {name}"
    setattr(process, name, seconds)
sys.exit(worker.main())
