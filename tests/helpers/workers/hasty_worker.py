"""A real worker that searches for a create without a reply for `HASTY_CREATE_LIMIT_S` instead of 60 s.

For servers that carry a request out at once or never, so that a test need not wait a minute.
"""

import functools
import os
import sys

from askmill.worker import __main__ as worker
from askmill.worker.execution import request_builder
from askmill.worker.lifecycle.retry import RetryPolicy

limit_s = float(os.environ["HASTY_CREATE_LIMIT_S"])
request_builder.RetryPolicy = functools.partial(RetryPolicy, create_limit_s=limit_s)  # type: ignore[misc,assignment]
sys.exit(worker.main())
